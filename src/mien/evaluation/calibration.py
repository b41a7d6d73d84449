"""Temperature scaling and the threshold of `uncertain`, both fitted on validation images only.

One number divides the logits; it changes no decision (Guo et al. 2017, "On Calibration of Modern Neural Networks").
It is fitted to the confidence, the probability of the predicted class: that is what users read, what `uncertain`
compares with its threshold, and what the expected calibration error measures (docs/decisions.md, 20).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.evaluation.metrics import Floats, Ints, log_loss, reliability
from mien.runtime.predictor import softmax

Logits = NDArray[np.float32] | NDArray[np.float64]

TEMPERATURE_RANGE = (0.05, 20.0)  # beyond, the network is so wrong or so right that one number cannot calibrate it
DEFAULT_COVERAGE = 0.8  # share of the validation images that `uncertain` leaves alone
GOLDEN = (math.sqrt(5) - 1) / 2


def fit_temperature(logits: Logits, targets: Ints) -> float:
    """The temperature at which the confidences of `(N, K)` logits best foretell whether the prediction is right.

    It minimises the log-loss of that event: a coarse grid over the logarithm of TEMPERATURE_RANGE, then golden section.

    Raises:
        ValueError: there are no images, the shapes do not fit, or a logit is not finite.
    """
    if not len(logits) or len(logits) != len(targets) or not np.isfinite(logits).all():
        raise ValueError(f"{len(logits)} logits for {len(targets)} targets: need as many, finite, and at least one")

    def loss(log_temperature: float) -> float:
        return _confidence_loss(logits, targets, math.exp(log_temperature))

    grid = np.linspace(math.log(TEMPERATURE_RANGE[0]), math.log(TEMPERATURE_RANGE[1]), 40)
    best = int(np.argmin([loss(point) for point in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > 1e-6:
        if loss_left < loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - GOLDEN * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + GOLDEN * (high - low)
            loss_right = loss(right)
    return math.exp((low + high) / 2)


@dataclass(frozen=True, slots=True)
class CrossFit:
    """What calibration is worth on images that it did not see: fitted on one half, scored on the other, both ways."""

    temperatures: tuple[float, float]  # fitted on the first half, on the second
    log_loss: float  # over all images, each scored with the other half's temperature
    ece: float  # likewise, 0..1


def cross_fit(logits: Logits, targets: Ints, *, seed: int = 0) -> CrossFit:
    """Fit the temperature on one random half of the images and score the other, both ways.

    Raises:
        ValueError: there are fewer than two images.
    """
    temperatures, probabilities = cross_fitted(logits, targets, seed=seed)
    return CrossFit(temperatures, log_loss(probabilities, targets), reliability(probabilities, targets).ece)


def cross_fitted(logits: Logits, targets: Ints, *, seed: int = 0) -> tuple[tuple[float, float], NDArray[np.float32]]:
    """The two temperatures of `cross_fit`, and the probabilities `(N, K)` of each image with the other half's.

    Raises:
        ValueError: there are fewer than two images.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    first, second = (fit_temperature(logits[half], targets[half]) for half in halves)
    probabilities = np.empty(logits.shape, np.float32)
    probabilities[halves[1]] = softmax(logits[halves[1]].astype(np.float32), temperature=first)
    probabilities[halves[0]] = softmax(logits[halves[0]].astype(np.float32), temperature=second)
    return (first, second), probabilities


def choose_threshold(confidence: Floats, *, coverage: float = DEFAULT_COVERAGE) -> float:
    """The largest threshold that at least a share `coverage` of the `(N,)` confidences reach.

    Raises:
        ValueError: there are no images, or coverage is not in (0, 1].
    """
    if not len(confidence) or not 0 < coverage <= 1:
        raise ValueError(f"cannot choose a threshold from {len(confidence)} images for a coverage of {coverage}")
    kept = math.ceil(coverage * len(confidence) - 1e-9)  # 0.7 * 10 is 7.000000000000001
    return float(np.sort(confidence)[len(confidence) - kept])


def logits_of(probabilities: Logits) -> NDArray[np.float64]:
    """Logits whose softmax is `probabilities` `(N, K)`; what is smaller than any normal float32 counts as the smallest.

    A network in float32 says 0 where its logits are some 100 apart: how far they were is not known any more.
    """
    return np.log(np.clip(probabilities.astype(np.float64), np.finfo(np.float32).tiny, 1.0))


def _confidence_loss(logits: Logits, targets: Ints, temperature: float) -> float:
    """Log-loss of "the predicted class is right", from log-odds, so that the search sees a slope everywhere."""
    scaled = np.asarray(logits, np.float64) / temperature
    rows, predicted = np.arange(len(scaled)), scaled.argmax(axis=1)
    scaled -= scaled[rows, predicted][:, None]
    scaled[rows, predicted] = -np.inf
    odds = np.logaddexp.reduce(scaled, axis=1)  # log((1 - confidence) / confidence)
    right = np.logaddexp(0, odds)  # -log(confidence)
    return float(np.where(predicted == targets, right, right - odds).mean())
