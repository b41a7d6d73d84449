"""Films and streams, read by PyAV: any container and codec of FFmpeg, upright, with the stream's own time stamps."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import cv2
import numpy as np

from mien.errors import VideoError, require
from mien.images import DEFAULT_LIMITS
from mien.results import Image
from mien.video.frames import ClosedAfterUse, Frame, SourceInfo, SourceOptions

LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "mms"})
WEB_SCHEMES = frozenset({"http", "https"})
SHORT_S, SHORT_RATIO = 1.0, 0.05  # a film that ends so much, and two pictures, before its header says was cut short
RESTART_S = 1.0  # stamps that fall back so far start anew, as in films joined end to end, and time goes on
QUARTER_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


def is_address(source: str) -> bool:
    """Whether `source` is fetched from a network."""
    return urlsplit(source).scheme.lower() in LIVE_SCHEMES | WEB_SCHEMES


def for_ffmpeg(source: str | Path) -> str:
    """How a file or address is given to FFmpeg, to which `12:30.mp4` would be an address."""
    return str(source) if is_address(str(source)) else str(Path(source).absolute())


def without_password(address: str) -> str:
    """An address as it may be shown and logged."""
    parts = urlsplit(address)
    if not parts.netloc or "@" not in parts.netloc:
        return address
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))


def _is_animated_webp(path: Path) -> bool:
    """By the file's header (WebP container specification, "Extended file format")."""
    with path.open("rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20:] and head[20] & 2)


class Film(ClosedAfterUse):
    """A file or network stream.

    Time counts from the start of the container, as players show it; of live streams, from the first frame. Rotation
    and pixels that are not square are undone, so that every image is as a viewer shows it; a stream that changes its
    size in the middle is scaled to its first size.
    """

    def __init__(self, address: str, options: SourceOptions) -> None:
        """Open it and read its header.

        Raises:
            VideoError: there is no such file, it is no film, has no pictures, or the stream does not answer.
            MissingExtraError: PyAV is not installed.
        """
        self._av: Any = require("av", "video")
        self._options = options
        self.broken = 0
        self.fault: str | None = None
        self._reader: int | None = None  # the thread that iterates
        self._stopped = False
        self._scheme = urlsplit(address).scheme.lower() if is_address(address) else ""
        name = without_password(address)
        self._container = self._open(address, name)
        if not self._container.streams.video:
            self.close()
            raise VideoError(f"{name}: has no pictures in it: give a film")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        duration_s = self._duration_s()
        live = self._scheme in LIVE_SCHEMES or (self._scheme in WEB_SCHEMES and duration_s is None)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.info = SourceInfo(
            name=name,
            duration_s=None if live else duration_s,
            rate_hz=float(rate) if rate else None,
            live=live,
            audio_path=for_ffmpeg(address) if self._container.streams.audio and not live else None,
        )
        self._origin_s: float | None = None if live else (self._container.start_time or 0) / self._av.time_base
        self._size_wh: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[Frame]:
        self._reader = threading.get_ident()
        try:
            yield from self._frames()
        finally:
            self._reader = None

    def _frames(self) -> Iterator[Frame]:
        start_s, end_s = self._options.start_s, self._options.end_s
        self._seek(start_s)
        last_s, taken, index = -np.inf, 0, 0
        for picture in self._decoded():
            time_s = self._time_s(picture, last_s)
            if time_s < last_s - RESTART_S and not picture.is_corrupt:
                shift_s = last_s + self._step_s - time_s
                self._origin_s = (self._origin_s or 0.0) - shift_s
                time_s += shift_s
            if time_s <= last_s or picture.is_corrupt:
                self.broken += 1
                continue
            last_s = time_s
            if end_s is not None and time_s > end_s:
                return
            if time_s < start_s:
                continue
            index += 1
            if (index - 1) % self._options.every == 0:
                taken += 1
                yield Frame(self._upright(picture), time_s, index - 1)
        if last_s == -np.inf and self.broken and not self._scheme and _is_animated_webp(Path(self._container.name)):
            raise VideoError(
                f"{self.info.name}: an animated WebP, which FFmpeg here cannot decode: save it as GIF or MP4"
            )
        self._notice_early_end(last_s)

    def stop(self) -> None:
        """End an iteration in another thread with the packet that it waits for."""
        self._stopped = True

    def close(self) -> None:
        """Close the file or connection; while another thread reads, only stop it: FFmpeg cannot be closed under it."""
        self._stopped = True
        if self._reader in (None, threading.get_ident()):
            self._container.close()

    def _open(self, address: str, name: str) -> Any:
        if not self._scheme and not Path(address).exists():
            raise VideoError(f"{name}: no such file: check the path")
        options = {"rtsp_transport": "tcp"} if self._scheme.startswith("rtsp") else {}
        timeout_s = self._options.timeout_s if self._scheme else None
        began_s = time.monotonic()
        try:
            return self._av.open(for_ffmpeg(address), options=options, timeout=timeout_s, metadata_errors="replace")
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            if timeout_s is not None and time.monotonic() - began_s >= timeout_s:  # FFmpeg's own word for it varies
                cure = "check the address, or raise the time-out"
                raise VideoError(f"{name}: no answer in {timeout_s:g} s: {cure}") from error
            reason = getattr(error, "strerror", None) or error
            cure = "check the address" if self._scheme else "is it a film, and was it copied to its end?"
            raise VideoError(f"{name}: cannot be opened ({reason}): {cure}") from error

    def _duration_s(self) -> float | None:
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        if not self._container.duration:
            return None
        duration, start = self._container.duration, self._container.start_time or 0
        if "matroska" in self._container.format.name and 0 < start < duration:
            duration -= start  # what its header says is where the film ends
        return float(duration / self._av.time_base)

    def _seek(self, start_s: float) -> None:
        if start_s <= 0 or self._origin_s is None:
            return
        try:
            self._container.seek(int((start_s + self._origin_s) * self._av.time_base))
        except self._av.error.FFmpegError:
            return  # it cannot be searched: frames before the start are read and left out

    def _decoded(self) -> Iterator[Any]:
        """Pictures of the stream, in the order in which they are shown; what cannot be decoded is counted."""
        packets = self._container.demux(self._stream)
        while not self._stopped:
            try:
                packet = next(packets, None)
            except self._av.error.ExitError:
                self.fault = f"the stream sent nothing for {self._options.timeout_s:g} s"
                packet = None
            except (self._av.error.FFmpegError, OSError) as error:
                self.fault = f"reading stopped ({getattr(error, 'strerror', None) or error})"
                packet = None
            try:
                yield from packet.decode() if packet is not None else self._stream.decode(None)
            except self._av.error.EOFError:  # the decoder was emptied by the last packet
                return
            except self._av.error.FFmpegError:
                self.broken += 1
            if packet is None:
                return

    def _time_s(self, picture: Any, last_s: float) -> float:
        """Time of a picture from the origin; a bare codec stream has no stamps, there the rate counts."""
        stamp = picture.pts if picture.pts is not None else picture.dts
        if stamp is None or picture.time_base is None:
            return 0.0 if last_s == -np.inf else last_s + self._step_s
        absolute_s = float(stamp * picture.time_base)
        if self._origin_s is None:
            self._origin_s = absolute_s
        return absolute_s - self._origin_s

    @property
    def _step_s(self) -> float:
        """From one picture to the next, as far as the header knows."""
        return 1 / (self.info.rate_hz or 25.0)

    def _upright(self, picture: Any) -> Image:
        aspect = self._stream.sample_aspect_ratio
        width = round(picture.width * float(aspect)) if aspect and aspect != 1 else picture.width
        if width * picture.height > DEFAULT_LIMITS.max_pixels:
            raise VideoError(f"{self.info.name}: {width} x {picture.height} pixels is too large: scale it down")
        image = np.asarray(picture.to_ndarray(format="rgb24", width=width, height=picture.height), np.uint8)
        turn = QUARTER_TURNS.get(round(picture.rotation) % 360)
        if turn is not None:
            image = np.asarray(cv2.rotate(image, turn), np.uint8)
        size_wh = (image.shape[1], image.shape[0])
        self._size_wh = self._size_wh or size_wh
        if size_wh != self._size_wh:
            image = np.asarray(cv2.resize(image, self._size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        return image

    def _notice_early_end(self, last_s: float) -> None:
        """Set `fault` where the pictures end long before the header says."""
        said_s, end_s = self.info.duration_s, self._options.end_s
        if said_s is None or self.fault is not None or last_s == -np.inf:
            return
        expected_s = said_s if end_s is None else min(said_s, end_s)
        if last_s + max(SHORT_S, SHORT_RATIO * said_s, 2 * self._step_s) < expected_s:
            self.fault = f"ends at {last_s:.1f} s, though its header says {said_s:.1f} s: it was cut short"
