"""Probabilities steadied over time, and an emotion that does not flicker.

Smoothing is exponential, in the log domain and by time, so that frames may come as unevenly as they like:
l <- a l + (1 - a) log p with a = 2^(-dt / half-life), shown as softmax(l). For two labels that change places the mean
of logs crosses over after one half-life, however sure the network was of the first. `tests/web/smoothing.json` holds
this module and the browser's `tracks.js` to the same numbers.
"""

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-6  # of a probability before its log is taken: zero would stay zero for ever


class Smoother:
    """The smoothed probabilities of one face, and the label that is shown for it.

    A `half_life_s` of 0 passes probabilities on as they are. The shown label changes only when another one's smoothed
    probability is greater by more than `hysteresis`; 0 shows the most probable one.
    """

    def __init__(self, *, half_life_s: float, hysteresis: float) -> None:
        """Nothing seen yet."""
        self._half_life_s = half_life_s
        self._hysteresis = hysteresis
        self._logs: NDArray[np.float64] | None = None
        self._time_s = 0.0
        self._shown: int | None = None

    def update(self, probabilities: NDArray[np.float32], time_s: float) -> tuple[NDArray[np.float32], int]:
        """Take the `(K,)` probabilities of a frame at `time_s` seconds; `(K,)` smoothed ones and the label to show.

        Time that stands still or runs backwards counts as none: such a frame changes nothing but the clock.
        """
        smoothed = self._smooth(np.asarray(probabilities, np.float64), time_s)
        self._shown = decide(smoothed, self._shown, hysteresis=self._hysteresis)
        return smoothed.astype(np.float32), self._shown

    def _smooth(self, probabilities: NDArray[np.float64], time_s: float) -> NDArray[np.float64]:
        if self._half_life_s == 0:
            return probabilities
        logs = np.log(np.maximum(probabilities, FLOOR))
        if self._logs is not None:
            kept = 2.0 ** (-max(0.0, time_s - self._time_s) / self._half_life_s)
            logs = kept * self._logs + (1 - kept) * logs
        self._logs, self._time_s = logs, time_s
        grown = np.exp(logs - logs.max())
        return np.asarray(grown / grown.sum(), np.float64)


def decide(probabilities: NDArray[np.floating], shown: int | None, *, hysteresis: float) -> int:
    """The label to show: the most probable of `(K,)`, unless the one `shown` so far is within `hysteresis` of it."""
    best = int(probabilities.argmax())
    if shown is not None and probabilities[best] - probabilities[shown] <= hysteresis:
        return shown
    return best
