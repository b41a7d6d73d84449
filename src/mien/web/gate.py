"""How many analyses run and wait: the process stays as large as it was planned, whatever comes in."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from mien.web.errors import Busy

FORGETTING = 0.1  # share of the latest turn in what turns usually take
HALF_DONE = 0.5  # of the turn that runs when somebody comes in, on average


class Gate:
    """At most `running` holders at a time and `waiting` others behind them; further ones are turned away at once."""

    def __init__(self, *, running: int, waiting: int, wait_s: float) -> None:
        """`wait_s` is the longest wait for a turn."""
        self._condition = Condition()
        self._running = running
        self._free = running
        self._places = waiting
        self._usual_s = 0.0  # how long a turn is held
        self._wait_s = wait_s
        self._queue: list[object] = []

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn now."""
        return len(self._queue)

    def forecast(self, ahead: int) -> None:
        """Turn away whoever would wait too long behind `ahead` others: sooner and cheaper than when the wait is over.

        Raises:
            Busy: all places are taken, or the turns ahead usually take longer than the wait may be.
        """
        if ahead >= self._running + self._places:
            raise Busy("The queue is full: try again in a second.")
        turns = (ahead - self._running + HALF_DONE) / self._running
        if turns * self._usual_s > self._wait_s:
            raise Busy("No turn would come in time: try again in a second.")

    @contextmanager
    def turn(self, *, since: float | None = None) -> Iterator[float]:
        """Hold a place while the block runs, first come first served; gives the seconds waited.

        `since` is the `time.monotonic()` from which the wait counts; now by default.

        Raises:
            Busy: the queue is full, or no turn came in time.
        """
        arrived = time.monotonic() if since is None else since
        self._enter(arrived)
        started = time.monotonic()
        try:
            yield started - arrived
        finally:
            with self._condition:
                self._usual_s += FORGETTING * (time.monotonic() - started - self._usual_s)
                self._free += 1
                self._condition.notify_all()

    def _enter(self, arrived: float) -> None:
        ticket = object()
        with self._condition:
            if self._free and not self._queue:
                self._free -= 1
                return
            if len(self._queue) >= self._places:
                raise Busy("The queue is full: try again in a second.")
            self._queue.append(ticket)
            try:
                left_s = self._wait_s - (time.monotonic() - arrived)
                if not self._condition.wait_for(lambda: self._free and self._queue[0] is ticket, timeout=left_s):
                    raise Busy("No turn came in time: try again in a second.")
                self._free -= 1
            finally:
                self._queue.remove(ticket)
                self._condition.notify_all()
