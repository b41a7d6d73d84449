"""Films and streams in: containers, time stamps, rotation, cuts, damage, networks."""

import http.server
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from mien.errors import ConfigError, MissingExtraError, VideoError
from mien.video.film import Film, without_password
from mien.video.frames import Frame, SourceOptions
from mien.video.loop import Newest
from mien.video.writer import FilmWriter
from tests.video.conftest import HEIGHT, WIDTH, code_of, coded, write_film


def read(path: Path | str, **options: Any) -> tuple[list[Frame], Film]:
    with Film(str(path), SourceOptions(**options)) as film:
        return list(film), film


FORMATS = {
    "mp4": ("film.mp4", "libx264", "yuv420p"),
    "mov": ("film.mov", "libx264", "yuv420p"),
    "webm": ("film.webm", "libvpx-vp9", "yuv420p"),
    "mkv": ("film.mkv", "libx264", "yuv420p"),
    "avi": ("film.avi", "mpeg4", "yuv420p"),
    "motion JPEG": ("film.mkv", "mjpeg", "yuvj420p"),
    "transport stream, which starts at 1.4 s": ("film.ts", "libx264", "yuv420p"),
}


@pytest.mark.parametrize(("name", "codec", "pixels"), FORMATS.values(), ids=FORMATS)
def test_containers_and_codecs(tmp_path: Path, steady_s: list[float], name: str, codec: str, pixels: str) -> None:
    frames, film = read(write_film(tmp_path / name, steady_s, codec=codec, pixels=pixels))
    assert [code_of(frame.image) for frame in frames] == list(range(50))
    assert [frame.time_s for frame in frames] == pytest.approx(steady_s, abs=1e-3)
    assert [frame.index for frame in frames] == list(range(50))
    assert (film.broken, film.fault) == (0, None)
    assert film.info.rate_hz == pytest.approx(25)
    assert film.info.duration_s == pytest.approx(2.0, abs=0.05)
    assert np.abs(frames[5].image.astype(int) - coded(5)).mean() < 8


def test_time_comes_from_the_stamps_not_from_the_rate(tmp_path: Path) -> None:
    uneven_s = [0.0, 0.04, 0.5, 0.517, 1.25, 1.26, 3.0]
    frames, film = read(write_film(tmp_path / "uneven.mp4", uneven_s))
    assert [frame.time_s for frame in frames] == pytest.approx(uneven_s, abs=1e-4)
    assert [code_of(frame.image) for frame in frames] == list(range(7))
    assert film.fault is None


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, plain_film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(plain_film, "rec-12:30:05.mp4")
    frames, film = read("rec-12:30:05.mp4")
    assert film.info.name == "rec-12:30:05.mp4"
    writer = FilmWriter(Path("out-12:31.mp4"), audio_path=film.info.audio_path)
    for frame in frames:
        writer.write(frame.image, frame.time_s)
    writer.close()
    copied, copy = read("out-12:31.mp4")
    assert len(copied) == 50
    assert copy.info.audio_path is not None
    assert writer.problem is None


def test_time_goes_on_where_the_stamps_start_anew(tmp_path: Path, steady_s: list[float]) -> None:
    once = write_film(tmp_path / "once.ts", steady_s).read_bytes()
    (tmp_path / "twice.ts").write_bytes(once + once)
    frames, film = read(tmp_path / "twice.ts")
    assert [code_of(frame.image) for frame in frames] == [*range(50), *range(50)]
    assert [frame.time_s for frame in frames] == pytest.approx([0.04 * number for number in range(100)], abs=1e-3)
    assert (film.broken, film.fault) == (0, None)


@pytest.mark.parametrize(
    ("clockwise_deg", "quarter_turns"),
    [pytest.param(90, 3, id="90"), pytest.param(180, 2, id="180"), pytest.param(270, 1, id="270")],
)
def test_rotation_is_honoured(tmp_path: Path, clockwise_deg: int, quarter_turns: int) -> None:
    path = write_film(tmp_path / "turned.mp4", [0.0, 0.04, 0.08])
    path.write_bytes(_with_matrix(path.read_bytes(), clockwise_deg))
    frames, _ = read(path)
    expected = np.rot90(coded(1), quarter_turns)
    assert frames[1].image.shape == expected.shape
    assert np.abs(frames[1].image.astype(int) - expected).mean() < 8


def _with_matrix(film: bytes, clockwise_deg: int) -> bytes:
    """Write the display matrix of ISO/IEC 14496-12, 8.3.2, into the track header, as telephones do."""
    matrix = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[clockwise_deg]
    a, b, c, d = ((value * 0x10000).to_bytes(4, "big", signed=True) for value in matrix)
    zero, one = bytes(4), (0x40000000).to_bytes(4, "big")
    at = film.index(b"tkhd") + 4 + 40  # version, flags, times, id, reserved, duration, reserved, layer, group, volume
    assert film[film.index(b"tkhd") + 4] == 0  # the version with 32-bit times
    return film[:at] + a + b + zero + c + d + zero + zero + zero + one + film[at + 36 :]


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    frames, _ = read(write_film(tmp_path / "wide.mp4", [0.0, 0.04], aspect=Fraction(3, 2)))
    assert frames[0].image.shape == (HEIGHT, WIDTH * 3 // 2, 3)


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        pytest.param({"start_s": 1.0}, range(25, 50), id="start, after a key frame"),
        pytest.param({"start_s": 0.59}, range(15, 50), id="start, between frames"),
        pytest.param({"end_s": 0.4}, range(11), id="end, that frame included"),
        pytest.param({"every": 7}, range(0, 50, 7), id="every"),
        pytest.param({"start_s": 0.4, "end_s": 1.2, "every": 5}, range(10, 31, 5), id="all of them"),
        pytest.param({"start_s": 60.0}, range(0), id="start after the end"),
    ],
)
def test_a_part_of_a_film(plain_film: Path, options: dict[str, Any], numbers: range) -> None:
    frames, film = read(plain_film, **options)
    assert [code_of(frame.image) for frame in frames] == list(numbers)
    assert [frame.time_s for frame in frames] == pytest.approx([0.04 * number for number in numbers], abs=1e-3)
    assert film.fault is None


@pytest.mark.parametrize(
    "options",
    [{"start_s": -1.0}, {"start_s": 3.0, "end_s": 2.0}, {"every": 0}, {"timeout_s": 0.0}, {"sequence_hz": 0.0}],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"must be|is not after"):
        SourceOptions(**options)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec"), [("cut.mp4", "libx264"), ("cut.webm", "libvpx-vp9")])
def test_a_truncated_film_gives_what_is_there(tmp_path: Path, name: str, codec: str) -> None:
    times_s = [0.04 * number for number in range(150)]
    path = write_film(tmp_path / name, times_s, codec=codec, container={"movflags": "faststart"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    frames, film = read(path)
    assert 40 < len(frames) < 130
    assert [code_of(frame.image) for frame in frames[:-2]] == list(range(len(frames) - 2))
    assert film.fault is not None
    assert "cut short" in film.fault


@pytest.mark.parametrize("name", ["late.mkv", "late.webm", "late.mp4"])
def test_a_film_whose_stamps_begin_late_is_not_cut_short(tmp_path: Path, name: str) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    frames, film = read(write_film(tmp_path / name, [100 + 0.04 * number for number in range(25)], codec=codec))
    assert len(frames) == 25
    assert film.fault is None
    assert film.info.duration_s == pytest.approx(1, abs=0.05)


def test_a_slow_film_is_not_cut_short(tmp_path: Path) -> None:
    times_s = [5.0 * number for number in range(10)]
    frames, film = read(write_film(tmp_path / "slow.mkv", times_s, rate_hz=Fraction(1, 5)))
    assert len(frames) == 10
    assert film.info.duration_s == pytest.approx(50)
    assert film.fault is None


def test_a_film_cut_before_its_index(tmp_path: Path, steady_s: list[float]) -> None:
    path = write_film(tmp_path / "cut.mp4", steady_s)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(VideoError, match=r"cut\.mp4: cannot be opened .*copied to its end"):
        Film(str(path), SourceOptions())


def test_a_broken_frame_is_skipped_and_counted(tmp_path: Path, steady_s: list[float]) -> None:
    path = write_film(tmp_path / "film.mkv", steady_s, codec="mjpeg", pixels="yuvj420p")
    film_bytes = bytearray(path.read_bytes())
    starts = [i for i in range(len(film_bytes) - 2) if film_bytes[i : i + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 50
    for number in (20, 21):
        film_bytes[starts[number] : starts[number] + 300] = bytes(300)
    path.write_bytes(film_bytes)
    frames, film = read(path)
    assert film.broken == 2
    assert [code_of(frame.image) for frame in frames] == [n for n in range(50) if n not in (20, 21)]
    assert frames[20].time_s == pytest.approx(0.88, abs=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param(b"", "cannot be opened", id="empty"),
        pytest.param(b"just a text " * 100, "cannot be opened", id="text"),
    ],
)
def test_what_is_no_film(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=message):
        Film(str(path), SourceOptions())


def test_an_animated_webp_is_not_called_damaged(tmp_path: Path) -> None:
    first, second = (PIL.Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "anim.webp", save_all=True, append_images=[second])
    with pytest.raises(VideoError, match=r"anim\.webp: an animated WebP, which FFmpeg here cannot decode"):
        read(tmp_path / "anim.webp")
    first.save(tmp_path / "anim.gif", save_all=True, append_images=[second])
    assert len(read(tmp_path / "anim.gif")[0]) == 2


def test_sound_alone_is_no_film(tmp_path: Path) -> None:
    import av  # noqa: PLC0415

    from tests.video.conftest import tone_frames  # noqa: PLC0415

    path = tmp_path / "tone.m4a"
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=48_000)
        stream.codec_context.layout = "mono"
        for frame in tone_frames(0.5):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(VideoError, match="has no pictures"):
        Film(str(path), SourceOptions())


def test_without_pyav(monkeypatch: pytest.MonkeyPatch, plain_film: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"av is missing: pip install 'mien\[video\]'"):
        Film(str(plain_film), SourceOptions())


# --- networks ---------------------------------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, *arguments: object) -> None:
        """To nobody."""


@pytest.fixture
def served(plain_film: Path) -> Iterator[str]:
    """The address of a folder with `plain.mp4`."""

    def handler(*arguments: Any) -> Quiet:
        return Quiet(*arguments, directory=str(plain_film.parent))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_film_over_http(served: str) -> None:
    frames, film = read(f"{served}/plain.mp4")
    assert [code_of(frame.image) for frame in frames] == list(range(50))
    assert not film.info.live


def test_an_address_that_is_not_there(served: str) -> None:
    with pytest.raises(VideoError, match=r"nothing\.mp4: cannot be opened .*check the address"):
        Film(f"{served}/nothing.mp4", SourceOptions(timeout_s=5))


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_stream_that_does_not_answer(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections into its queue, and never speaks
        began_s = time.monotonic()
        with pytest.raises(VideoError, match=r"no answer in 0\.5 s: check the address"):
            Film(f"{scheme}://user:secret@127.0.0.1:{server.getsockname()[1]}/film", SourceOptions(timeout_s=0.5))
        assert time.monotonic() - began_s < 8


def test_a_stream_that_falls_silent_keeps_what_came(plain_film: Path) -> None:
    content = plain_film.read_bytes()
    done = threading.Event()

    class Half(Quiet):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) * 7 // 10])
            done.wait(20)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Half) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        frames, film = read(f"http://127.0.0.1:{server.server_port}/plain.mp4", timeout_s=1.0)
        done.set()
        server.shutdown()
    assert 10 < len(frames) < 50
    assert [code_of(frame.image) for frame in frames[:-2]] == list(range(len(frames) - 2))
    assert film.fault == "the stream sent nothing for 1 s"


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[str]:
    """The address of a stream without length, which sends two seconds of film and then nothing."""
    times_s = [0.04 * number for number in range(50)]
    content = write_film(tmp_path / "live.ts", times_s, options={"g": "10", "bf": "0"}).read_bytes()
    done = threading.Event()

    class Endless(Quiet):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()
            done.wait(30)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/live.ts"
        done.set()
        server.shutdown()


def test_a_stream_without_end_is_live_and_counts_from_its_first_frame(endless: str) -> None:
    with Newest(Film(endless, SourceOptions(timeout_s=2.0))) as newest:
        assert newest.info.live
        assert newest.info.audio_path is None
        frames = list(newest)
    assert newest.fault == "the stream sent nothing for 2 s"
    assert len(frames) + newest.dropped >= 45  # the last ones wait in the decoder for a packet that does not come
    codes = [code_of(frame.image) for frame in frames]
    assert codes == sorted(set(codes))
    assert [frame.time_s for frame in frames] == pytest.approx([0.04 * code for code in codes], abs=1e-3)


def test_a_silent_stream_does_not_hold_who_leaves(endless: str) -> None:
    film = Film(endless, SourceOptions(timeout_s=4.0))
    began_s = time.monotonic()
    with film, Newest(film) as newest:
        next(iter(newest))
    assert time.monotonic() - began_s < 3  # closed while its thread waits in FFmpeg


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:secret@10.0.0.5:554/live", "rtsp://***@10.0.0.5:554/live"),
        ("rtsp://10.0.0.5/live", "rtsp://10.0.0.5/live"),
        ("films/a@b.mp4", "films/a@b.mp4"),
    ],
)
def test_passwords_are_not_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown
