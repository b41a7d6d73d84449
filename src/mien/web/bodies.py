"""Bodies of requests while they come in and wait for a thread: bounded each, for each client, and together."""

from collections import Counter
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager

from mien.web.errors import Busy, Problem
from mien.web.settings import Settings

TOGETHER_BYTES = 64_000_000  # of a worker
CLIENTS = 3  # that can fill it: a single one that sends and stalls shuts nobody out


class Bodies:
    """All bodies that a worker holds. Only the event loop touches them."""

    def __init__(self, settings: Settings) -> None:
        """Larger limits of a request make more room."""
        self.request_bytes = settings.max_request_bytes
        self.client_bytes = max(TOGETHER_BYTES // CLIENTS, settings.max_request_bytes)
        self.together_bytes = CLIENTS * self.client_bytes
        self.held_bytes = 0
        self._of_client: Counter[str | None] = Counter()

    @contextmanager
    def holding(self, client: str | None) -> Iterator["Body"]:
        """An empty body of `client`, whose bytes count until the block ends."""
        body = Body(self, client)
        try:
            yield body
        finally:
            self.held_bytes -= body.held_bytes
            self._of_client[client] -= body.held_bytes
            if self._of_client[client] == 0:
                del self._of_client[client]

    def hold(self, client: str | None, count: int) -> None:
        """Make room for so many more bytes; None, who shares an address with others, has no share of his own.

        Raises:
            Busy: there is none.
        """
        if self.held_bytes + count > self.together_bytes:
            raise Busy("Too many uploads at a time: try again in a second.")
        if self._of_client[client] + count > self.client_bytes and client is not None:
            raise Busy("Too many uploads at a time from this client: try again when some are answered.")
        self.held_bytes += count
        self._of_client[client] += count


class Body:
    """The body of one request."""

    def __init__(self, bodies: Bodies, client: str | None) -> None:
        """Nothing yet; `Bodies.holding` makes them."""
        self.held_bytes = 0
        self._bodies = bodies
        self._client = client
        self._data = bytearray()

    async def read(self, announced_bytes: int, chunks: AsyncIterable[bytes]) -> None:
        """Take in the chunks; 0 is announced where nothing is.

        Raises:
            Problem: the body is over the limit, or ended early.
            Busy: there is no room for it now.
        """
        limit = self._bodies.request_bytes
        if announced_bytes > limit:
            raise Problem(413, f"the request has {announced_bytes:,} bytes: {limit:,} are allowed")
        async for chunk in chunks:
            if len(self._data) + len(chunk) > limit:
                raise Problem(413, f"the request has more than {limit:,} bytes")
            self._bodies.hold(self._client, len(chunk))
            self.held_bytes += len(chunk)
            self._data += chunk
        if len(self._data) < announced_bytes:
            raise Problem(400, f"the body ended after {len(self._data):,} of {announced_bytes:,} bytes")

    def take(self) -> bytes:
        """What came in; it still counts."""
        data = bytes(self._data)
        self._data.clear()
        return data
