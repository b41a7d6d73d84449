"""Between Granian and Flask: bodies are read here, without a thread, under limits of size, time and memory.

A WSGI application reads a body inside its thread, so a handful of slow clients would hold all threads. Here a request
takes a thread only when its body is whole; Flask then finds it in memory.

Analyses are let in or turned away here too, before a thread is taken and a form is unpacked, and they have threads of
their own: however many come, pages, health checks and refusals are answered at once, and whoever is let in waits behind
a few others at most. Granian itself holds nothing back: its limit of connections is far above these.
"""

import asyncio
import io
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from flask import Flask
from werkzeug.wrappers import Request
from werkzeug.wsgi import FileWrapper

from mien.web.errors import REFUSED, Busy, Problem
from mien.web.gate import Gate
from mien.web.security import check_token, is_preflight
from mien.web.settings import Settings

ARRIVED = "mien.arrived"  # key of the environ: `time.monotonic()` when the body was whole
LIGHT_THREADS = 8  # for pages, health checks and refusals: milliseconds each
LEFT_OUT = frozenset({"CONTENT_LENGTH", "TRANSFER_ENCODING", "RANGE"})  # headers: all bodies are whole, files too
BODIES_BYTES = 64_000_000  # of all bodies of a worker that are being read or wait for a thread

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
    authority: str | None
    headers: Any


class Edge:
    """The RSGI application around a Flask one."""

    def __init__(self, app: Flask, settings: Settings, gate: Gate) -> None:
        """Answer with `app`, whose analyses pass `gate`."""
        self._app = app
        self._settings = settings
        self._gate = gate
        self._analyses = ThreadPoolExecutor(settings.max_running + settings.max_waiting, "mien-analysis")
        self._light = ThreadPoolExecutor(LIGHT_THREADS, "mien-light")
        self._in_flight = 0  # analyses that were let in and are not answered; touched by the event loop alone
        self._held_bytes = 0

    async def __rsgi__(self, scope: Scope, protocol: Any) -> None:
        """Read the body of whoever may send one, let Flask answer, send the answer."""
        body = bytearray()
        environ = environ_of(scope)
        refused: Problem | None = None
        try:
            self._admit(environ)
            async with asyncio.timeout(self._settings.max_upload_s):
                await self._read(scope, protocol, body)
        except TimeoutError:
            refused = Problem(408, f"the body did not come within {self._settings.max_upload_s:g} seconds")
        except Problem as problem:
            refused = problem
        held, unread = len(body), refused is not None
        try:
            if refused is not None:
                environ[REFUSED] = refused
            else:
                set_body(environ, bytes(body))
            del body
            status, headers, answer = await self._answer(environ)
        finally:
            self._held_bytes -= held
        if unread:
            headers.append(("connection", "close"))  # the rest of the body is not waited for
        if isinstance(answer, Path):
            protocol.response_file(status, headers, str(answer))
        else:
            protocol.response_bytes(status, headers, answer)

    def _admit(self, environ: dict[str, Any]) -> None:
        """Look for the token before a body is read.

        Raises:
            Problem: it is not there.
        """
        request = Request(environ, populate_request=False)
        if not is_preflight(request, self._settings):
            check_token(request, self._settings)

    async def _answer(self, environ: dict[str, Any]) -> Answer:
        """Let Flask answer, in a thread of the analyses where it is one and is let in."""
        environ[ARRIVED] = time.monotonic()
        loop = asyncio.get_running_loop()
        request = Request(environ, populate_request=False)  # its path is the one that Flask routes
        if request.method != "POST" or not request.path.startswith("/api/") or REFUSED in environ:
            return await loop.run_in_executor(self._light, self._call, environ)
        try:
            self._gate.forecast(self._in_flight)
        except Busy as busy:
            environ[REFUSED] = busy
            set_body(environ, b"")
            return await loop.run_in_executor(self._light, self._call, environ)
        self._in_flight += 1
        try:
            return await loop.run_in_executor(self._analyses, self._call, environ)
        finally:
            self._in_flight -= 1

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Finish what runs."""
        self._analyses.shutdown(wait=True)
        self._light.shutdown(wait=True)

    async def _read(self, scope: Scope, protocol: Any, body: bytearray) -> None:
        """Fill `body`; what it holds is counted, whole or not.

        Raises:
            Problem: it is over the limit, or this worker holds too many bodies already.
        """
        limit = self._settings.max_request_bytes
        announced = scope.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > limit:
            raise Problem(413, f"the request has {int(announced):,} bytes: {limit:,} are allowed")
        async for chunk in protocol:
            if self._held_bytes + len(chunk) > BODIES_BYTES:
                raise Busy("Too many uploads at a time: try again in a second.")
            if len(body) + len(chunk) > limit:
                raise Problem(413, f"the request has more than {limit:,} bytes")
            body += chunk
            self._held_bytes += len(chunk)

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
    if scope.authority:
        environ.setdefault("HTTP_HOST", scope.authority)  # HTTP/2
    return environ
