"""`mien webcam`: a film stands in for the camera."""

import csv
import http.server
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import pytest
from rich.console import Console
from tests.video.conftest import coded, steady, tracked, write_film

from mien.cli import webcam
from mien.labels import FER7
from mien.video.analyze import FrameResult
from mien.video.frames import Frame
from mien.video.loop import Pace
from mien.video.terminal import TerminalView

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a film."""
    times_s = [0.04 * number for number in range(25)]
    return write_film(tmp_path_factory.mktemp("camera") / "camera.mp4", times_s, picture=steady)


@pytest.fixture
def camera(mien_command: Run, tiny_onnx: Path, stand_in: Path) -> Run:
    """`mien webcam` before the film, with the tiny model, each frame being one face."""
    fixed = ("--camera", stand_in, "--model", tiny_onnx, "--detector", "none")
    return lambda *arguments: mien_command("webcam", *fixed, *arguments)


def test_terminal(camera: Run) -> None:
    run = camera("--terminal")
    assert (run.code, run.err) == (0, "")
    first, *_ = run.out.splitlines()
    assert "frames/s" in first
    assert "ms delay" in first
    assert "dropped" in first
    assert any(f" 1 {label}" in first for label in FER7)
    assert run.out.splitlines()[-1].split()[0] == "1"  # the summary


def test_record_and_table(camera: Run, tmp_path: Path) -> None:
    film, table = tmp_path / "out.mp4", tmp_path / "out.csv"
    assert camera("--record", film, "--table", table).code == 0
    with table.open(newline="") as file:
        times_s = [float(row["time_s"]) for row in csv.DictReader(file)]
    assert len(times_s) >= 3
    assert times_s == sorted(times_s)
    with av.open(str(film)) as opened:
        assert [frame.time for frame in opened.decode(video=0)] == pytest.approx(times_s, abs=1e-3)


def test_end(camera: Run, tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    assert camera("--table", table, "--end", 0.3).code == 0
    with table.open(newline="") as file:
        assert max(float(row["time_s"]) for row in csv.DictReader(file)) <= 0.3


def test_the_base_install_is_enough(tiny_onnx: Path, stand_in: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('av', 'matplotlib', 'pyarrow'): sys.modules[name] = None\n"
        "from mien.cli import main\n"
        "main()\n"
    )
    table = tmp_path / "out.csv"
    options = ["--camera", str(stand_in), "--model", str(tiny_onnx), "--detector", "none", "--end", "0.2"]
    command = [sys.executable, "-c", code, "webcam", *options, "--terminal", "--table", str(table)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(table.read_text().splitlines()) > 1


def test_record_without_pyav(camera: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    run = camera("--record", tmp_path / "out.mp4")
    assert (run.code, run.err) == (2, "mien: av is missing: pip install 'mien[video]'\n")


@pytest.mark.skipif(Path("/dev/video0").exists(), reason="a camera is there")
def test_no_camera(mien_command: Run, tiny_onnx: Path) -> None:
    run = mien_command("webcam", "--terminal", "--model", tiny_onnx, "--wait", 0)
    assert run.code == 2
    assert run.err.startswith("mien: camera 0 ")
    assert run.err.count("\n") == 1


@pytest.mark.skipif(os.name == "nt" or Path("/dev/video0").exists(), reason="signals of POSIX, no camera")
@pytest.mark.parametrize("verb", [["webcam", "--terminal"], ["video", "0"]], ids=["webcam", "video"])
def test_a_missing_camera_is_waited_for_until_ctrl_c(tiny_onnx: Path, verb: list[str]) -> None:
    command = [sys.executable, "-m", "mien", *verb, "--model", str(tiny_onnx)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        sentence = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert "camera 0 " in sentence
    assert (process.returncode, out, err) == (2, "", "")


# --- window -----------------------------------------------------------------------------------------------------------


def test_window_without_a_gui_build(camera: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise cv2.error("The function is not implemented. Rebuild the library")

    monkeypatch.setattr(cv2, "namedWindow", refuse, raising=False)
    run = camera("--window")
    assert run.code == 2
    assert "pip install opencv-python, on a machine with a display; or use --terminal" in run.err
    assert run.err.count("\n") == 1


@pytest.mark.parametrize(("key", "visible"), [(ord("q"), 1.0), (27, 1.0), (-1, 0.0)], ids=["q", "escape", "closed"])
def test_window(camera: Run, monkeypatch: pytest.MonkeyPatch, key: int, visible: float) -> None:
    shown: list[Any] = []
    keys = iter([-1, -1, key])
    monkeypatch.setattr(cv2, "namedWindow", lambda *arguments: None, raising=False)
    monkeypatch.setattr(cv2, "setWindowTitle", lambda *arguments: None, raising=False)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None, raising=False)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image), raising=False)
    monkeypatch.setattr(cv2, "waitKey", lambda wait_ms: next(keys), raising=False)
    seen = lambda *arguments: visible if len(shown) == 3 else 1.0  # noqa: E731
    monkeypatch.setattr(cv2, "getWindowProperty", seen, raising=False)
    assert camera("--window").code == 0
    assert len(shown) == 3
    assert shown[0].shape == (96, 128, 3)


# --- browser ----------------------------------------------------------------------------------------------------------


def test_browser_opens_the_live_page_of_a_free_port(
    mien_command: Run, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    ready = threading.Event()

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """To nobody."""

    def serve(settings: Any, address: Any) -> None:
        assert settings.models == (str(tiny_onnx),)
        assert address.host == "127.0.0.1"
        with http.server.ThreadingHTTPServer((address.host, address.port), Ready) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            assert ready.wait(10)
            server.shutdown()

    def open_browser(page: str) -> bool:
        opened.append(page)
        ready.set()
        return True

    monkeypatch.setattr("mien.web.serving.serve", serve)
    monkeypatch.setattr("webbrowser.open", open_browser)
    run = mien_command("webcam", "--model", tiny_onnx)
    assert run.code == 0
    (page,) = opened
    assert page.startswith("http://127.0.0.1:")
    assert page.endswith("/live")
    assert page in run.err


def test_no_browser(capsys: pytest.CaptureFixture[str]) -> None:
    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        webcam._open_when_ready(server.server_port, "http://page/live", lambda page: False)
        server.shutdown()
    assert "open http://page/live in one, or use --terminal" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--terminal", "--window"], "exclude each other"),
        (["--camera", "1"], "--camera means nothing to the live page"),
        (["--half-life", "1"], "--half-life means nothing to the live page"),
        (["--no-smoothing"], "--no-smoothing means nothing"),
        (["--terminal", "--camera", "gone.mp4"], "gone.mp4: no such film"),
        (["--record", "out.txt"], "ends with .mp4"),
    ],
)
def test_what_cannot_be_done(mien_command: Run, tiny_onnx: Path, arguments: list[str], message: str) -> None:
    run = mien_command("webcam", "--model", tiny_onnx, *arguments)
    assert run.code == 2
    assert message in run.err


# --- the terminal's picture -------------------------------------------------------------------------------------------


def test_bars_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system="truecolor", no_color=False)
    result = FrameResult(Frame(coded(1), 1.5, 3), (tracked("happy"), tracked("sad", track=2, uncertain=True)), 0.02)
    with TerminalView("camera 0", console) as view:
        assert view.show(result, Pace(29.97, 18.4, 7))
        view.notify("camera 0 gives no more pictures [bold]: going on when it is back")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "camera 0  30.0 frames/s, 18 ms delay, 7 dropped" in text
    assert "1 happy 70 %" in text
    assert "2 sad? 70 %" in text
    assert "████████████▋ " in text  # 0.7 of 18 cells is 12.6, in eighths 12 and 5
    assert "[bold]" in text


def test_no_face_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    view = TerminalView("camera 0", console)
    result = FrameResult(Frame(coded(1), 1.5, 3), (), 0.02)
    assert view.line(result, Pace(10, 20, 0)).endswith("no face in sight")
    console.print(view.render(result, Pace(10, 20, 0)))
    assert "no face in sight" in console.file.getvalue()  # type: ignore[attr-defined]
