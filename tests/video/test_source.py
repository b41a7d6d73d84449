"""What users name as SOURCE: sequences of pictures, and which reader takes what."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from mien.errors import VideoError
from mien.video.camera import Camera
from mien.video.film import Film
from mien.video.frames import SourceOptions
from mien.video.source import PictureSequence, open_source
from tests.video.conftest import code_of, coded


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """frame-0.png to frame-11.png, and things that are none of them."""
    for number in range(12):
        PIL.Image.fromarray(coded(number)).save(tmp_path / f"frame-{number}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "more").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "options", "numbers"),
    [
        pytest.param("", {}, range(12), id="folder, 2 before 10"),
        pytest.param("frame-%d.png", {}, range(12), id="printf pattern"),
        pytest.param("frame-%02d.png", {}, range(12), id="printf pattern with a width"),
        pytest.param("*-1*.png", {}, (1, 10, 11), id="glob"),
        pytest.param("frame-[0-3].png", {}, range(4), id="glob of one character"),
        pytest.param("", {"start_s": 0.2, "end_s": 0.8, "every": 2}, (2, 4, 6, 8), id="a part"),
        pytest.param("", {"start_s": 60.0}, (), id="start after the end"),
    ],
)
def test_sequences(pictures: Path, pattern: str, options: dict[str, Any], numbers: tuple[int, ...]) -> None:
    with open_source(str(pictures / pattern), options=SourceOptions(sequence_hz=10, **options)) as source:
        frames = list(source)
    assert [code_of(frame.image) for frame in frames] == list(numbers)
    assert [frame.index for frame in frames] == [place * options.get("every", 1) for place in range(len(frames))]
    if "1" not in pattern:
        assert [frame.time_s for frame in frames] == pytest.approx([number / 10 for number in numbers])


def test_damaged_and_odd_pictures_are_counted_and_keep_their_time(pictures: Path) -> None:
    (pictures / "frame-3.png").write_bytes(b"\x89PNG damaged")
    PIL.Image.fromarray(coded(7, width=64)).save(pictures / "frame-7.png")
    with PictureSequence(str(pictures), SourceOptions(sequence_hz=10)) as source:
        frames = list(source)
    assert source.broken == 2
    kept = [number for number in range(12) if number not in (3, 7)]
    assert [code_of(frame.image) for frame in frames] == kept
    assert [frame.time_s for frame in frames] == pytest.approx([number / 10 for number in kept])
    assert source.info.duration_s == pytest.approx(1.2)


@pytest.mark.parametrize("name", ["more", "%d.png", "*.jpg", "no-such-folder/*.png"])
def test_no_pictures(pictures: Path, name: str) -> None:
    with pytest.raises(VideoError, match=r"no pictures there|cannot be searched"):
        open_source(str(pictures / name))


def test_a_file_that_is_called_like_a_pattern(tmp_path: Path, plain_film: Path) -> None:
    path = tmp_path / "film[1].mp4"
    path.write_bytes(plain_film.read_bytes())
    with open_source(str(path)) as source:
        assert isinstance(source, Film)


def test_a_number_is_a_camera() -> None:
    with open_source("7") as source:
        assert isinstance(source, Camera)
        assert source.info.live
        assert source.info.name == "camera 7"


def test_one_picture_is_a_film_of_one_frame(pictures: Path) -> None:
    with open_source(str(pictures / "frame-5.png")) as source:
        (frame,) = source
    assert np.array_equal(frame.image, coded(5))
