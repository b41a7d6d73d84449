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
from mien.web.bodies import Bodies
from mien.web.edge import Edge, environ_of
from mien.web.errors import Busy

TOKEN = "a-token-of-16-characters"
FORM = {"content-type": "multipart/form-data; boundary=b"}


@dataclass
class Head:
    """A request's head in the form of Granian's RSGI."""

    method: str = "POST"
    path: str = "/api/v1/analyze"
    query_string: str = ""
    headers: dict[str, str] = field(default_factory=lambda: dict(FORM))
    proto: str = "http"
    http_version: str = "1.1"
    server: str = "127.0.0.1:8000"
    client: str = "127.0.0.1:50000"
    scheme: str = "http"


class Wire:
    """The other half: chunks in, the answer out."""

    def __init__(self, *chunks: bytes, stall_s: float = 0.0) -> None:
        self.chunks = chunks
        self.stall_s = stall_s
        self.read = 0
        self.bodies: Bodies | None = None
        self.most_held_bytes = 0
        self.answer: tuple[int, dict[str, str], bytes] | None = None
        self.file: Path | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            await asyncio.sleep(self.stall_s)
            self.read += 1
            yield chunk
            if self.bodies:
                self.most_held_bytes = max(self.most_held_bytes, self.bodies.held_bytes)

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
    wire.bodies = around._bodies
    asyncio.run(around.__rsgi__(Head(**head), wire))
    assert around._bodies.held_bytes == 0
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
    status, answered, content = ask(client, wire, headers={**FORM, "content-length": str(len(body))})
    assert (status, kind(content)) == (422, "unreadable-image")
    assert answered["x-content-type-options"] == "nosniff"


def test_an_announced_size_is_refused_unread(client: FlaskClient) -> None:
    wire = Wire(b"x" * 1000)
    status, answered, content = ask(client, wire, headers={**FORM, "content-length": "1000000000"})
    assert (status, kind(content), wire.read) == (413, "too-large", 0)
    assert answered["connection"] == "close"


def test_an_endless_body_ends_at_the_limit(make_client: MakeClient) -> None:
    wire = Wire(*[b"x" * 1000] * 50)
    headers = {**FORM, "transfer-encoding": "chunked"}
    status, answered, content = ask(make_client(max_request_bytes=5000), wire, headers=headers)
    assert (status, kind(content), answered["connection"]) == (413, "too-large", "close")
    assert (wire.read, wire.most_held_bytes) == (6 + 21, 5000)  # kept, and read to be forgotten


def test_a_slow_body_is_given_up(make_client: MakeClient) -> None:
    status, _, content = ask(make_client(max_upload_s=0.05), Wire(b"a", b"b", stall_s=0.04))
    assert (status, kind(content)) == (408, "too-slow")


def test_bodies_share_a_bound(client: FlaskClient) -> None:
    around = edge_of(client)
    around._bodies.together_bytes = 1500
    wire = Wire(b"x" * 1000, b"x" * 1000)
    asyncio.run(around.__rsgi__(Head(), wire))
    assert wire.answer
    assert (wire.answer[0], kind(wire.answer[2]), wire.answer[1]["retry-after"]) == (503, "busy", "1")


NEAR, FAR = "127.0.0.1:50000", "203.0.113.7:50000"


@pytest.mark.parametrize(
    ("proxies", "client_at", "forwarded", "status"),
    [
        pytest.param(0, FAR, None, 503, id="the one that stalls"),
        pytest.param(0, "198.51.100.1:50000", None, 422, id="another"),
        pytest.param(0, FAR, "198.51.100.1", 503, id="the one, under another's name"),
        pytest.param(1, NEAR, "198.51.100.1, 203.0.113.7", 503, id="the one, under another's name behind a proxy"),
        pytest.param(1, NEAR, "203.0.113.7, 198.51.100.1", 422, id="another behind the proxy"),
    ],
)
def test_one_client_cannot_hold_all_bodies(
    make_client: MakeClient, proxies: int, client_at: str, forwarded: str | None, status: int
) -> None:
    """Somebody has sent as much as one client may, and stalls."""
    around = edge_of(make_client(trusted_proxies=proxies))
    around._bodies.client_bytes = 1000
    wire = Wire(multipart(b"words"))
    head = Head(headers={**FORM, **({"x-forwarded-for": forwarded} if forwarded else {})}, client=client_at)

    async def crowd() -> None:
        with around._bodies.holding("203.0.113.7") as stalled:
            await stalled.read(0, Wire(b"x" * 1000))
            await around.__rsgi__(head, wire)

    asyncio.run(crowd())
    assert wire.answer
    assert wire.answer[0] == status
    assert (around._bodies.held_bytes, dict(around._bodies._of_client)) == (0, {})


def test_a_heavy_client_waits_while_another_gets_nothing(client: FlaskClient, picture: Picture) -> None:
    around, gate = edge_of(client), client.application.extensions["mien"].gate  # type: ignore[attr-defined]
    heavy, light = "203.0.113.7:4000", "198.51.100.1:4000"

    def status(client_at: str) -> int:
        wire = Wire(multipart(picture()))
        asyncio.run(around.__rsgi__(Head(client=client_at), wire))
        assert wire.answer
        return wire.answer[0]

    assert status(heavy) == 200
    assert around._shares._of("203.0.113.7") > 0
    around._shares.spent("203.0.113.7", 60)
    with gate.turn():  # whose time is not known to anybody
        gate._wait_s = 0
        assert [status(light), status(heavy)] == [503, 503]
    gate._wait_s = 10
    assert [status(heavy), status(light), status(heavy)] == [503, 200, 503]


@pytest.mark.parametrize("path", ["/api/v1/analyze?model=zzz", "/api/v1/analyze"])
def test_a_refused_form_keeps_nobody_waiting(client: FlaskClient, picture: Picture, path: str) -> None:
    around = edge_of(client)
    around._shares.spent("203.0.113.7", 60)
    address, _, query = path.partition("?")
    body = multipart(picture()) if query else b"--b--\r\n"
    wire = Wire(body)
    asyncio.run(around.__rsgi__(Head(path=address, query_string=query, client="198.51.100.1:4000"), wire))
    assert wire.answer
    assert wire.answer[0] == 422
    around._shares.check("203.0.113.7")


def test_clients_on_loopback_share_an_address_and_no_limit(client: FlaskClient) -> None:
    around = edge_of(client)
    around._bodies.client_bytes = 10
    wire = Wire(multipart(b"words"))
    asyncio.run(around.__rsgi__(Head(), wire))
    assert wire.answer
    assert wire.answer[0] == 422


def test_a_larger_request_has_room_too(make_client: MakeClient) -> None:
    bodies = edge_of(make_client(max_request_bytes=100_000_000))._bodies
    assert bodies.client_bytes == 100_000_000
    assert bodies.together_bytes == 300_000_000


def test_a_body_that_ends_early_is_not_analysed(client: FlaskClient) -> None:
    body = multipart(b"words")
    headers = {**FORM, "content-length": str(len(body) + 1)}
    status, _, content = ask(client, Wire(body), headers=headers)
    assert (status, kind(content)) == (400, "bad-request")
    assert "ended after" in json.loads(content)["detail"]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/nowhere", 404),
        ("POST", "/api/v1/nowhere", 404),
        ("POST", "/api//v1/analyze", 404),
        ("POST", "/healthz", 405),
        ("POST", "/private/default.onnx", 405),
        ("PUT", "/api/v1/analyze", 405),
        ("GET", "/healthz", 200),
        ("OPTIONS", "/api/v1/analyze", 200),
    ],
)
def test_bodies_that_nobody_wants_are_forgotten_or_cut_off(
    make_client: MakeClient, method: str, path: str, expected: int
) -> None:
    """Small ones come to their end, so that the client sees its answer; nothing of them is kept."""
    client = make_client(max_request_bytes=1000)
    small, large, endless, asks = (Wire(*[b"x" * 500] * 30) for _ in range(4))
    small.chunks = small.chunks[:6]
    lengths = [
        (small, {"content-length": "3000"}),
        (large, {"content-length": "1000000000"}),
        (endless, {"transfer-encoding": "chunked"}),
        (asks, {"content-length": "10", "expect": "100-continue"}),
    ]
    found = []
    for wire, length in lengths:
        status, answered, _ = ask(client, wire, method=method, path=path, headers={**FORM, **length})
        assert (status, wire.most_held_bytes) == (expected, 0)
        found.append((wire.read, answered.get("connection")))
    assert found == [(6, None), (0, "close"), (9, "close"), (0, "close")]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_somewhat_too_large_comes_to_its_end(make_client: MakeClient, chunked: bool) -> None:
    wire = Wire(*[b"x" * 500] * 6)
    headers = {**FORM, **({"transfer-encoding": "chunked"} if chunked else {"content-length": "3000"})}
    status, answered, content = ask(make_client(max_request_bytes=1000), wire, headers=headers)
    assert (status, kind(content), wire.read) == (413, "too-large", 6)
    assert "connection" not in answered


def test_a_body_that_is_no_form_is_not_kept(client: FlaskClient) -> None:
    wire = Wire(b"{}")
    status, _, content = ask(client, wire, headers={"content-type": "application/json", "content-length": "2"})
    assert (status, kind(content), wire.most_held_bytes) == (415, "not-multipart", 0)


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
def test_a_body_without_the_token_is_not_kept(make_client: MakeClient, path: str, sent: str | None) -> None:
    wire = Wire(b"x" * 1000)
    headers = {**FORM, "content-length": "1000", **({} if sent is None else {"authorization": sent})}
    status, answered, content = ask(make_client(token=TOKEN), wire, path=path, headers=headers)
    assert (status, kind(content), wire.most_held_bytes) == (401, "unauthorized", 0)
    assert answered["www-authenticate"] == 'Bearer realm="mien"'


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
        headers={
            "content-type": "text/plain",
            "content-length": "999",
            "transfer-encoding": "chunked",
            "x-a": "1",
            "host": "example.org",
        },
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
