import json
import logging
import struct
import threading
import time
import zlib
from contextlib import nullcontext

import pytest
from flask.testing import FlaskClient
from tests.web.conftest import MakeClient, Picture, form

from mien.errors import ConfigError
from mien.web.errors import Busy
from mien.web.gate import Gate
from mien.web.settings import Settings, check_exposure, is_loopback

TOKEN = "0123456789abcdef-token"


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def kind_of(data: bytes) -> str:
    kind = json.loads(data)["type"]
    assert isinstance(kind, str)
    return kind.rpartition(":")[2]


def test_pixels_are_counted_before_decoding(client: FlaskClient) -> None:
    started = time.monotonic()
    answer = client.post("/api/v1/analyze", data=form(png_header(50_000, 50_000)))
    assert (answer.status_code, kind_of(answer.data)) == (422, "unreadable-image")
    assert "40 million pixels" in json.loads(answer.data)["detail"]
    assert time.monotonic() - started < 2


def test_bytes_of_a_request(make_client: MakeClient, picture: Picture) -> None:
    answer = make_client(max_request_bytes=10_000).post("/api/v1/analyze", data=form(picture()))
    assert (answer.status_code, kind_of(answer.data)) == (413, "too-large")


def test_images_of_a_request(make_client: MakeClient, picture: Picture) -> None:
    answer = make_client(max_images=2).post("/api/v1/analyze", data=form(*[picture()] * 3))
    assert (answer.status_code, kind_of(answer.data)) == (413, "too-many-images")


def test_pixels_of_a_request(make_client: MakeClient, picture: Picture) -> None:
    client = make_client(max_request_pixels=2 * 120 * 80)
    client_of_two, client_of_three = (client.post("/api/v1/analyze", data=form(*[picture()] * n)) for n in (2, 3))
    assert client_of_two.status_code == 200
    assert (client_of_three.status_code, kind_of(client_of_three.data)) == (413, "too-large")
    assert "19,200 pixels together" in json.loads(client_of_three.data)["detail"]


def test_time_of_a_request(make_client: MakeClient, picture: Picture) -> None:
    answer = make_client(max_seconds=1e-9).post("/api/v1/analyze", data=form(picture()))
    assert (answer.status_code, kind_of(answer.data)) == (503, "busy")
    assert answer.headers["Retry-After"] == "2"


def test_requests_in_flight(make_client: MakeClient, picture: Picture) -> None:
    client = make_client(max_running=1, max_waiting=0)
    gate = client.application.extensions["mien"].gate
    with gate.turn():
        answer = client.post("/api/v1/analyze", data=form(picture()))
        assert client.get("/healthz").status_code == 200
    assert (answer.status_code, kind_of(answer.data)) == (503, "busy")
    assert answer.headers["Retry-After"] == "1"
    assert client.post("/api/v1/analyze", data=form(picture())).status_code == 200


def test_gate_serves_in_order_and_refuses_beyond_its_places() -> None:
    gate = Gate(running=1, waiting=2, wait_s=10)
    order: list[int] = []

    def take(number: int) -> None:
        with gate.turn():
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(2)]
    with gate.turn():
        for number, thread in enumerate(threads):
            thread.start()
            while gate.waiting <= number:
                time.sleep(0.001)
        with pytest.raises(Busy), gate.turn():
            pass
        assert order == []
    for thread in threads:
        thread.join(10)
    assert order == [0, 1]
    assert gate.waiting == 0


@pytest.mark.parametrize(
    ("usual_s", "ahead", "refused"),
    [
        pytest.param(0.0, 3, False, id="nothing known yet"),
        pytest.param(0.0, 4, True, id="no place"),
        pytest.param(0.2, 2, False, id="0.3 s of wait"),
        pytest.param(0.2, 3, False, id="0.5 s of wait"),
        pytest.param(0.3, 3, True, id="0.75 s of wait"),
        pytest.param(9.0, 0, False, id="a free service takes long work too"),
    ],
)
def test_gate_forecasts_the_wait(usual_s: float, ahead: int, refused: bool) -> None:
    gate = Gate(running=1, waiting=3, wait_s=0.6)
    gate._usual_s = usual_s
    with pytest.raises(Busy) if refused else nullcontext():
        gate.forecast(ahead)


def test_gate_learns_how_long_turns_take() -> None:
    gate = Gate(running=1, waiting=3, wait_s=0.001)
    for _ in range(3):
        with gate.turn():
            time.sleep(0.01)
    with pytest.raises(Busy, match="No turn would come"):
        gate.forecast(1)


def test_a_wait_counts_from_the_arrival() -> None:
    gate = Gate(running=1, waiting=1, wait_s=5)
    with gate.turn(), pytest.raises(Busy), gate.turn(since=time.monotonic() - 6):
        pass
    with gate.turn(since=time.monotonic() - 2) as waited_s:
        assert 2 <= waited_s < 3


def test_gate_gives_up_when_no_turn_comes() -> None:
    gate = Gate(running=1, waiting=1, wait_s=0.02)
    with gate.turn():
        with pytest.raises(Busy), gate.turn():
            pass
        assert gate.waiting == 0
    with gate.turn() as waited_s:
        assert waited_s < 1


def test_rate_of_a_client(make_client: MakeClient) -> None:
    client = make_client(rate_limit="3 per minute")
    far = {"REMOTE_ADDR": "203.0.113.7"}
    statuses = [client.get("/api/v1/models", environ_base=far).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    refused = client.get("/api/v1/models", environ_base=far)
    assert refused.headers["Retry-After"]
    assert kind_of(refused.data) == "rate-limited"
    assert client.post("/api/v1/analyze", environ_base=far).status_code == 429, "all calls count together"
    assert client.get("/api/v1/models", environ_base={"REMOTE_ADDR": "203.0.113.8"}).status_code == 200
    assert {client.get("/api/v1/models").status_code for _ in range(9)} == {200}  # loopback
    assert {client.get("/healthz", environ_base=far).status_code for _ in range(9)} == {200}


CLIENTS = {
    "one network of IPv6": ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", [200, 429]),
    "two networks of IPv6": ("2001:db8:1:2::1", "2001:db8:1:3::1", [200, 200]),
    "IPv4, mapped": ("::ffff:198.51.100.1", "::ffff:198.51.100.2", [200, 200]),
    "with ports": ("198.51.100.1:4711", "198.51.100.1:4712", [200, 429]),
    "IPv6 with ports": ("[2001:db8::1]:4711", "[2001:db8::1]:4712", [200, 429]),
    "no addresses": ("_hidden", "unknown", [200, 200]),
    "an open quote before a comma": ('"x, 203.0.113.9', '[127.0.0.1]"x, 203.0.113.9', [200, 429]),
    "claims to be this machine": ("127.0.0.1", "127.0.0.1", [200, 429]),
}


@pytest.mark.parametrize(("first", "second", "statuses"), CLIENTS.values(), ids=CLIENTS)
def test_who_is_one_client(make_client: MakeClient, first: str, second: str, statuses: list[int]) -> None:
    client = make_client(rate_limit="1 per minute", trusted_proxies=1)
    place = {"REMOTE_ADDR": "203.0.113.7"}
    answers = [
        client.get("/api/v1/models", headers={"X-Forwarded-For": one}, environ_base=place) for one in (first, second)
    ]
    assert [answer.status_code for answer in answers] == statuses


def test_a_forwarded_address_counts_behind_a_trusted_proxy_only(make_client: MakeClient) -> None:
    def statuses(**settings: object) -> list[int]:
        client = make_client(rate_limit="1 per minute", **settings)
        clients = ("198.51.100.1", "198.51.100.2")
        place = {"REMOTE_ADDR": "203.0.113.7"}
        return [
            client.get("/api/v1/models", headers={"X-Forwarded-For": one}, environ_base=place).status_code
            for one in clients
        ]

    assert statuses() == [200, 429]
    assert statuses(trusted_proxies=1) == [200, 200]


@pytest.mark.parametrize("path", ["/api/v1/models", "/metrics"])
def test_guesses_at_the_token_count(make_client: MakeClient, path: str) -> None:
    client = make_client(token=TOKEN, rate_limit="2 per minute")
    place = {"REMOTE_ADDR": "203.0.113.7"}
    answers = [
        client.get(path, headers={"Authorization": f"Bearer guess-{n}"}, environ_base=place).status_code
        for n in range(3)
    ]
    assert answers == [401, 401, 429]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/api/v1/nothing", 404), ("GET", "/api/v1/analyze", 405)]
)
def test_an_address_that_is_none_tells_nothing_of_the_token(
    make_client: MakeClient, method: str, path: str, status: int
) -> None:
    client = make_client(token=TOKEN)
    for token in (TOKEN, "wrong"):
        answer = client.open(path, method=method, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("header", "status"),
    [
        pytest.param(None, 401, id="none"),
        pytest.param("Bearer wrong-wrong-wrong", 401, id="wrong"),
        pytest.param(f"Basic {TOKEN}", 401, id="another scheme"),
        pytest.param("Bearer \u00e9", 401, id="not ASCII"),
        pytest.param(f"Bearer {TOKEN}", 200, id="right"),
        pytest.param(f"bearer {TOKEN}", 200, id="scheme in lower case"),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/models", "/metrics"])
def test_token(make_client: MakeClient, path: str, header: str | None, status: int) -> None:
    client = make_client(token=TOKEN)
    answer = client.get(path, headers={"Authorization": header} if header else {})
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert kind_of(answer.data) == "unauthorized"
    assert {client.get(open_path).status_code for open_path in ("/", "/healthz", "/readyz", "/openapi")} == {200}


@pytest.mark.parametrize("path", ["/", "/live", "/healthz", "/api/v1/models", "/nowhere", "/static/css/mien.css"])
def test_headers_of_every_answer(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    answer.close()
    headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "camera=(self)" in headers["Permissions-Policy"]
    assert "Access-Control-Allow-Origin" not in headers
    assert "Server" not in headers


def test_other_sites_may_call_only_when_named(make_client: MakeClient) -> None:
    client = make_client(cors_origins=("https://good.example",), token=TOKEN)
    good, bad = {"Origin": "https://good.example"}, {"Origin": "https://bad.example"}
    allowed = client.get("/api/v1/models", headers=good).headers
    assert allowed["Access-Control-Allow-Origin"] == good["Origin"]
    assert allowed["Access-Control-Expose-Headers"] == "Retry-After, X-Request-ID"
    assert "Access-Control-Allow-Origin" not in client.get("/api/v1/models", headers=bad).headers
    before = client.options("/api/v1/analyze", headers={**good, "Access-Control-Request-Method": "POST"})
    assert before.status_code == 204
    assert before.headers["Access-Control-Allow-Headers"] == "Authorization"


def test_log_lines_have_counts_and_no_names(
    client: FlaskClient, picture: Picture, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "mien.web"):
        client.post("/api/v1/analyze?model=", data=form(picture(), names=["secret-person.png"]))
        client.post("/api/v1/analyze", data=form(picture(), names=["secret-person.png"]))
        client.get("/secret-person.png")
    fields = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert fields[1]["faces"] == 2
    assert fields[1]["images"] == 1
    assert fields[1]["route"] == "/api/v1/analyze"
    assert {"request_id", "ms", "status", "waited_s"} <= fields[1].keys()
    assert "secret" not in json.dumps(fields)
    assert "127.0.0.1" not in json.dumps(fields)


def test_a_fault_of_ours_is_told_without_its_words(
    client: FlaskClient, picture: Picture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mien.web import logs, service  # noqa: PLC0415

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("secret-person.png")

    monkeypatch.setattr(service, "analyze", fail)
    with caplog.at_level(logging.INFO, "mien.web"):
        answer = client.post("/api/v1/analyze", data=form(picture()))
    assert (answer.status_code, kind_of(answer.data)) == (500, "internal")
    assert "secret" not in answer.text
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    line = json.loads(logs.JsonLines().format(record))
    assert line["error"] == "RuntimeError"
    assert any("analyze" in place for place in line["places"])
    assert "secret" not in json.dumps(line)


def test_request_ids_are_taken_over_when_harmless(client: FlaskClient) -> None:
    sent = "0123-abcd-4567"
    assert client.get("/healthz", headers={"X-Request-ID": sent}).headers["X-Request-ID"] == sent
    assert client.get("/healthz", headers={"X-Request-ID": "<script>alert()"}).headers["X-Request-ID"] != sent


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False),
     ("::", False), ("192.168.1.5", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_other_addresses_need_a_token_or_a_word() -> None:
    with pytest.raises(ConfigError, match="--public"):
        check_exposure("0.0.0.0", token=None, public=False)
    check_exposure("0.0.0.0", token=TOKEN, public=False)
    check_exposure("0.0.0.0", token=None, public=True)
    check_exposure("127.0.0.1", token=None, public=False)


def test_settings_survive_the_environment() -> None:
    settings = Settings(models=("a", "b"), max_wait_s=0.25, cors_origins=("https://x.example",), token=TOKEN)
    assert Settings.from_environment(settings.to_environment()) == settings
    assert Settings.from_environment({}) == Settings()


def test_settings_from_texts() -> None:
    changed = Settings().with_texts(
        ["max_faces=3", "max_wait_s=0.5", "cors_origins=https://a.example, http://[::1]:3000,", "fast_side_px=32"]
    )
    assert (changed.max_faces, changed.max_wait_s, changed.fast_side_px) == (3, 0.5, 32)
    assert changed.cors_origins == ("https://a.example", "http://[::1]:3000")


def test_a_rate_may_have_parts(make_client: MakeClient) -> None:
    client = make_client(rate_limit="2/minute; 100 per hour")
    far = {"REMOTE_ADDR": "203.0.113.7"}
    assert [client.get("/api/v1/models", environ_base=far).status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("max_face=3", "max_faces", id="unknown name lists the known"),
        pytest.param("max_faces", "name=value", id="no value"),
        pytest.param("max_faces=many", "must be a int", id="no number"),
        pytest.param("max_faces=0", "from 1 to", id="out of range"),
        pytest.param("max_wait_s=-1", "from 0 to", id="negative"),
        pytest.param("token=0123456789abcdef", "MIEN_SERVE_TOKEN", id="token on the command line"),
        pytest.param("cors_origins=*", "name origins", id="everybody"),
        pytest.param("cors_origins=https://a.example/", "scheme://host", id="origin with a slash"),
        pytest.param("cors_origins=https://a.example,b.example", "'b.example'", id="origin without a scheme"),
        pytest.param("cors_origins=null", "scheme://host", id="origin of sandboxed pages"),
        pytest.param("cors_origins=https://A.example", "lower case", id="origin in upper case"),
        pytest.param("cors_origins=https://a.example:443", "own port", id="origin with the scheme's own port"),
        pytest.param("rate_limit=40 a second", "40 per second", id="rate in other words"),
        pytest.param("rate_limit=", "40 per second", id="no rate"),
        pytest.param("rate_limit=0 per second", "nobody", id="rate of nothing"),
        pytest.param("fast_side_px=-5", "from 32 to", id="negative side"),
        pytest.param("fast_side_px=31", "from 32 to", id="side that detectors refuse"),
        pytest.param("threads=100000", "to 256", id="more threads than start"),
        pytest.param("max_seconds=0", "more", id="no time"),
        pytest.param("max_wait_s=nan", "to 86,400", id="wait of no number"),
        pytest.param("max_wait_s=inf", "to 86,400", id="wait for ever"),
        pytest.param("max_request_bytes=9999999999", "from 1 to 2,147,483,647", id="body beyond memory"),
    ],
)
def test_settings_refuse(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings().with_texts([text])


def test_short_tokens_are_refused() -> None:
    with pytest.raises(ConfigError, match="16 characters"):
        Settings(token="short")


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f"{TOKEN} x", f"{TOKEN}\u00e9", f"{TOKEN}\udcff"])
def test_tokens_that_no_header_carries_are_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="white space"):
        Settings(token=token)
