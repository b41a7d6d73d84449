import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mien import hub
from mien.errors import DownloadError, ModelError

CONTENT = bytes(range(256)) * 40
REMOTE = hub.Remote(
    url="http://upstream.invalid/models/net.onnx", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest()
)


class Mirror(http.server.ThreadingHTTPServer):
    """Serves `files` by path and counts the requests."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mirror"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    server = Mirror({"/mirror/net.onnx": CONTENT})
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("MIEN_HUB_URL", server.url + "/")
    monkeypatch.setattr(hub, "REMOTE", {"net": REMOTE})
    monkeypatch.setattr(hub, "RETRY_WAITS_S", ())
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_pinned_file_is_fetched_once_into_home(mirror: Mirror, mien_home: Path) -> None:
    path = hub.resolve("net")
    assert path == mien_home / "net.onnx"
    assert path.read_bytes() == CONTENT
    assert hub.resolve("net") == path
    assert mirror.asked == ["/mirror/net.onnx"]


def test_a_file_put_there_by_hand_needs_no_network(mirror: Mirror, mien_home: Path) -> None:
    mien_home.mkdir()
    (mien_home / "net.onnx").write_bytes(CONTENT)
    assert hub.resolve("net") == mien_home / "net.onnx"
    assert mirror.asked == []


@pytest.mark.parametrize("step", ["replace", "open"])
def test_another_process_that_finishes_first_is_no_fault(
    step: str, mirror: Mirror, mien_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two share one partial file; as this one renames or checks it, the other has renamed it already."""
    plain = getattr(Path, step)

    def late(path: Path, *arguments: object) -> object:
        if path.name.endswith(".partial"):
            monkeypatch.undo()
            path.unlink()
            (mien_home / "net.onnx").write_bytes(CONTENT)
        return plain(path, *arguments)

    mien_home.mkdir()
    (mien_home / "net.onnx.partial").write_bytes(CONTENT)
    monkeypatch.setattr(Path, step, late)
    url = f"{mirror.url}/net.onnx"
    assert hub.download(url, mien_home / "net.onnx", size=REMOTE.size, sha256=REMOTE.sha256) == mien_home / "net.onnx"
    assert (mien_home / "net.onnx").read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_fetched_again(mirror: Mirror, mien_home: Path) -> None:
    mien_home.mkdir()
    (mien_home / "net.onnx").write_bytes(CONTENT[:-1] + b"!")
    assert hub.resolve("net").read_bytes() == CONTENT
    assert len(mirror.asked) == 1


def test_progress_reaches_the_whole_size(mirror: Mirror) -> None:
    seen: list[tuple[int, int]] = []
    hub.resolve("net", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(CONTENT[:-1] + b"!", "sha256", id="other bytes"),
        pytest.param(CONTENT[:-1], f"{len(CONTENT) - 1} bytes, not {len(CONTENT)}", id="too short"),
        pytest.param(b"<html>sign in</html>", "bytes, not", id="a login page"),
        pytest.param(None, "404", id="not there"),
    ],
)
def test_what_is_not_the_pinned_file_is_refused(mirror: Mirror, mien_home: Path, body: bytes | None, said: str) -> None:
    mirror.files = {} if body is None else {"/mirror/net.onnx": body}
    with pytest.raises(DownloadError, match=said) as caught:
        hub.resolve("net")
    assert f"put the file at {mien_home / 'net.onnx'} by hand" in str(caught.value)
    assert not (mien_home / "net.onnx").exists()


def test_without_network_the_message_names_the_address_and_the_place(
    monkeypatch: pytest.MonkeyPatch, mien_home: Path
) -> None:
    monkeypatch.delenv("MIEN_HUB_URL", raising=False)
    monkeypatch.setattr(hub, "RETRY_WAITS_S", ())
    with pytest.raises(DownloadError) as caught:
        hub.resolve("yunet")
    assert hub.REMOTE["yunet"].url in str(caught.value)
    assert str(mien_home / "face_detection_yunet_2026may.onnx") in str(caught.value)


def test_pinned_entries_are_complete() -> None:
    assert all(remote.file_name.endswith(".onnx") for remote in hub.REMOTE.values())
    assert not hub.REMOTE.keys() & hub.STARTS.keys()
    for remote in (hub.REMOTE | hub.STARTS).values():
        assert remote.url.startswith("https://")
        assert len(bytes.fromhex(remote.sha256)) == 32
        assert remote.size > 0


def test_names_and_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mien_home: Path) -> None:
    packaged, work = tmp_path / "weights", tmp_path / "work"
    for path in (packaged / "default.onnx", mien_home / "mine.onnx", work / "default", work / "run" / "net.onnx"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.setattr(hub, "PACKAGED", packaged)
    monkeypatch.chdir(work)
    assert hub.resolve("default") == packaged / "default.onnx"  # a name goes before a file
    assert hub.resolve("./default") == Path("./default")
    assert hub.resolve("mine") == mien_home / "mine.onnx"
    assert hub.resolve(Path("run/net.onnx")) == Path("run/net.onnx")
    assert hub.packaged() == ("default",)


@pytest.mark.parametrize("name", ["", "defautl", "runs/none.onnx", "../default"])
def test_unknown_names_say_what_there_is(name: str) -> None:
    with pytest.raises(ModelError, match=r"use a path or one of .*yunet") as caught:
        hub.resolve(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        pytest.param("linux", {"MIEN_HOME": "/big/mien"}, "/big/mien", id="chosen"),
        pytest.param("linux", {"XDG_CACHE_HOME": "/x"}, "/x/mien", id="Linux with XDG"),
        pytest.param("linux", {}, "/home/ada/.cache/mien", id="Linux"),
        pytest.param("darwin", {}, "/home/ada/Library/Caches/mien", id="macOS"),
        pytest.param("win32", {"LOCALAPPDATA": "/l"}, "/l/mien/Cache", id="Windows"),
        pytest.param("win32", {}, "/home/ada/AppData/Local/mien/Cache", id="Windows without its variable"),
    ],
)
def test_home(monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str) -> None:
    for name in ("MIEN_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/ada", "USERPROFILE": "/home/ada", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(hub.sys, "platform", platform)
    assert hub.home() == Path(expected)


@pytest.mark.parametrize(("name", "trained"), [
    pytest.param("runs", True, id="folder of a run"),
    pytest.param("best.pt", True, id="checkpoint"),
    pytest.param("default.safetensors", True, id="weights"),
    pytest.param("model.onnx", False, id="what serves"),
])  # fmt: skip
def test_what_torch_opens(tmp_path: Path, name: str, trained: bool) -> None:
    (tmp_path / "runs").mkdir()
    assert hub.is_trained(tmp_path / name) is trained


def test_a_name_goes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "default").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not hub.is_trained(hub.resolve("default"))
    assert hub.is_trained(hub.resolve("./default"))
