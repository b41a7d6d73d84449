"""Between Granian and Flask: bodies are read here, without a thread, under limits of size, time and memory.

A WSGI application reads a body inside its thread, so a handful of slow clients would hold all threads. Here a request
takes a thread only when its body is whole; Flask then finds it in memory. A body is read only where an address takes
one, from whoever may send it there; others are forgotten as they come in, and cut off where they are large.

Analyses are let in or turned away here too, before a thread is taken and a form is unpacked, and they have threads of
their own: however many come, pages, health checks and refusals are answered at once, and whoever is let in waits behind
a few others at most. Granian itself holds nothing back: its limit of connections is far above these.
"""

import asyncio
import io
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from flask import Flask
from werkzeug.wrappers import Request
from werkzeug.wsgi import FileWrapper

from mien.web import metrics, stalls
from mien.web.bodies import Bodies, Body
from mien.web.errors import REFUSED, Busy, Problem
from mien.web.gate import Gate
from mien.web.security import check_token, client_of
from mien.web.settings import Settings
from mien.web.shares import Shares
from mien.web.uploads import check_multipart

ARRIVED = "mien.arrived"  # key of the environ: `time.monotonic()` when the body was whole
WORKED_S = "mien.worked_s"  # likewise: seconds that the analysis took, set when it is over
STALLED_S = 30.0  # that a client may take nothing of its answer
DROPPED_BODIES = 4  # times the size of an allowed body: a refused one is read to its end, and forgotten
DROP_S = 5.0  # for that
LIGHT_THREADS = 8  # for pages, health checks and refusals: milliseconds each
LEFT_OUT = frozenset({"CONTENT_LENGTH", "TRANSFER_ENCODING", "RANGE"})  # headers: all bodies are whole, files too

Answer = tuple[int, list[tuple[str, str]], bytes | Path]
"""Status, headers and body, or the file that has the body."""


class Scope(Protocol):
    """A request's head, as Granian's RSGI gives it."""

    proto: str
    http_version: str
    server: str
    client: str
    scheme: str
    method: str
    path: str
    query_string: str
    headers: Any


class Edge:
    """The RSGI application around a Flask one."""

    def __init__(self, app: Flask, settings: Settings, gate: Gate) -> None:
        """Answer with `app`, whose analyses pass `gate`."""
        self._app = app
        self._routes = app.url_map.bind("")
        self._settings = settings
        self._gate = gate
        self._analyses = ThreadPoolExecutor(settings.max_running + settings.max_waiting, "mien-analysis")
        self._light = ThreadPoolExecutor(LIGHT_THREADS, "mien-light")
        self._in_flight = 0  # analyses that were let in and are not answered; touched by the event loop alone
        self._bodies = Bodies(settings)
        self._shares = Shares(settings.max_running)

    async def __rsgi__(self, scope: Scope, protocol: Any) -> None:
        """Read the body where one is wanted, let Flask answer, send the answer."""
        environ = environ_of(scope)
        request = Request(environ, populate_request=False)  # its path is the one that Flask routes
        client = client_of(request, self._settings)
        with self._bodies.holding(client) as body:
            async with aclosing(chunks_of(protocol)) as chunks:
                whole = await self._receive(scope, chunks, body, request)
            status, headers, answer = await self._answer(environ, request, client)
        if not whole:
            headers.append(("connection", "close"))  # the rest of the body is not waited for
        if isinstance(answer, Path):
            protocol.response_file(status, headers, str(answer))
        else:
            protocol.response_bytes(status, headers, answer)

    async def _receive(self, scope: Scope, chunks: AsyncIterator[bytes], body: Body, request: Request) -> bool:
        """Give the request its body or the reason why it is refused; says whether the body came to its end."""
        environ, limit_s = request.environ, self._settings.max_upload_s
        try:
            if self._wants_body(request):
                async with asyncio.timeout(limit_s):
                    await body.read(length_of(scope), chunks)
                set_body(environ, body.take())
                return True
        except TimeoutError:
            environ[REFUSED] = Problem(408, f"the body did not come within {limit_s:g} seconds")
            return False
        except Problem as problem:
            environ[REFUSED] = problem
        return not has_body(scope) or await self._drop(scope, chunks)

    def _wants_body(self, request: Request) -> bool:
        """Whether the request goes to an address that takes pictures; the others' bodies are never read.

        Raises:
            Problem: the token is missing, or the body is no form.
        """
        if not self._is_analysis(request):
            return False
        check_token(request, self._settings)
        check_multipart(request)
        return True

    async def _drop(self, scope: Scope, chunks: AsyncIterator[bytes]) -> bool:
        """Read what is left of a body and forget it, unless it is large or slow; says whether all came.

        Most clients send all before they look for an answer, and miss it where the connection is closed meanwhile.
        """
        limit, dropped = DROPPED_BODIES * self._settings.max_request_bytes, 0
        if "expect" in scope.headers or length_of(scope) > limit:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(DROP_S):
                async for chunk in chunks:
                    dropped += len(chunk)
                    if dropped > limit:
                        return False
                return True
        return False

    def _is_analysis(self, request: Request) -> bool:
        return request.method == "POST" and self._routes.test(request.path, "POST")

    async def _answer(self, environ: dict[str, Any], request: Request, client: str | None) -> Answer:
        """Let Flask answer, in a thread of the analyses where it is one and is let in."""
        environ[ARRIVED] = time.monotonic()
        loop = asyncio.get_running_loop()
        if REFUSED in environ or not self._is_analysis(request):
            return await loop.run_in_executor(self._light, self._call, environ)
        try:
            self._shares.check(client)
            self._gate.forecast(self._in_flight)
        except Busy as busy:
            self._shares.turned_away(client)
            environ[REFUSED] = busy
            set_body(environ, b"")
            return await loop.run_in_executor(self._light, self._call, environ)
        self._in_flight += 1
        try:
            answer = await loop.run_in_executor(self._analyses, self._call, environ)
        finally:
            self._in_flight -= 1
        if WORKED_S in environ:
            self._shares.spent(client, environ[WORKED_S])
        elif answer[0] == Busy.STATUS:
            self._shares.turned_away(client)
        return answer

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch; Granian listens only after this."""
        self._watch = loop.create_task(stalls.bound(STALLED_S))
        loop.call_soon(metrics.note_serving)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Finish what runs."""
        self._analyses.shutdown(wait=True)
        self._light.shutdown(wait=True)

    def _call(self, environ: dict[str, Any]) -> Answer:
        """Status, headers and body of Flask's answer; of a file its path: Granian reads it as the client takes it."""
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started[:] = [int(status.split(" ", 1)[0]), headers]
            return None

        chunks: Iterable[bytes] = self._app(environ, start_response)
        try:
            body = path_of(chunks) or b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        status, headers = started
        kept = [(name.lower(), value) for name, value in headers if name != "Accept-Ranges"]
        return status, kept, body


def path_of(chunks: Iterable[bytes]) -> Path | None:
    """The file that is the whole answer, where Flask gives one."""
    name = getattr(chunks.file, "name", None) if isinstance(chunks, FileWrapper) else None
    return Path(name) if isinstance(name, str) else None


async def chunks_of(protocol: Any) -> AsyncGenerator[bytes]:
    """A body's pieces; who stops in between can go on later, which Granian's own iterator does not allow."""
    async for chunk in protocol:
        yield chunk


def has_body(scope: Scope) -> bool:
    """Whether more than the head is to come."""
    return length_of(scope) > 0 or "transfer-encoding" in scope.headers


def length_of(scope: Scope) -> int:
    """Bytes of the body as announced; 0 where nothing is."""
    announced = scope.headers.get("content-length", "0")
    return int(announced) if announced.isdecimal() else 0


def set_body(environ: dict[str, Any], body: bytes) -> None:
    """Give a request its whole body."""
    environ["CONTENT_LENGTH"] = str(len(body))
    environ["wsgi.input"] = io.BytesIO(body)


def environ_of(scope: Scope) -> dict[str, Any]:
    """The WSGI environ (PEP 3333) of a request, still without its body."""
    server, _, port = scope.server.rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope.path).decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": server.strip("[]") or "localhost",
        "SERVER_PORT": port or "80",
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "CONTENT_LENGTH": "0",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(),
        "wsgi.input_terminated": True,
        "wsgi.errors": io.StringIO(),  # Flask logs through `logging`
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        key = name.upper().replace("-", "_")
        if name.lower() == "content-type":
            environ[key] = value
        elif key not in LEFT_OUT and "_" not in name:  # X_Forwarded_For would pass for what a proxy says
            known = environ.get(f"HTTP_{key}")
            environ[f"HTTP_{key}"] = value if known is None else f"{known},{value}"
    return environ
