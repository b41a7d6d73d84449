"""The live loop: the newest frame and never an older one; how late results are."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mien.video.frames import ClosedAfterUse, Frame, FrameSource, SourceInfo

WINDOW_S = 2.0  # over which rate and delay are taken
POLL_S = 0.1  # how long a wait for a frame lasts before the end is looked for
PATIENCE_S = 1.0  # for the thread to end; a stream that is silent keeps it until its time-out


class Newest(ClosedAfterUse):
    """A live source, read in a thread of its own, of which one frame is kept: the newest.

    Who iterates slower than frames come sees fewer of them, each fresh; `dropped` counts those that nobody saw.
    """

    def __init__(self, source: FrameSource) -> None:
        """`source` belongs to this object, which closes it."""
        self._source = source
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="mien-capture", daemon=True)
        self.dropped = 0

    @property
    def info(self) -> SourceInfo:
        """Of the source behind."""
        return self._source.info

    @property
    def broken(self) -> int:
        """Of the source behind."""
        return self._source.broken

    @property
    def fault(self) -> str | None:
        """Of the source behind."""
        return self._source.fault

    def __iter__(self) -> Iterator[Frame]:
        if not self._thread.is_alive() and not self._ended:
            self._thread.start()
        while True:
            with self._changed:
                while self._frame is None and not self._ended:
                    self._changed.wait(POLL_S)
                frame, self._frame = self._frame, None
                error = self._error
            if frame is not None:
                yield frame
            elif error is not None:
                raise error
            else:
                return

    def close(self) -> None:
        """End the iteration; the thread closes the source when it has the frame that it waits for."""
        with self._changed:
            self._ended = True
            self._frame = None
            self._changed.notify_all()
        self._source.stop()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)
        else:
            self._source.close()

    def _read(self) -> None:
        """The thread: put each frame in the place of the last one."""
        try:
            with self._source:
                for frame in self._source:
                    with self._changed:
                        if self._ended:
                            return
                        self.dropped += self._frame is not None
                        self._frame = frame
                        self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - raised where the frames are wanted
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Pace:
    """How the live loop keeps up, over the last two seconds."""

    rate_hz: float  # results a second
    delay_ms: float  # median, from the frame's arrival to its result
    dropped: int  # frames that nobody waited for, since the start


class PaceMeter:
    """Measures a live loop; memory is bounded by the window."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._results: deque[tuple[float, float]] = deque()  # when each was done, and its delay

    def add(self, captured_s: float, *, dropped: int = 0, now_s: float | None = None) -> Pace:
        """Count a result of the frame that came in at `captured_s`, monotonic clock, as done now."""
        now_s = time.monotonic() if now_s is None else now_s
        self._results.append((now_s, now_s - captured_s))
        while now_s - self._results[0][0] > self._window_s:
            self._results.popleft()
        span_s = now_s - self._results[0][0]
        delay_s = float(np.median([delay_s for _, delay_s in self._results]))
        return Pace((len(self._results) - 1) / span_s if span_s > 0 else 0.0, 1000 * delay_s, dropped)
