"""Downloads against a local server that keeps ranges, drops connections, and lies; Kaggle's client is a fake."""

import hashlib
import http.server
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from tests.datasets.conftest import write_tree

from mien import hub
from mien.datasets import download
from mien.errors import DownloadError, MissingExtraError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """One file at every path. `plan` holds what to do with each request in turn; after it, all goes well."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.plan: list[str] = []
        self.ranges: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        action = self.server.plan.pop(0) if self.server.plan else ""
        if action.isdecimal():
            self.send_error(int(action))
            return
        content = self.server.content
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and action != "no ranges" else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if action != "no length":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        self.wfile.write(rest[: len(rest) // 2] if action == "drop" else rest)

    def log_message(self, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr(hub, "RETRY_WAITS_S", (0.0, 0.0))
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


def fetch(server: Server, path: Path, progress: hub.Progress | None = None) -> Path:
    return hub.download(server.url, path, size=len(CONTENT), sha256=SHA256, progress=progress, timeout_s=5)


HALF, THREE_QUARTERS = len(CONTENT) // 2, len(CONTENT) * 3 // 4


@pytest.mark.parametrize(("plan", "ranges"), [
    pytest.param([], [None], id="all goes well"),
    pytest.param(["drop"], [None, f"bytes={HALF}-"], id="dropped half way"),
    pytest.param(["drop", "drop"], [None, f"bytes={HALF}-", f"bytes={THREE_QUARTERS}-"], id="dropped twice"),
    pytest.param(["drop", "no ranges"], [None, f"bytes={HALF}-"], id="a server without ranges starts again"),
    pytest.param(["503", "429"], [None, None, None], id="busy twice"),
    pytest.param(["no length"], [None], id="no length told"),
])  # fmt: skip
def test_the_whole_file_arrives(server: Server, tmp_path: Path, plan: list[str], ranges: list[str | None]) -> None:
    server.plan = plan
    path = fetch(server, tmp_path / "new" / "file.bin")
    assert path.read_bytes() == CONTENT
    assert server.ranges == ranges
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_a_killed_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.partial").write_bytes(CONTENT[:1000])
    seen: list[tuple[int, int]] = []
    fetch(server, tmp_path / "file.bin", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_leftovers_of_another_version_are_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.partial").write_bytes(b"old" * 100)
    assert fetch(server, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.ranges == ["bytes=300-", None]


def test_a_whole_file_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    fetch(server, tmp_path / "file.bin")
    assert server.ranges == []


@pytest.mark.parametrize(("change", "plan", "message", "requests"), [
    pytest.param(lambda data: b"x" + data[1:], [], "is not the file that mien expects: sha256", 1, id="other bytes"),
    pytest.param(lambda data: data[:-1], [], "1048575 bytes, not 1048576", 1, id="shorter"),
    pytest.param(lambda data: data + b"x", [], "1048577 bytes, not 1048576", 1, id="longer"),
    pytest.param(lambda data: data[:HALF], ["no length"], f"shorter than {len(CONTENT)}", 2, id="shorter, unsaid"),
    pytest.param(lambda data: data, ["404"], "answers 404", 1, id="not there"),
    pytest.param(lambda data: data, ["403"], "answers 403", 1, id="forbidden"),
    pytest.param(lambda data: data, ["503"] * 3, "answers 503 .* try again", 3, id="busy for good"),
])  # fmt: skip
def test_refusals(
    server: Server, tmp_path: Path, change: Callable[[bytes], bytes], plan: list[str], message: str, requests: int
) -> None:
    server.content, server.plan = change(CONTENT), plan
    with pytest.raises(DownloadError, match=message):
        fetch(server, tmp_path / "file.bin")
    assert len(server.ranges) == requests
    assert not (tmp_path / "file.bin").exists()


def test_a_place_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"taken/file\.bin cannot be written"):
        fetch(server, tmp_path / "taken" / "file.bin")


def test_only_web_addresses(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="only http and https"):
        hub.download("file:///etc/hostname", tmp_path / "file.bin", size=1, sha256=SHA256)


def test_ferplus(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(download.FERPLUS_URL_VARIABLE, server.url)
    monkeypatch.setattr(download, "FERPLUS_SIZE", len(CONTENT))
    monkeypatch.setattr(download, "FERPLUS_SHA256", SHA256)
    assert download.download_ferplus(tmp_path).read_bytes() == CONTENT


def test_ferplus_without_network_says_how_to_fetch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "RETRY_WAITS_S", ())
    with pytest.raises(DownloadError, match=f"by hand: save {re.escape(download.FERPLUS_URL)} and give it to"):
        download.download_ferplus(tmp_path)


@pytest.fixture
def kagglehub(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for the package; `dataset_download` is each test's own."""

    class UnauthenticatedError(Exception):
        pass

    fake = SimpleNamespace(exceptions=SimpleNamespace(UnauthenticatedError=UnauthenticatedError))
    monkeypatch.setattr(download, "require", lambda module, extra: fake)
    return fake


@pytest.fixture
def cached(kaggle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small data set that counts as FER-2013."""
    monkeypatch.setattr(download, "FER2013_COUNTS", {"Training": 21, "PublicTest": 14, "PrivateTest": 7})
    hashes = {
        path.relative_to(kaggle).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in kaggle.rglob("*.png")
        if not path.name.startswith("PrivateTest")
    }
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    monkeypatch.setattr(download, "FER2013_SHA256", hashlib.sha256(lines.encode()).hexdigest())
    return kaggle


def test_fer2013_is_fetched_once_and_checked(
    kagglehub: SimpleNamespace, cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    def dataset_download(handle: str) -> str:
        sys.stdout.write("Downloading from Kaggle")
        calls.append(handle)
        return str(cached)

    kagglehub.dataset_download = dataset_download
    path = download.download_fer2013(tmp_path / "out")
    assert len(list(path.rglob("*.png"))) == 42
    assert download.download_fer2013(tmp_path / "out") == path
    assert calls == ["msambare/fer2013"]
    assert capsys.readouterr().out == ""  # stdout is for data
    (path / "train/fear/Training_20.png").unlink()
    download.download_fer2013(tmp_path / "out")  # damaged, so it is put there again
    assert len(list(path.rglob("*.png"))) == 42


@pytest.mark.parametrize(("damage", "message"), [
    pytest.param(lambda root: (root / "train/fear/Training_20.png").unlink(), "20 Training images, not 21", id="fewer"),
    pytest.param(lambda root: write_tree(root, {"train/fear/Training_20.png": b"other"}), "other content", id="other"),
    pytest.param(lambda root: write_tree(root, {"train/bored/Training_20.png": b"-"}), "no known class", id="class"),
])  # fmt: skip
def test_what_is_not_fer2013_is_refused(
    kagglehub: SimpleNamespace, cached: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(cached)
    kagglehub.dataset_download = lambda handle: str(cached)
    with pytest.raises(DownloadError, match=f"{message}.*fetch it by hand"):
        download.download_fer2013(tmp_path / "out")
    assert not (tmp_path / "out" / "fer2013").exists()


@pytest.mark.parametrize("kind", ["network", "token"])
def test_without_network_or_token_a_sentence_says_what_to_do(
    kagglehub: SimpleNamespace, tmp_path: Path, kind: str
) -> None:
    error = OSError("no route") if kind == "network" else kagglehub.exceptions.UnauthenticatedError("who are you?")

    def dataset_download(handle: str) -> str:
        raise error

    kagglehub.dataset_download = dataset_download
    with pytest.raises(DownloadError, match=r"put your token .*or fetch it by hand: sign in at https://www.kaggle.com"):
        download.download_fer2013(tmp_path)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def require(module: str, extra: str) -> ModuleType:
        raise MissingExtraError(f"{module} is missing: pip install 'mien[{extra}]'")

    monkeypatch.setattr(download, "require", require)
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[data\]'; or fetch it by hand"):
        download.download_fer2013(tmp_path)
