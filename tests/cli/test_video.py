"""`mien video`: what it writes, what it says, how it ends."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from tests.video.conftest import steady, write_film

import mien
from mien.cli.interrupt import Interruption
from mien.cli.video import seconds
from mien.errors import ConfigError, VideoError
from mien.labels import FER7
from mien.video.outputs import Outputs

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames in 1.16 s, with sound."""
    times_s = [0.04 * number for number in range(30)]
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", times_s, sound="aac", picture=steady)


@pytest.fixture
def video(mien_command: Run, tiny_onnx: Path) -> Run:
    """`mien video` with the tiny model, each frame being one face."""
    return lambda *arguments: mien_command("video", *arguments, "--model", tiny_onnx, "--detector", "none")


def frames_of(path: Path) -> list[float]:
    with av.open(str(path)) as opened:
        return [frame.time for frame in opened.decode(video=0)]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no undecodable names")
@pytest.mark.parametrize("ending", ["html", "svg"])
def test_a_name_that_is_no_unicode(video: Run, film: Path, tmp_path: Path, ending: str) -> None:
    odd, timeline = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"), tmp_path / f"timeline.{ending}"
    shutil.copy(film, odd)
    run = video(odd, "--timeline", timeline)
    assert (run.code, run.err) == (0, "")
    assert timeline.stat().st_size > 1000


def test_all_outputs(video: Run, film: Path, tmp_path: Path) -> None:
    marked, table, picture = tmp_path / "out" / "marked.mp4", tmp_path / "faces.csv", tmp_path / "timeline.png"
    run = video(film, "--output", marked, "--table", table, "--timeline", picture)
    assert (run.code, run.err) == (0, "")
    head, row = run.out.splitlines()
    assert head.split()[:3] == ["track", "first", "last"]
    assert row.split()[0] == "1"
    assert frames_of(marked) == pytest.approx(frames_of(film), abs=1e-4)
    with av.open(str(marked)) as opened:
        assert opened.streams.audio[0].codec_context.name == "aac"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(one["time_s"]) for one in rows] == pytest.approx(frames_of(film), abs=1e-4)
    assert {one["track"] for one in rows} == {"1"}
    assert all(sum(float(one[label]) for label in FER7) == pytest.approx(1, abs=1e-3) for one in rows)
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_summary_as_json(video: Run, film: Path) -> None:
    run = video(film, "--format", "json")
    summary = json.loads(run.out)
    assert list(summary) == [
        *("source", "model", "broken", "fault", "frames", "first_s", "last_s", "tracks"),
    ]
    assert (summary["frames"], summary["broken"], summary["fault"]) == (30, 0, None)
    assert summary["model"]["name"] == "tiny"
    (track,) = summary["tracks"]
    assert track["seen_s"] == pytest.approx(1.2, abs=0.01)
    assert sum(track["shares"].values()) == pytest.approx(1, abs=1e-3)


def test_raw_and_smoothed(video: Run, film: Path, tmp_path: Path) -> None:
    def differences(*options: object) -> float:
        table = tmp_path / "faces.jsonl"
        assert video(film, "--table", table, *options).code == 0
        rows = [json.loads(line) for line in table.read_text().splitlines()]
        return max(abs(row[label] - row[f"raw_{label}"]) for row in rows for label in FER7)

    assert differences("--half-life", 2) > 1e-3
    assert differences("--no-smoothing") < 2e-5


def test_a_part(video: Run, film: Path, tmp_path: Path) -> None:
    marked, page = tmp_path / "part.webm", tmp_path / "timeline.html"
    run = video(film, "--start", "0:00.4", "--end", 0.8, "--every", 2, "-o", marked, "--timeline", page)
    assert run.code == 0
    assert frames_of(marked) == pytest.approx([0.0, 0.08, 0.16, 0.24, 0.32, 0.4], abs=2e-3)
    assert page.read_text().endswith("</html>\n")


def test_a_folder_of_pictures(video: Run, grace_hopper: Path, tmp_path: Path) -> None:
    from mien.images import read_image, write_image  # noqa: PLC0415

    folder = tmp_path / "frames"
    for number in range(3):
        write_image(read_image(grace_hopper)[::4, ::4], folder / f"{number}.png")
    run = video(folder, "--fps", 5, "--format", "json")
    assert json.loads(run.out)["last_s"] == 0.4


def test_real_faces(mien_command: Run, tiny_onnx: Path, tmp_path: Path) -> None:
    from tests.video.films import astronaut, crossing, grace_hopper  # noqa: PLC0415

    path = tmp_path / "people.mp4"
    shots = list(islice(crossing(grace_hopper(), astronaut()), 12))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.height, stream.width = shots[0].image.shape[:2]
        for shot in shots:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(shot.image, format="rgb24")))
        output.mux(stream.encode(None))
    table = tmp_path / "faces.parquet"
    run = mien_command("video", path, "--model", tiny_onnx, "--table", table)
    assert run.code == 0
    import pyarrow.parquet as parquet  # noqa: PLC0415, PLR0402

    read = parquet.read_table(table).to_pydict()
    assert set(read["track"]) == {1, 2}
    assert len(read["track"]) == 2 * len(shots)
    first = {track: index for index, track in reversed(list(enumerate(read["track"])))}
    found = {(round(read["left"][i] + read["right"][i]) // 2 < 320) for i in first.values()}
    assert found == {True, False}


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_truncated_film(video: Run, tmp_path: Path) -> None:
    times_s = [0.04 * number for number in range(100)]
    path = write_film(tmp_path / "cut.webm", times_s, codec="libvpx-vp9")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    table = tmp_path / "faces.csv"
    run = video(path, "--table", table)
    assert run.code == 1
    assert "cut short" in run.err
    assert len(table.read_text().splitlines()) > 30
    assert run.out.splitlines()[1].split()[0] == "1"


def test_broken_frames_are_counted(video: Run, tmp_path: Path) -> None:
    path = write_film(tmp_path / "f.mkv", [0.04 * n for n in range(20)], codec="mjpeg", pixels="yuvj420p")
    content = path.read_bytes()
    at = [i for i in range(len(content)) if content[i : i + 3] == b"\xff\xd8\xff"][10]
    path.write_bytes(content[:at] + bytes(300) + content[at + 300 :])
    run = video(path, "--format", "json")
    assert run.code == 0
    assert run.err.endswith("f.mkv: 1 broken frame skipped\n")
    assert json.loads(run.out)["frames"] == 19


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["gone.mp4"], "gone.mp4: no such file", id="missing"),
        pytest.param(["FILM", "-o", "out.gif"], "--output ends with .mp4", id="ending of the film"),
        pytest.param(["FILM", "--table", "out.xlsx"], "--table ends with .parquet, .csv, .jsonl", id="of the table"),
        pytest.param(["FILM", "--timeline", "out.bmp"], "--timeline ends with .png", id="of the timeline"),
        pytest.param(["FILM", "-o", "FILM"], "is the source itself", id="source as output"),
        pytest.param(["FILM", "--start", "99"], "no frame after 99 s", id="start after the end"),
        pytest.param(["FILM", "--start", "soon"], "--start soon: give seconds, or m:ss", id="start that is no time"),
        pytest.param(["FILM", "--start", "2", "--end", "1"], "is not after start", id="end before start"),
        pytest.param(["FILM", "--every", "0"], "every is 0", id="every 0"),
        pytest.param(["FILM", "--half-life", "-1"], "half_life_s is -1.0", id="half-life"),
        pytest.param(["FILM", "--detect-every", "0"], "detect_every is 0", id="detect-every"),
    ],
)
def test_what_cannot_be_done(video: Run, film: Path, arguments: list[str], message: str) -> None:
    run = video(*(str(film) if argument == "FILM" else argument for argument in arguments))
    assert run.code == 2
    assert message in run.err
    assert run.err.count("\n") == 1
    assert run.out == ""


class Plain(SimpleHTTPRequestHandler):
    """A server that cannot begin in the middle of a file."""

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_cannot_jump_to_the_index_of_a_film(video: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = lambda _: rng.integers(0, 256, (96, 128, 3), np.uint8)  # noqa: E731 - does not shrink
    size = write_film(tmp_path / "film.mp4", [0.04 * n for n in range(40)], picture=noise).stat().st_size
    assert size > 200_000, "FFmpeg holds less than the film"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Plain, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        run = video(f"http://127.0.0.1:{server.server_port}/film.mp4")
        server.shutdown()
    assert run.code == 2
    assert run.err.endswith(", and no frame came before: download it, and name the file\n")
    assert run.err.count("\n") == 1


@pytest.mark.parametrize(
    ("package", "option", "name"),
    [("av", "-o", "out.mp4"), ("pyarrow", "--table", "out.parquet"), ("matplotlib", "--timeline", "out.png")],
)
def test_a_missing_extra_is_named_before_anything_starts(
    video: Run, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, option: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    run = video(film, option, tmp_path / name)
    assert run.code == 2
    assert run.err == f"mien: {package} is missing: pip install 'mien[video]'\n"


@pytest.mark.parametrize(
    ("text", "value"), [("12.5", 12.5), ("1:05", 65), ("1:02:03.5", 3723.5), ("0", 0)], ids=["s", "m", "h", "zero"]
)
def test_seconds(text: str, value: float) -> None:
    assert seconds("--start", text) == value


@pytest.mark.parametrize("text", ["", "1:2:3:4", "-1", "x", "nan"])
def test_no_seconds(text: str) -> None:
    with pytest.raises(ConfigError):
        seconds("--start", text)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_interrupted_it_leaves_valid_files(tiny_onnx: Path, tmp_path: Path) -> None:
    times_s = [0.04 * number for number in range(1000)]
    source = write_film(tmp_path / "long.mp4", times_s, options={"preset": "ultrafast"}, picture=steady)
    marked, table, page = tmp_path / "out.mp4", tmp_path / "faces.parquet", tmp_path / "timeline.html"
    command = [sys.executable, "-m", "mien", "video", str(source), "--model", str(tiny_onnx), "--detector", "none"]
    command += ["-o", str(marked), "--table", str(table), "--timeline", str(page), "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until_s = time.monotonic() + 60
        while not (marked.exists() and time.sleep(0.2) is None and marked.exists()) and time.monotonic() < until_s:
            time.sleep(0.02)  # the file stays from the first packet on, some frames after the start
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    import pyarrow.parquet as parquet  # noqa: PLC0415, PLR0402

    done = json.loads(out)["frames"]
    assert 0 < done < 1000
    assert len(frames_of(marked)) == done
    assert parquet.read_table(table)["time_s"].to_pylist() == pytest.approx(times_s[:done], abs=1e-3)
    assert "</html>" in page.read_text()


def test_a_signal_waits_for_what_is_being_written() -> None:
    before = signal.getsignal(signal.SIGINT)  # ignored in a background job
    with Interruption() as interruption:
        with interruption.writing():
            signal.raise_signal(signal.SIGINT)
            written = True
        assert written
        assert interruption.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
@pytest.mark.parametrize("ignored", [False, True], ids=["closed terminal", "nohup"])
def test_a_closed_terminal_ends_it_as_ctrl_c_does(ignored: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with Interruption() as interruption, interruption.writing():
            signal.raise_signal(signal.SIGHUP)
        assert interruption.asked != ignored
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_timeline_that_cannot_be_written_is_told_before_the_work(video: Run, film: Path, tmp_path: Path) -> None:
    (tmp_path / "taken.svg").mkdir()
    run = video(film, "--timeline", tmp_path / "taken.svg")
    assert (run.code, run.out) == (2, "")
    assert "taken.svg" in run.err


def test_a_timeline_that_fails_at_the_end_leaves_the_summary(
    video: Run, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mien.video.timeline_page.write_page", full)
    run = video(film, "--timeline", tmp_path / "timeline.html")
    assert run.code == 2
    assert run.out.splitlines()[1].split()[0] == "1"
    assert "No space left on device" in run.err


def test_a_film_without_frames_hides_no_file_that_fails(
    video: Run, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Outputs.close

    def full(outputs: Outputs) -> None:
        close(outputs)
        raise VideoError("faces.csv: No space left on device")

    monkeypatch.setattr(Outputs, "close", full)
    run = video(film, "--start", "99", "--table", tmp_path / "faces.csv")
    assert run.code == 2
    first, second = run.err.splitlines()
    assert "No space left on device" in first
    assert "no frame after 99 s" in second


# --- as a library -----------------------------------------------------------------------------------------------------


def test_analyze_video(film: Path, tiny_onnx: Path) -> None:
    from mien.video import SourceOptions, analyze_video  # noqa: PLC0415

    analyzer = mien.load(tiny_onnx, detector="none")
    results = list(analyze_video(str(film), analyzer=analyzer, options=SourceOptions(every=3)))
    assert len(results) == 10
    assert [result.time_s for result in results] == pytest.approx([0.12 * number for number in range(10)], abs=1e-3)
    assert all(len(result.faces) == 1 and result.faces[0].track == 1 for result in results)
    assert all(np.isclose(result.faces[0].probabilities.sum(), 1, atol=1e-4) for result in results)


def test_analyze_video_tells_of_an_early_end(tmp_path: Path, tiny_onnx: Path) -> None:
    from mien.video import analyze_video  # noqa: PLC0415

    film = write_film(tmp_path / "cut.mkv", [0.04 * number for number in range(150)])
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    results = analyze_video(film, analyzer=mien.load(tiny_onnx, detector="none"))
    came = list(islice(results, 20))
    assert len(came) == 20
    with pytest.raises(VideoError, match=r"cut\.mkv: ends at .* it was cut short"):
        list(results)


def test_analyze_video_takes_a_camera_by_its_number(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.video import analyze_video  # noqa: PLC0415

    def opened(source: str, **_: object) -> None:
        raise VideoError(f"asked for {source!r}")

    monkeypatch.setattr("mien.video.analyze.open_source", opened)
    with pytest.raises(VideoError, match="asked for '7'"):
        next(analyze_video(7, analyzer=mien.load(tiny_onnx, detector="none")))
