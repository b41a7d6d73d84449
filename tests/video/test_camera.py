"""Cameras: missing, busy, unplugged and back; films that stand in for one."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.errors import VideoError
from mien.video import camera as camera_module
from mien.video.camera import Camera
from mien.video.frames import Frame, SourceOptions
from tests.video.conftest import code_of, coded, write_film


class Plug:
    """A capture that gives `pictures`, then fails; none at all where it is unplugged."""

    def __init__(self, pictures: list[NDArray[np.uint8]] | None) -> None:
        self._pictures = iter(pictures or [])
        self._open = pictures is not None
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802 - as in OpenCV
        return self._open

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        picture = next(self._pictures, None)
        return picture is not None, None if picture is None else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)

    def get(self, property_id: int) -> float:
        return 0.0

    def release(self) -> None:
        self.released = True


def opener(plugs: list[Plug]) -> Callable[[int | str], Plug]:
    """Gives one after the other, the last one for ever."""
    waiting = list(plugs)
    return lambda address: waiting.pop(0) if len(waiting) > 1 else waiting[0]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "RETRY_S", 0.02)


def take(frames: Iterator[Frame], count: int) -> list[Frame]:
    return [next(frames) for _ in range(count)]


def test_unplugged_in_the_middle_it_goes_on_when_it_is_back() -> None:
    plugs = [Plug([coded(1), coded(2)]), Plug(None), Plug(None), Plug([coded(3, width=256, height=192), coded(4)])]
    said: list[str] = []
    camera = Camera(0, notify=said.append, open_capture=opener(plugs))
    frames = take(iter(camera), 4)
    assert [code_of(frame.image) for frame in frames] == [1, 2, 3, 4]
    assert {frame.image.shape for frame in frames} == {(96, 128, 3)}  # the first one's, for the film that is recorded
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert frames[2].time_s - frames[1].time_s > 0.03  # two waits
    assert said == ["camera 0 gives no more pictures: going on when it is back", "camera 0 is there"]
    assert all(plug.released for plug in plugs[:3])


def test_missing_at_first_it_is_waited_for_with_one_sentence() -> None:
    said: list[str] = []
    camera = Camera(7, notify=said.append, open_capture=opener([Plug(None)] * 4 + [Plug([coded(1)])]))
    (frame,) = take(iter(camera), 1)
    assert code_of(frame.image) == 1
    assert len(said) == 2
    assert said[0].startswith("camera 7 is missing (no /dev/video7): ") or os.name == "nt"
    assert said[1] == "camera 7 is there"


@pytest.mark.parametrize(
    ("wait_s", "sentences", "error"),
    [
        pytest.param(0.05, 1, "camera 7 did not come in 0.05 s", id="after a wait, whose reason was said"),
        pytest.param(0.0, 0, "camera 7 (is missing|cannot be opened)", id="at once"),
    ],
)
def test_never_there(wait_s: float, sentences: int, error: str) -> None:
    said: list[str] = []
    camera = Camera(7, wait_s=wait_s, notify=said.append, open_capture=opener([Plug(None)]))
    with pytest.raises(VideoError, match=error):
        list(camera)
    assert len(said) == sentences


def test_never_back() -> None:
    camera = Camera(7, wait_s=0.05, open_capture=opener([Plug([coded(1)]), Plug(None)]))
    assert len(list(camera)) == 1
    assert camera.fault == "camera 7 did not come back in 0.05 s"


@pytest.mark.parametrize("before", [pytest.param([], id="from the first"), pytest.param([1], id="later")])
def test_open_without_pictures_it_is_tried_in_peace_and_given_up(before: list[int]) -> None:
    plugs = [Plug([coded(number)]) for number in before] + [Plug([])]
    opened = 0
    said: list[str] = []
    give = opener(plugs)

    def count(address: int | str) -> Plug:
        nonlocal opened
        opened += 1
        if opened > 50:
            raise AssertionError("opened again and again")
        return give(address)

    camera = Camera("/dev/video7", wait_s=0.1, notify=said.append, open_capture=count)
    if before:
        assert len(list(camera)) == 1
        assert camera.fault == "/dev/video7 did not come back in 0.1 s"
    else:
        with pytest.raises(VideoError, match="/dev/video7"):
            list(camera)
    assert 2 <= opened <= 8
    assert len(said) == 1


def test_stopped_while_it_is_waited_for() -> None:
    camera = Camera(7, open_capture=opener([Plug(None)]))
    thread = threading.Thread(target=lambda: list(camera))
    thread.start()
    camera.stop()
    thread.join(5)
    assert not thread.is_alive()


def test_end_and_every() -> None:
    plug = Plug([coded(number) for number in range(9)])
    camera = Camera(0, wait_s=0, options=SourceOptions(every=3), open_capture=opener([plug, Plug(None)]))
    assert [code_of(frame.image) for frame in camera] == [0, 3, 6]


def test_a_film_stands_in_at_its_own_pace(tmp_path: Path) -> None:
    times_s = [0.0, 0.1, 0.2, 0.3]
    camera = Camera(str(write_film(tmp_path / "film.mp4", times_s)))
    began_s = time.monotonic()
    frames = list(camera)
    assert time.monotonic() - began_s >= 0.3
    assert [code_of(frame.image) for frame in frames] == [0, 1, 2, 3]
    assert [frame.time_s for frame in frames] == pytest.approx(times_s, abs=2e-3)
    assert camera.fault is None


def test_a_film_with_a_colon_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "rec-12:30.mp4", [0.0, 0.04])
    assert len(list(Camera("rec-12:30.mp4"))) == 2


def test_no_such_film() -> None:
    with pytest.raises(VideoError, match=r"film\.mp4: no such film, and no camera's number"):
        Camera("film.mp4")


def test_a_file_that_is_no_film(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text("text")
    with pytest.raises(VideoError, match="OpenCV cannot read it as a film"):
        list(Camera(str(path)))


@pytest.mark.skipif(not Path("/dev").is_dir() or Path("/dev/video0").exists(), reason="a camera is there")
def test_a_real_camera_that_is_missing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VideoError, match="camera 0 "):
        list(Camera(0, wait_s=0))
    assert capfd.readouterr().err == ""  # OpenCV is kept from saying it its own way


def test_a_password_is_not_shown() -> None:
    assert Camera("rtsp://user:secret@127.0.0.1/live").info.name == "rtsp://***@127.0.0.1/live"
