"""Cameras through OpenCV, which the base install brings: waited for where they are missing, busy or unplugged."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from mien.errors import VideoError
from mien.results import Image
from mien.video.film import for_ffmpeg, is_address, without_password
from mien.video.frames import ClosedAfterUse, Frame, SourceInfo, SourceOptions

RETRY_S = 1.0  # between two tries to open a camera that is missing
DEFAULT_OPTIONS = SourceOptions()


class Capture(Protocol):
    """What is used of `cv2.VideoCapture`."""

    def isOpened(self) -> bool: ...  # noqa: N802, D102 - OpenCV's names
    def read(self) -> tuple[bool, Any]: ...  # noqa: D102
    def get(self, property_id: int) -> float: ...  # noqa: D102
    def release(self) -> None: ...  # noqa: D102


class Camera(ClosedAfterUse):
    """Frames of a camera, for ever; a file stands in for one, at its own pace, and ends.

    `notify` gets one sentence when the camera is missing, busy or unplugged, and one when it is back; meanwhile it
    is tried every second, for `wait_s` at most (None: for ever). `open_capture` opens the device.
    """

    def __init__(
        self,
        address: int | str,
        *,
        options: SourceOptions = DEFAULT_OPTIONS,
        notify: Callable[[str], None] | None = None,
        wait_s: float | None = None,
        open_capture: Callable[[int | str], Capture] | None = None,
    ) -> None:
        """Nothing is opened yet: `address` is a number, a stream's address or a film.

        Raises:
            VideoError: a film is named that is not there.
        """
        self._is_film = isinstance(address, str) and not is_address(address) and not address.startswith("/dev/")
        if self._is_film and not Path(str(address)).is_file():
            raise VideoError(f"{address}: no such film, and no camera's number: try --camera 0")
        self._address, self._options, self._wait_s = address, options, wait_s
        self._notify = notify or (lambda sentence: None)
        self._open_capture = open_capture or (lambda at: _open(at, options.timeout_s))
        self._closed = threading.Event()
        self._size_wh: tuple[int, int] | None = None
        self._since_s, self._said = 0.0, False  # when the pictures went away, and whether that was said
        self.broken = 0
        self.fault: str | None = None
        name = f"camera {address}" if isinstance(address, int) else without_password(address)
        self.info = SourceInfo(name=name, live=True)

    def __iter__(self) -> Iterator[Frame]:
        began_s: float | None = None
        index = 0
        self._since_s, self._said = time.monotonic(), False
        while (capture := self._opened(seen=began_s is not None)) is not None:
            came = False
            try:
                for bgr, stamp_s in self._pictures(capture):
                    now_s = time.monotonic()
                    began_s = now_s if began_s is None else began_s
                    came = True
                    if self._said:
                        self._notify(f"{self.info.name} is there")
                        self._said = False
                    time_s = now_s - began_s if stamp_s is None else stamp_s
                    if self._options.end_s is not None and time_s > self._options.end_s:
                        return
                    if time_s >= self._options.start_s:
                        if index % self._options.every == 0:
                            yield Frame(self._image(bgr), time_s, index, now_s)
                        index += 1
            finally:
                capture.release()
            if self._is_film or self._closed.is_set():
                return
            if came:
                self._since_s = time.monotonic()
            elif self._given_up(seen=began_s is not None):
                break
            gone = f"{self.info.name} gives no more pictures: going on when it is back"
            self._pause(self._why_missing() if began_s is None else gone)
        if began_s is None and not self._closed.is_set():
            waited = f"{self.info.name} did not come in {self._wait_s:g} s"
            raise VideoError(waited if self._said else self._why_missing())

    def stop(self) -> None:
        """End the iteration, from any thread; also the wait for a camera."""
        self._closed.set()

    def _opened(self, *, seen: bool) -> Capture | None:
        """The device, once it can be opened; None when it was waited for long enough, or closed."""
        while not self._closed.is_set():
            capture = self._open_capture(self._address)
            if capture.isOpened():
                return capture
            capture.release()
            if self._is_film:
                raise VideoError(f"{self.info.name}: OpenCV cannot read it as a film: is it one, and complete?")
            if self._given_up(seen=seen):
                return None
            self._pause(self._why_missing())
        return None

    def _given_up(self, *, seen: bool) -> bool:
        """Whether there has been no picture for `wait_s`; sets `fault` where there was one before."""
        if self._wait_s is None or time.monotonic() - self._since_s < self._wait_s:
            return False
        self.fault = f"{self.info.name} did not come back in {self._wait_s:g} s" if seen else None
        return True

    def _pause(self, why: str) -> None:
        """Wait to try again, with one sentence for each time that the pictures stay away."""
        if not self._said:
            self._notify(why)
            self._said = True
        self._closed.wait(RETRY_S)

    def _pictures(self, capture: Capture) -> Iterator[tuple[Any, float | None]]:
        """BGR pictures until there are no more, with the time of those of a film, which comes at its own pace."""
        start_s = time.monotonic()
        while not self._closed.is_set():
            there, bgr = capture.read()
            if not there:
                return
            if not self._is_film:
                yield bgr, None
                continue
            stamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            self._closed.wait(max(0.0, start_s + stamp_s - time.monotonic()))
            yield bgr, stamp_s

    def _image(self, bgr: Any) -> Image:
        """RGB, in the size of the first picture: a camera that came back may have another mode."""
        image = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        self._size_wh = self._size_wh or (image.shape[1], image.shape[0])
        if (image.shape[1], image.shape[0]) != self._size_wh:
            image = np.asarray(cv2.resize(image, self._size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        return image

    def _why_missing(self) -> str:
        """One sentence on a camera that cannot be opened, with the cure."""
        if isinstance(self._address, str):
            return f"{self.info.name} does not answer: check the address and the network"
        if not sys.platform.startswith("linux"):
            return f"{self.info.name} cannot be opened: plug it in, allow its use, or close what else uses it"
        device = Path(f"/dev/video{self._address}")
        if not device.exists():
            others = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video[0-9]*"))
            known = f"choose --camera {' or '.join(others)}" if others else "plug one in"
            return f"{self.info.name} is missing (no {device}): {known}"
        if not os.access(device, os.R_OK | os.W_OK):
            return f"{self.info.name} may not be used: join the group of {device} (usually video)"
        return f"{self.info.name} is busy or gives no pictures: close the other program that uses it"


def _open(address: int | str, timeout_s: float) -> Capture:
    with _quiet():
        if isinstance(address, int):
            capture = cv2.VideoCapture(address)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the driver's queue would be delay
            return capture
        timeout_ms = int(1000 * timeout_s)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
        backend = cv2.CAP_FFMPEG if is_address(address) else cv2.CAP_ANY
        return cv2.VideoCapture(for_ffmpeg(address), backend, limits)


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV says on stderr what a sentence of ours says better."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
