import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.web.conftest import MakeClient

from mien.web import edge
from mien.web.edge import Edge, environ_of


@dataclass
class Head:
    """A request's head in the form of Granian's RSGI."""

    method: str = "POST"
    path: str = "/api/v1/analyze"
    query_string: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    proto: str = "http"
    http_version: str = "1.1"
    server: str = "127.0.0.1:8000"
    client: str = "127.0.0.1:50000"
    scheme: str = "http"
    authority: str | None = None


class Wire:
    """The other half: chunks in, the answer out."""

    def __init__(self, *chunks: bytes, stall_s: float = 0.0) -> None:
        self.chunks = chunks
        self.stall_s = stall_s
        self.read = 0
        self.answer: tuple[int, dict[str, str], bytes] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            await asyncio.sleep(self.stall_s)
            self.read += 1
            yield chunk

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.answer = status, dict(headers), body


def ask(client: FlaskClient, wire: Wire, **head: Any) -> tuple[int, dict[str, str], bytes]:
    app: Any = client.application
    around = Edge(app, app.extensions["mien"].settings, threads=2)
    asyncio.run(around.__rsgi__(Head(**head), wire))
    assert around._held_bytes == 0
    assert wire.answer is not None
    return wire.answer


def kind(body: bytes) -> str:
    problem = json.loads(body)
    assert isinstance(problem["type"], str)
    return problem["type"].rpartition(":")[2]


def test_a_whole_body_reaches_flask(client: FlaskClient) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.txt"\r\n\r\nwords\r\n--b--\r\n'
    wire = Wire(body[:20], body[20:])
    headers = {"content-type": "multipart/form-data; boundary=b", "content-length": str(len(body))}
    status, answered, content = ask(client, wire, headers=headers)
    assert (status, kind(content)) == (422, "unreadable-image")
    assert answered["x-content-type-options"] == "nosniff"


def test_an_announced_size_is_refused_unread(client: FlaskClient) -> None:
    wire = Wire(b"x" * 1000)
    status, answered, content = ask(client, wire, headers={"content-length": "10000001"})
    assert (status, kind(content), wire.read) == (413, "too-large", 0)
    assert answered["connection"] == "close"


def test_an_endless_body_ends_at_the_limit(make_client: MakeClient) -> None:
    wire = Wire(*[b"x" * 1000] * 50)
    status, _, content = ask(make_client(max_request_bytes=5000), wire)
    assert (status, kind(content), wire.read) == (413, "too-large", 6)


def test_a_slow_body_is_given_up(make_client: MakeClient) -> None:
    status, _, content = ask(make_client(max_upload_s=0.05), Wire(b"a", b"b", stall_s=0.04))
    assert (status, kind(content)) == (408, "too-slow")


def test_bodies_share_a_bound(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODIES_BYTES", 1500)
    status, answered, content = ask(client, Wire(b"x" * 1000, b"x" * 1000))
    assert (status, kind(content), answered["retry-after"]) == (503, "busy", "1")


def test_environ() -> None:
    head = Head(
        path="/caf%C3%A9",
        query_string="a=1",
        client="[2001:db8::1]:443",
        server="[::1]:8000",
        headers={"content-type": "text/plain", "content-length": "999", "transfer-encoding": "chunked", "x-a": "1"},
        authority="example.org",
    )
    environ = environ_of(head, b"body")
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/café"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("::1", "8000")
    assert environ["REMOTE_ADDR"] == "2001:db8::1"
    assert (environ["CONTENT_LENGTH"], environ["wsgi.input"].read()) == ("4", b"body")
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert (environ["HTTP_X_A"], environ["HTTP_HOST"]) == ("1", "example.org")
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert isinstance(environ["wsgi.errors"], io.StringIO)
