"""Time of the analyses, shared out between clients: however heavy one's pictures are, others get their turn."""

import math
import time
from collections.abc import Callable
from itertools import islice

from mien.web.errors import Busy

WINDOW_S = 10.0  # over which the time of a client is remembered, fading
FORGOTTEN_S = 5 * WINDOW_S  # then less than a hundredth is left
CROWDED_S = 5.0  # after somebody was turned away, those with more than their share are, too
SHARE = 0.5  # of the worker's time that one client may take meanwhile


class Shares:
    """What each client took of a worker's time lately. Only the event loop touches it."""

    def __init__(self, running: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`running` analyses at a time; `clock` gives seconds."""
        self._limit_s = SHARE * WINDOW_S * running
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}  # client -> seconds of work, and when that was so
        self._turned_away: dict[str, float] = {}  # client -> when last

    def check(self, client: str | None) -> None:
        """Turn a client away who had more than a share while others got nothing; nobody on loopback.

        Raises:
            Busy: so it is.
        """
        if client is None or self._of(client) <= self._limit_s:
            return
        newest = islice(reversed(self._turned_away.items()), 2)
        if any(other != client and self._clock() - at < CROWDED_S for other, at in newest):
            raise Busy("Others wait for their turn: try again in a few seconds.", retry_after_s=2)

    def turned_away(self, client: str | None) -> None:
        """Somebody found no place, and has not had more than a share."""
        if client is None or self._of(client) > self._limit_s:
            return
        now = self._clock()
        self._turned_away.pop(client, None)
        self._turned_away[client] = now  # the newest comes last
        while now - next(iter(self._turned_away.values())) >= CROWDED_S:
            del self._turned_away[next(iter(self._turned_away))]

    def spent(self, client: str | None, seconds: float) -> None:
        """An analysis is over."""
        if client is None:
            return
        now, before = self._clock(), self._of(client)
        self._spent.pop(client, None)
        self._spent[client] = (before + seconds, now)  # the newest comes last
        while now - next(iter(self._spent.values()))[1] > FORGOTTEN_S:
            del self._spent[next(iter(self._spent))]

    def _of(self, client: str) -> float:
        seconds, at = self._spent.get(client, (0.0, 0.0))
        return seconds * math.exp((at - self._clock()) / WINDOW_S)
