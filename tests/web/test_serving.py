"""`mien serve` as users start it: Granian, worker processes, signals, and the lines of docs/api.md."""

import contextlib
import http.client
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from tests.web.browser import free_port

from mien import cli
from mien.web import private, serving
from mien.web.serving import HEAD_BYTES, HEAD_MS
from mien.web.settings import Settings

REPOSITORY = Path(__file__).parents[2]
START_S = 120.0  # on a busy machine
DYING_S = 0.5  # between the signal and the last connection that the kernel still hands to the killed worker


class Service:
    """A running `mien serve`."""

    def __init__(self, *options: str, workers: int = 1) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "mien", "serve", "--port", str(self.port), "--workers", str(workers), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        with self.process.stderr as lines:
            self.log.extend(lines)

    def wait_ready(self, timeout_s: float = START_S) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if self.get("/readyz") == b'{"status":"ok"}\n':
                    return
            assert self.process.poll() is None, self.log
            time.sleep(0.1)
        raise AssertionError(f"not ready in {timeout_s} s: {self.log}")

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.address + path, timeout=10) as answer:
            body = answer.read()
            assert isinstance(body, bytes)
            return body

    def workers(self) -> list[int]:
        """Process ids of the workers: children that run Granian."""
        started = [re.search(r"Spawning worker-(\d+) with PID: (\d+)", line) for line in list(self.log)]
        newest = {found[1]: int(found[2]) for found in started if found}
        return list(newest.values())

    def wait_worker(self, number: int, *, other_than: int) -> None:
        """Return when another process has taken the place of the one that was killed and has begun to listen."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            pid = self.workers()[number]
            if pid != other_than and listens(pid, self.port):
                return
            time.sleep(0.1)
        raise AssertionError(f"worker {number + 1} did not come back: {self.log[-5:]}")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self._reader.join(10)
        return code


def listens(pid: int, port: int) -> bool:
    """Whether the process holds a socket that listens on the port."""
    try:
        lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        fields = [line.split() for line in lines]
        inodes = {field[9] for field in fields if field[1].endswith(f":{port:04X}") and field[3] == "0A"}
        held = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:  # it ended meanwhile, or closed the file
        return False
    return any(f"socket:[{inode}]" in held for inode in inodes)


@pytest.fixture(scope="module")
def service(tiny_onnx: Path) -> Iterator[Service]:
    running = Service("--model", str(tiny_onnx), "--set", "max_wait_s=60", "--set", "max_seconds=120")
    try:
        running.wait_ready()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module", autouse=True)
def idle(service: Service) -> Iterator[dict[str, socket.socket]]:
    """Clients that begin and do not go on, from the start of this file's tests."""
    begun = {
        "nothing": b"",
        "half a head": b"GET / HTTP/1.1\r\nHost: x\r\nX-",
        "one request": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    }
    with contextlib.ExitStack() as stack:
        clients = {name: stack.enter_context(socket.create_connection(("127.0.0.1", service.port))) for name in begun}
        for name, data in begun.items():
            clients[name].sendall(data)
        yield clients


def curl_lines() -> list[str]:
    text = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


@pytest.mark.skipif(shutil.which("curl") is None, reason="apt-get install curl")
def test_curl_lines_of_the_documents(service: Service, grace_hopper: Path, tmp_path: Path) -> None:
    shutil.copy(grace_hopper, tmp_path / "photo.jpg")
    assert len(curl_lines()) >= 6
    for line in curl_lines():
        arguments = shlex.split(
            line.replace("http://127.0.0.1:8000", service.address).replace("$MIEN_SERVE_TOKEN", "x")
        )
        done = subprocess.run(
            [*arguments, "--fail-with-body"], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert json.loads(done.stdout)


def test_the_example_client(service: Service, grace_hopper: Path, tmp_path: Path) -> None:
    script = REPOSITORY / "examples" / "client.py"
    run = [sys.executable, str(script)]
    done = subprocess.run([*run, str(grace_hopper), service.address], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"[a-z]+ \d+% (uncertain)?\n", done.stdout)
    words = tmp_path / "notes.txt"
    words.write_text("no picture", encoding="utf-8")
    failed = subprocess.run([*run, str(words), service.address], capture_output=True, text=True, check=False)
    assert "ServiceError: notes.txt: no picture that mien knows" in failed.stderr


def raw(service: Service, head: str, body: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=30)
    connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
    return connection


SLOW = "POST /api/v1/analyze HTTP/1.1\nHost: x\nContent-Type: multipart/form-data; boundary=b\nContent-Length: 100000"


def test_slow_uploads_hold_nobody_up(service: Service) -> None:
    slow = [raw(service, SLOW, b"--b\r\n") for _ in range(60)]
    try:
        assert service.get("/healthz") == b'{"status":"ok"}\n'
        assert b"mien" in service.get("/")
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.parametrize("length", ["Content-Length: 20000000", "Transfer-Encoding: chunked"])
def test_too_large_bodies_end_early(service: Service, length: str) -> None:
    head = f"POST /api/v1/analyze HTTP/1.1\nHost: x\nContent-Type: multipart/form-data; boundary=b\n{length}"
    with raw(service, head) as connection:
        if "chunked" in length:
            with contextlib.suppress(ConnectionError):  # it is closed before all is sent
                for _ in range(12):
                    connection.sendall(b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n")
        answer = connection.recv(300)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_files_come_whole(service: Service) -> None:
    for path in ("css/mien.css", "img/drawn-faces.webp"):
        assert service.get(f"/static/{path}") == (private.STATIC / path).read_bytes()


@pytest.mark.skipif(not private.available(), reason="make private (needs npm)")
def test_idle_downloads_take_no_memory(service: Service) -> None:
    """Clients that ask for the detector and read nothing; a worker that held a copy for each would grow by 290 MB."""
    worker = service.workers()[0]
    before = resident_mb(worker)
    lines = "GET /private/centerface.onnx HTTP/1.1\nHost: localhost"
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(raw(service, lines)) for _ in range(40)]
        for connection in idle:
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert resident_mb(worker) - before < 100


def send_endlessly(connection: socket.socket, data: bytes, *, times: int) -> None:
    for _ in range(times):
        connection.sendall(data)


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_log_is_json_lines(service: Service) -> None:
    lines = [json.loads(line) for line in list(service.log) if not line.startswith("mien: ")]
    assert any(line["message"] == "request" for line in lines)


def test_metrics_of_the_workers(service: Service) -> None:
    text = service.get("/metrics").decode()
    assert 'mien_requests_total{endpoint="/readyz",status="200"}' in text
    assert "mien_queue_depth" in text


@pytest.mark.parametrize("name", ["nothing", "half a head", "one request", "HTTP/2"])
def test_idle_connections_are_closed(idle: dict[str, socket.socket], name: str) -> None:
    """Or so many of them as a worker may have would shut everybody else out."""
    idle[name].settimeout(HEAD_MS / 1000 + 10)
    with contextlib.suppress(ConnectionError):
        while idle[name].recv(4096):
            pass


def test_heads_are_small(service: Service) -> None:
    with raw(service, f"GET /healthz HTTP/1.1\nHost: x\nX-Long: {'x' * 4 * HEAD_BYTES}") as connection:
        assert connection.recv(12) == b"HTTP/1.1 431"


def test_old_clients_are_answered(service: Service) -> None:
    with raw(service, "GET /healthz HTTP/1.0") as connection:
        assert connection.recv(15) == b"HTTP/1.0 200 OK"


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/nowhere", "/healthz", "/metrics", "/api/v1/models"])
@pytest.mark.parametrize("length", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
def test_a_gigabyte_is_refused_at_once(service: Service, path: str, length: str) -> None:
    worker = service.workers()[0]
    before = resident_mb(worker)
    with raw(service, f"POST {path} HTTP/1.1\nHost: x\n{length}") as connection:
        assert connection.recv(12) in (b"HTTP/1.1 404", b"HTTP/1.1 405")
        with pytest.raises(ConnectionError):
            send_endlessly(connection, b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n", times=1000)
    assert resident_mb(worker) - before < 20


@pytest.mark.parametrize(
    "path",
    ["/static/../settings.py", "/static/..%2fsettings.py", "/static/%2e%2e/settings.py", "/static/..%5csettings.py",
     "/static/%2fetc/passwd", "/static//etc/passwd", "/static/css/mien.css%00.png", "/samples/..%2f..%2fapp.py",
     "/private/baseline.onnx", "/static/"],
)  # fmt: skip
def test_no_path_leads_out_of_the_folder(service: Service, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    connection.request("GET", path)
    with connection.getresponse() as answer:
        assert (answer.status, answer.getheader("Content-Type")) == (404, "application/problem+json")
    connection.close()


def test_stop_finishes_what_is_in_flight(tiny_onnx: Path, grace_hopper: Path) -> None:
    running = Service("--model", str(tiny_onnx), "--set", "max_wait_s=60", "--set", "max_seconds=120")
    try:
        running.wait_ready()
        answers: list[Any] = []
        form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        body = form + grace_hopper.read_bytes() + b"\r\n--b--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        request = urllib.request.Request(f"{running.address}/api/v1/analyze", body, headers)

        def ask() -> None:
            with urllib.request.urlopen(request, timeout=60) as answer:
                answers.append(json.load(answer))

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.1)
        assert running.stop() == 0
        asking.join(60)
        assert len(answers[0][0]["faces"]) == 1
        with pytest.raises(urllib.error.URLError):
            running.get("/healthz")
    finally:
        running.stop()


@dataclass
class Asked:
    """One request of a `Load`; status 0 where the connection broke."""

    started: float
    ended: float
    status: int


class Load:
    """Clients that analyse one picture after the other, each on a new connection, until the block ends."""

    def __init__(self, service: Service, picture: bytes, *, clients: int) -> None:
        head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        self.clients = clients
        self.asked: list[Asked] = []
        self._port = service.port
        self._body = head + picture + b"\r\n--b--\r\n"
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(90)

    def wait_answered(self, *, since: float, timeout_s: float) -> float:
        """Seconds from `since` to the first analysis that began after it."""
        while time.monotonic() < since + timeout_s:
            for one in list(self.asked):
                if one.started > since and one.status == 200:
                    return one.ended - since
            time.sleep(0.02)
        raise AssertionError(f"no answer within {timeout_s} s")

    def _ask_on(self) -> None:
        while not self._over.is_set():
            started = time.monotonic()
            status = self._ask()
            self.asked.append(Asked(started, time.monotonic(), status))
            if status != 200:
                time.sleep(0.1)

    def _ask(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        try:
            connection.request("POST", "/api/v1/analyze?detection=fast", self._body, headers)
            with connection.getresponse() as answer:
                answer.read()
                return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_killed_workers_come_back(kills: int, tiny_onnx: Path, grace_hopper: Path) -> None:
    """Under load a worker is killed: analyses go on within 5 s, and only requests that were in flight are lost."""
    picture = PIL.Image.open(grace_hopper).resize((256, 300))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    running = Service("--model", str(tiny_onnx), workers=2)
    deaths: list[float] = []
    try:
        running.wait_ready()
        with Load(running, buffer.getvalue(), clients=4) as load:
            for number in range(kills):
                load.wait_answered(since=time.monotonic(), timeout_s=START_S)
                before = running.workers()
                deaths.append(time.monotonic())
                os.kill(before[number % 2], signal.SIGKILL)
                assert load.wait_answered(since=deaths[-1], timeout_s=30) < 5
                running.wait_worker(number % 2, other_than=before[number % 2])
    finally:
        running.stop()
    assert {one.status for one in load.asked} <= {200, 503, 0}
    lost = [one for one in load.asked if one.status == 0]
    assert all(any(one.started - DYING_S < death <= one.ended for death in deaths) for one in lost)
    assert len(lost) <= kills * load.clients
    assert sum(one.status == 200 for one in load.asked) > kills


def test_workers_end_with_a_killed_main_process(tiny_onnx: Path) -> None:
    """Or they would serve on unwatched, and nobody else could have the port."""
    killed = Service("--model", str(tiny_onnx), "--host", "localhost")
    killed.wait_ready()
    workers = killed.workers()
    killed.process.kill()
    killed.stop()
    end = time.monotonic() + 60
    while any(listens(pid, killed.port) for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_one_stream_that_is_a_terminal_is_enough() -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower) as terminal, Path(os.devnull).open(encoding="utf-8") as file:
        assert serving.on_terminal(file, None, terminal)
        assert not serving.on_terminal(file, None, file)
    os.close(leader)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_end_of_a_terminal(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
    monkeypatch.setattr(serving, "on_terminal", lambda *streams: terminal)
    server = serving._Server("nowhere:app", interface="rsgi")
    server.main_loop_interrupt = threading.Event()
    server.signal_handler_reload()
    assert (server.interrupt_signal, server.reload_signal) == (terminal, not terminal)


def test_a_service_whose_workers_cannot_start_ends(tmp_path: Path) -> None:
    """One worker, so that its ends are too far apart to count as a loop by their time alone."""
    settings = f"Settings(models=({str(tmp_path / 'gone.onnx')!r},))"
    code = (
        "from mien.web.serving import Address, serve; from mien.web.settings import Settings;"
        f"serve({settings}, Address(port={free_port()}, workers=1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=START_S)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == serving.FAILED_STARTS
    assert "no worker comes as far as to serve" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--host", "0.0.0.0"], "MIEN_SERVE_TOKEN", id="other machines without a token"),
        pytest.param(["--set", "max_face=1"], "max_faces", id="unknown setting"),
        pytest.param(["--model", "no-such-model"], "no-such-model", id="unknown model"),
        pytest.param(["--detector", "none"], "centerface or yunet", id="no detector"),
        pytest.param(["--set", "rate_limit=40 a second"], "40 per second", id="no rate"),
        pytest.param(["--set", "fast_side_px=16"], "from 32 to", id="too small for the detector"),
    ],
)
def test_refusals(
    options: list[str],
    words: str,
    tiny_onnx: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = [] if "--model" in options else ["--model", str(tiny_onnx)]
    monkeypatch.setattr(sys, "argv", ["mien", "serve", *options, *model])
    monkeypatch.setattr(serving, "serve", lambda *_: pytest.fail("it serves"))  # and would not end
    monkeypatch.delenv("MIEN_SERVE_TOKEN", raising=False)
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr()
    assert (end.value.code, printed.out) == (2, "")
    assert words in printed.err


@pytest.mark.parametrize(
    ("given", "token"),
    [
        pytest.param("0123456789abcdef\n", "0123456789abcdef", id="newline at the end of a secret's file"),
        pytest.param("\n", None, id="nothing"),
    ],
)
def test_the_token_is_taken_without_its_newline(
    given: str, token: str | None, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(serving, "serve", lambda settings, address: served.append(settings))
    monkeypatch.setattr(sys, "argv", ["mien", "serve", "--model", str(tiny_onnx)])
    monkeypatch.setenv("MIEN_SERVE_TOKEN", given)
    with contextlib.suppress(SystemExit):
        cli.main()
    assert [settings.token for settings in served] == [token]


def test_a_port_is_not_shared(
    service: Service, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Granian's sockets would share it, and each service answer half of the requests."""
    command = ["mien", "serve", "--port", str(service.port), "--model", str(tiny_onnx)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert f"cannot listen on 127.0.0.1:{service.port}" in capsys.readouterr().err


def test_no_place_for_temporary_files_is_not_the_ports_fault(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nowhere(**options: Any) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(serving.tempfile, "TemporaryDirectory", nowhere)
    monkeypatch.setattr(serving, "free_address", lambda address: address.host)
    monkeypatch.setattr(sys, "argv", ["mien", "serve", "--model", str(tiny_onnx)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("mien: No usable temporary directory found\n")


def test_serving_stays_clear_of_torch() -> None:
    heavy = ("torch", "matplotlib", "onnx")
    code = f"import sys, mien.web.serving; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
