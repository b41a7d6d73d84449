"""How many analyses run and wait: the process stays as large as it was planned, whatever comes in."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from mien.web.errors import Busy


class Gate:
    """At most `running` holders at a time and `waiting` others behind them; further ones are turned away at once."""

    def __init__(self, *, running: int, waiting: int, wait_s: float) -> None:
        """`wait_s` is the longest wait for a turn."""
        self._condition = Condition()
        self._free = running
        self._places = waiting
        self._wait_s = wait_s
        self._queue: list[object] = []

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn now."""
        return len(self._queue)

    @contextmanager
    def turn(self) -> Iterator[float]:
        """Hold a place while the block runs, first come first served; gives the seconds waited.

        Raises:
            Busy: the queue is full, or no turn came in time.
        """
        started = time.monotonic()
        self._enter(started)
        try:
            yield time.monotonic() - started
        finally:
            with self._condition:
                self._free += 1
                self._condition.notify_all()

    def _enter(self, started: float) -> None:
        ticket = object()
        with self._condition:
            if self._free and not self._queue:
                self._free -= 1
                return
            if len(self._queue) >= self._places:
                raise Busy("The queue is full: try again in a second.")
            self._queue.append(ticket)
            try:
                left_s = self._wait_s - (time.monotonic() - started)
                if not self._condition.wait_for(lambda: self._free and self._queue[0] is ticket, timeout=left_s):
                    raise Busy("No turn came in time: try again in a second.")
                self._free -= 1
            finally:
                self._queue.remove(ticket)
                self._condition.notify_all()
