import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.web.conftest import MakeClient, Picture

from mien.web import edge, private, service
from mien.web.edge import Edge, environ_of
from mien.web.errors import Busy

TOKEN = "a-token-of-16-characters"


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
        self.file: Path | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            await asyncio.sleep(self.stall_s)
            self.read += 1
            yield chunk

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.answer = status, dict(headers), body

    def response_file(self, status: int, headers: list[tuple[str, str]], file: str) -> None:
        self.file = Path(file)
        self.answer = status, dict(headers), b""


def edge_of(client: FlaskClient) -> Edge:
    app: Any = client.application
    return Edge(app, app.extensions["mien"].settings, app.extensions["mien"].gate)


def ask(client: FlaskClient, wire: Wire, **head: Any) -> tuple[int, dict[str, str], bytes]:
    around = edge_of(client)
    asyncio.run(around.__rsgi__(Head(**head), wire))
    assert around._held_bytes == 0
    assert wire.answer is not None
    return wire.answer


def multipart(data: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    return head + data + b"\r\n--b--\r\n"


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


def test_a_full_queue_refuses_at_once_and_holds_up_nobody_else(
    make_client: MakeClient, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two analyses are let in and cannot go on; the third is refused unparsed, and other addresses are answered."""
    go_on = threading.Event()
    analyze = service.analyze

    def patient(*arguments: Any) -> Any:
        assert go_on.wait(30)
        return analyze(*arguments)

    monkeypatch.setattr(service, "analyze", patient)
    client = make_client(max_running=1, max_waiting=1, max_wait_s=30)
    around = edge_of(client)
    analyses = [Wire(multipart(picture())) for _ in range(3)]
    health = Wire()
    headers = {"content-type": "multipart/form-data; boundary=b"}

    async def crowd() -> None:
        asked = [asyncio.create_task(around.__rsgi__(Head(headers=headers), wire)) for wire in analyses[:2]]
        while around._in_flight < 2:
            await asyncio.sleep(0.01)
        await around.__rsgi__(Head(headers=headers), analyses[2])
        await around.__rsgi__(Head(method="GET", path="/healthz"), health)
        assert [wire.answer for wire in analyses[:2]] == [None, None]
        go_on.set()
        await asyncio.gather(*asked)

    asyncio.run(crowd())
    assert [wire.answer and wire.answer[0] for wire in (*analyses, health)] == [200, 200, 503, 200]
    refused = analyses[2].answer
    assert refused
    assert (kind(refused[2]), refused[1]["retry-after"]) == ("busy", "1")
    assert "connection" not in refused[1]  # its body was read: the next request may come on it
    assert around._in_flight == 0


@pytest.mark.parametrize("path", ["/api/v1/analyze", "//api/v1/analyze", "/%61pi/v1/analyze"])
@pytest.mark.parametrize("sent", [None, "Bearer another-token-of-16", f"Basic {TOKEN}"])
def test_a_body_without_the_token_is_not_read(make_client: MakeClient, path: str, sent: str | None) -> None:
    wire = Wire(b"x" * 1000)
    headers = {} if sent is None else {"authorization": sent}
    status, answered, content = ask(make_client(token=TOKEN), wire, path=path, headers=headers)
    assert (status, kind(content), wire.read) == (401, "unauthorized", 0)
    assert (answered["connection"], answered["www-authenticate"]) == ("close", 'Bearer realm="mien"')


def test_a_body_with_the_token_is_read(make_client: MakeClient, picture: Picture) -> None:
    client = make_client(token=TOKEN, cors_origins=("https://example.org",))
    headers = {"content-type": "multipart/form-data; boundary=b", "authorization": f"Bearer {TOKEN}"}
    assert ask(client, Wire(multipart(picture())), headers=headers)[0] == 200
    preflight = ask(client, Wire(), method="OPTIONS", headers={"origin": "https://example.org"})
    assert preflight[0] == 204
    assert "connection" not in preflight[1]


@pytest.mark.parametrize("path", ["/api/v1/analyze", "//api/v1/analyze", "/%61pi/v1/analyze"])
def test_no_spelling_of_the_address_gets_past_the_queue(
    client: FlaskClient, picture: Picture, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = edge_of(client)

    def busy(_: int) -> None:
        raise Busy("full")

    monkeypatch.setattr(around._gate, "forecast", busy)
    assert ask(client, Wire(multipart(picture())), path=path)[0] == 503


def test_environ() -> None:
    head = Head(
        path="/caf%C3%A9",
        query_string="a=1",
        client="[2001:db8::1]:443",
        server="[::1]:8000",
        headers={"content-type": "text/plain", "content-length": "999", "transfer-encoding": "chunked", "x-a": "1"},
        authority="example.org",
    )
    environ = environ_of(head)
    edge.set_body(environ, b"body")
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/café"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("::1", "8000")
    assert environ["REMOTE_ADDR"] == "2001:db8::1"
    assert (environ["CONTENT_LENGTH"], environ["wsgi.input"].read()) == ("4", b"body")
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert (environ["HTTP_X_A"], environ["HTTP_HOST"]) == ("1", "example.org")
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert isinstance(environ["wsgi.errors"], io.StringIO)


def test_an_underscore_does_not_pass_for_a_proxys_word(make_client: MakeClient) -> None:
    """A proxy appends to X-Forwarded-For and leaves X_Forwarded_For as the client wrote it."""
    client = make_client(trusted_proxies=1, rate_limit="1/minute")
    headers = {"x-forwarded-for": "203.0.113.7", "x_forwarded_for": "127.0.0.1"}
    statuses = [ask(client, Wire(), method="GET", path="/api/v1/models", headers=headers)[0] for _ in range(2)]
    assert statuses == [200, 429]
    assert "CONTENT_TYPE" not in environ_of(Head(headers={"content_type": "text/plain"}))


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-"}], ids=["whole", "range"])
def test_files_are_named_and_not_read(client: FlaskClient, headers: dict[str, str]) -> None:
    """Granian reads them piece by piece; a worker that read them would hold one for each client that does not."""
    wire = Wire()
    file = private.STATIC / "css" / "mien.css"
    status, answered, body = ask(client, wire, method="GET", path="/static/css/mien.css", headers=headers)
    assert (status, wire.file, body) == (200, file, b"")
    assert answered["content-length"] == str(file.stat().st_size)
    assert answered["content-type"] == "text/css; charset=utf-8"
    assert "accept-ranges" not in answered
    assert answered["x-content-type-options"] == "nosniff"


def test_files_that_are_not_wanted_are_not_sent(client: FlaskClient) -> None:
    asked: dict[str, Any] = {"path": "/static/css/mien.css"}
    wire = Wire()
    status, answered, body = ask(client, wire, method="HEAD", **asked)
    assert (status, wire.file, body) == (200, None, b"")
    known = {"if-none-match": answered["etag"]}
    status, answered, body = ask(client, wire, method="GET", headers=known, **asked)
    assert (status, wire.file, body) == (304, None, b"")
