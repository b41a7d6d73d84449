"""Films out: their times, colours and sound, read back by PyAV without mien."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.errors import VideoError
from mien.video.audio import AudioTrack
from mien.video.writer import CODECS, FilmWriter
from tests.video.conftest import code_of, coded, write_film


def pictures_of(path: Path) -> tuple[list[float], list[np.ndarray]]:  # type: ignore[type-arg]
    with av.open(str(path)) as film:
        frames = list(film.decode(video=0))
        return [float(frame.pts * frame.time_base) for frame in frames], [f.to_ndarray(format="rgb24") for f in frames]


def sound_of(path: Path) -> tuple[list[bytes], float, float]:
    """Packets of the sound, and when it begins and ends."""
    with av.open(str(path)) as film:
        packets = [packet for packet in film.demux(audio=0) if packet.pts is not None]
        base = packets[0].time_base
        end = packets[-1].pts + (packets[-1].duration or 0)
        return [bytes(packet) for packet in packets], float(packets[0].pts * base), float(end * base)


def top_level_boxes(path: Path) -> list[str]:
    """Names of the boxes of an MP4 file, in their order (ISO 14496-12, 4.2)."""
    names, place, content = [], 0, path.read_bytes()
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        if size == 1:  # 64 bits follow
            size = int.from_bytes(content[place + 8 : place + 16], "big")
        names.append(content[place + 4 : place + 8].decode("ascii"))
        place += size
    return names


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm"])
def test_each_picture_keeps_its_own_time(tmp_path: Path, ending: str) -> None:
    times_s = [0.0, 0.04, 0.05, 0.4, 0.4337, 1.9]
    path = tmp_path / "made" / f"film.{ending}"
    writer = FilmWriter(path, rate_hz=25)
    for number, time_s in enumerate(times_s):
        writer.write(coded(number), time_s)
    writer.close()
    read_s, images = pictures_of(path)
    assert read_s == pytest.approx(times_s, abs=1e-5 if ending in ("mp4", "mov") else 6e-4)  # Matroska counts in ms
    assert [code_of(image) for image in images] == list(range(6))


def test_colours_survive(tmp_path: Path) -> None:
    colours = [(200, 30, 30), (30, 180, 40), (40, 60, 200), (220, 210, 60), (128, 128, 128), (250, 250, 250)]
    image = np.repeat(np.repeat(np.array(colours, np.uint8)[None], 64, axis=0), 32, axis=1)
    writer = FilmWriter(tmp_path / "film.mp4")
    writer.write(image, 0.0)
    writer.close()
    with av.open(str(tmp_path / "film.mp4")) as film:
        assert film.streams.video[0].codec_context.colorspace == 1  # BT.709, said in the file
    _, (read,) = pictures_of(tmp_path / "film.mp4")
    assert np.abs(read[32, 16::32].astype(int) - colours).max() <= 4


@pytest.mark.parametrize(("ending", "step_s"), [("mp4", 0.04), ("mp4", 1.0), ("mkv", 1.0), ("webm", 1.0)])
def test_players_can_jump_to_a_picture_every_five_seconds(tmp_path: Path, ending: str, step_s: float) -> None:
    path = tmp_path / f"film.{ending}"
    writer = FilmWriter(path)
    for number in range(round(16 / step_s)):
        writer.write(coded(7), number * step_s)
    writer.close()
    with av.open(str(path)) as film:
        keys_s = [float(packet.pts * packet.time_base) for packet in film.demux(video=0) if packet.is_keyframe]
    assert keys_s == pytest.approx([0.0, 5.0, 10.0, 15.0], abs=1e-3)


def test_odd_sides_grow_by_one(tmp_path: Path) -> None:
    writer = FilmWriter(tmp_path / "film.mp4")
    writer.write(coded(9)[:95, :127], 0.0)
    writer.close()
    _, (image,) = pictures_of(tmp_path / "film.mp4")
    assert image.shape == (96, 128, 3)
    assert code_of(image) == 9


def test_sound_is_copied_where_the_container_takes_it(tmp_path: Path, plain_film: Path, steady_s: list[float]) -> None:
    path = tmp_path / "film.mkv"
    writer = FilmWriter(path, audio_path=str(plain_film))
    for number, time_s in enumerate(steady_s):
        writer.write(coded(number), time_s)
    writer.close()
    assert sound_of(path)[0] == sound_of(plain_film)[0]
    assert writer.problem is None


def test_sound_is_encoded_anew_where_it_does_not(tmp_path: Path, plain_film: Path, steady_s: list[float]) -> None:
    path = tmp_path / "film.webm"
    writer = FilmWriter(path, audio_path=str(plain_film))
    for number, time_s in enumerate(steady_s):
        writer.write(coded(number), time_s)
    writer.close()
    with av.open(str(path)) as film:
        assert film.streams.audio[0].codec_context.name in ("opus", "libopus")
        wave = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])
    peak = np.abs(np.fft.rfft(wave)).argmax() * 48_000 / len(wave)
    assert peak == pytest.approx(440, abs=3)
    assert sound_of(path)[2] == pytest.approx(1.96, abs=0.1)


def test_sound_is_cut_with_the_pictures(tmp_path: Path, plain_film: Path, steady_s: list[float]) -> None:
    path = tmp_path / "film.mp4"
    writer = FilmWriter(path, audio_path=str(plain_film), start_s=0.6)
    for number in range(15, 35):
        writer.write(coded(number), steady_s[number])
    writer.close()
    read_s, images = pictures_of(path)
    assert read_s == pytest.approx([0.04 * number for number in range(20)], abs=1e-4)
    assert code_of(images[0]) == 15
    packets, begin_s, end_s = sound_of(path)
    assert begin_s == pytest.approx(0, abs=0.03)
    assert end_s == pytest.approx(0.8, abs=0.06)
    whole = sound_of(plain_film)[0]
    assert packets == whole[whole.index(packets[0]) :][: len(packets)]


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_sound_of_a_transport_stream_is_framed_anew(tmp_path: Path, steady_s: list[float], ending: str) -> None:
    source = write_film(tmp_path / "source.ts", steady_s, sound="aac")
    path = tmp_path / f"film.{ending}"
    writer = FilmWriter(path, audio_path=str(source))
    for number, time_s in enumerate(steady_s):
        writer.write(coded(number), time_s)
    writer.close()
    assert writer.problem is None
    with av.open(str(path)) as film, av.open(str(source)) as before:
        samples, wanted = (sum(frame.samples for frame in one.decode(audio=0)) for one in (film, before))
    assert samples == wanted
    assert not sound_of(path)[0][0].startswith(b"\xff\xf1"), "the header of a transport stream's frame"


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_a_film_that_nobody_closed_holds_all_but_its_last_seconds(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"film.{ending}"
    writer = FilmWriter(path)
    for number in range(400):
        writer.write(coded(number % 64), 0.04 * number)
    copy = tmp_path / f"copy.{ending}"
    copy.write_bytes(path.read_bytes())  # as a killed process leaves it
    writer.close()
    left, whole = pictures_of(copy)[0], pictures_of(path)[0]
    assert len(whole) == 400
    assert len(left) >= 400 - 2 * 125, "a piece of 5 s that has begun, and what the encoder holds back"
    assert left == pytest.approx(whole[: len(left)])


@pytest.mark.parametrize("ending", ["mp4", "m4v", "mov"])
def test_a_closed_film_has_one_index_with_its_length(tmp_path: Path, plain_film: Path, ending: str) -> None:
    """As players that know no pieces want it, and so that browsers seek without asking for each piece."""
    path = tmp_path / f"film.{ending}"
    writer = FilmWriter(path, audio_path=str(plain_film))
    for number in range(100):
        writer.write(coded(number % 64), 0.04 * number)
    writer.close()
    boxes = top_level_boxes(path)
    assert "moof" not in boxes
    assert boxes.count("moov") == 1
    assert boxes.index("moov") < boxes.index("mdat"), "it plays while it is fetched"
    with av.open(str(path)) as film:
        pictures = film.streams.video[0]
        assert pictures.frames == 100, "said by the index"
        assert float(pictures.duration * pictures.time_base) == pytest.approx(4.0, abs=0.04)
        film.seek(round(3.0 * av.time_base))
        found = next(frame for frame in film.decode(video=0) if frame.time >= 3.0 - 1e-3)
    assert code_of(found.to_ndarray(format="rgb24")) == 75 % 64


def test_without_room_for_a_copy_the_pieces_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    writer = FilmWriter(tmp_path / "film.mp4")
    for number in range(3):
        writer.write(coded(number), 0.04 * number)
    writer.close()
    assert writer.problem is not None
    assert "No space left" in writer.problem
    assert "moof" in top_level_boxes(tmp_path / "film.mp4")
    assert len(pictures_of(tmp_path / "film.mp4")[0]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize(("start_s", "problem"), [(0.0, None), (5.0, "none from 5 s on")])
def test_sound_that_ends_early_holds_no_pictures_back(
    tmp_path: Path, plain_film: Path, start_s: float, problem: str | None
) -> None:
    path, copy = tmp_path / "film.mp4", tmp_path / "copy.mp4"
    writer = FilmWriter(path, audio_path=str(plain_film), start_s=start_s)  # its sound ends after two seconds
    for number in range(750):
        writer.write(coded(number % 64), start_s + 0.04 * number)
    copy.write_bytes(path.read_bytes())  # as a killed process leaves it
    writer.close()
    assert len(pictures_of(copy)[0]) >= 750 - 250
    assert len(pictures_of(path)[0]) == 750
    assert (writer.problem is None) if problem is None else (problem in str(writer.problem))


def test_a_film_whose_sound_cannot_be_read_again(tmp_path: Path) -> None:
    writer = FilmWriter(tmp_path / "film.mp4", audio_path=str(tmp_path / "gone.mp4"))
    writer.write(coded(1), 0.0)
    writer.close()
    assert writer.problem is not None
    assert "without sound" in writer.problem
    assert pictures_of(tmp_path / "film.mp4")[0] == [0.0]


def test_sound_of_an_unknown_codec_is_left_out(tmp_path: Path, steady_s: list[float]) -> None:
    source = write_film(tmp_path / "source.mkv", steady_s, sound="aac")
    source.write_bytes(source.read_bytes().replace(b"A_AAC", b"A_XYZ"))
    writer = FilmWriter(tmp_path / "film.mp4", audio_path=str(source))
    writer.write(coded(1), 0.0)
    writer.close()
    assert writer.problem is not None
    assert "its codec is unknown" in writer.problem
    assert pictures_of(tmp_path / "film.mp4")[0] == [0.0]


@pytest.mark.parametrize("ending", ["mp4", "webm"])
def test_sound_that_runs_backwards_is_left_out(tmp_path: Path, steady_s: list[float], ending: str) -> None:
    once = write_film(tmp_path / "once.ts", steady_s, sound="aac").read_bytes()
    twice = tmp_path / "twice.ts"
    twice.write_bytes(once + once)
    writer = FilmWriter(tmp_path / f"film.{ending}", audio_path=str(twice))
    for number, time_s in enumerate(steady_s):
        writer.write(coded(number), time_s)
    writer.write(coded(50), 5.0)
    writer.close()
    assert writer.problem is None
    assert len(pictures_of(tmp_path / f"film.{ending}")[0]) == 51
    assert sound_of(tmp_path / f"film.{ending}")[2] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("method", ["write_until", "close"])
def test_sound_that_breaks_leaves_the_pictures(
    tmp_path: Path, plain_film: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def broken(track: AudioTrack, end_s: float) -> None:
        raise av.error.InvalidDataError(22, "it broke")

    monkeypatch.setattr(AudioTrack, method, broken)
    writer = FilmWriter(tmp_path / "film.mp4", audio_path=str(plain_film))
    for number in range(3):
        writer.write(coded(number), 0.04 * number)
    writer.close()
    assert writer.problem is not None
    assert "its sound ends" in writer.problem
    assert len(pictures_of(tmp_path / "film.mp4")[0]) == 3


def test_times_that_do_not_rise_are_pushed_on(tmp_path: Path) -> None:
    writer = FilmWriter(tmp_path / "film.mp4")
    for time_s in (0.0, 0.1, 0.1, 0.2):
        writer.write(coded(1), time_s)
    writer.close()
    read_s, _ = pictures_of(tmp_path / "film.mp4")
    assert read_s == pytest.approx([0.0, 0.1, 0.1 + float(Fraction(1, 90_000)), 0.2], abs=2e-5)


@pytest.mark.parametrize("name", ["film", "film.gif", "film.txt"])
def test_endings_that_are_no_film(tmp_path: Path, name: str) -> None:
    with pytest.raises(VideoError, match=r"end it with \.mp4"):
        FilmWriter(tmp_path / name)


def test_another_size_in_the_middle(tmp_path: Path) -> None:
    writer = FilmWriter(tmp_path / "film.mp4")
    writer.write(coded(1), 0.0)
    with pytest.raises(VideoError, match="another size"):
        writer.write(coded(2, width=64), 0.04)
    writer.close()
    assert pictures_of(tmp_path / "film.mp4")[0] == [0.0]


def test_no_picture_no_file(tmp_path: Path) -> None:
    FilmWriter(tmp_path / "film.mp4").close()
    assert not (tmp_path / "film.mp4").exists()


def test_an_ffmpeg_without_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, ".mp4", ("no_such_encoder", {}))
    writer = FilmWriter(tmp_path / "film.mp4")
    with pytest.raises(VideoError, match="cannot write it"):
        writer.write(coded(0), 0.0)
    writer.close()


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").mkdir()
    with pytest.raises(VideoError, match="cannot be written"):
        FilmWriter(tmp_path / "film.mp4")


def test_the_source_of_the_helper_is_sound(tmp_path: Path) -> None:
    """The tests' own writer keeps times too, else they would prove nothing."""
    path = write_film(tmp_path / "film.mp4", [0.0, 0.3, 0.35])
    assert pictures_of(path)[0] == pytest.approx([0.0, 0.3, 0.35], abs=1e-4)
