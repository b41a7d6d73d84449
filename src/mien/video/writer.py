"""Films out: pictures encoded by PyAV, each with its own time, and the sound of the source."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import VideoError, require
from mien.files import check_writable
from mien.results import Image
from mien.video.audio import AudioTrack
from mien.video.film import for_ffmpeg

CLOCK_HZ = 90_000  # ticks of the encoder's clock, MPEG's own: 24, 25, 30, 50 and 60 Hz are whole numbers of them
KEY_EVERY_S = 5.0  # at most from one picture that players can jump to until the next, at any frame rate
DEFAULT_RATE_HZ = 25.0  # what the encoder plans its bits for where the source does not say

H264 = ("libx264", {"preset": "veryfast", "crf": "20"})  # no loss that is seen beside the source, at moderate cost
VP9 = ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "30", "b": "0"})
# while it grows, a film is in pieces, one a key frame: its index does not grow in memory, and a killed process leaves a
# film. The header waits for the first piece: it must name the encoder's delay. Pictures wait for a sound that has ended
# no longer than a second (in microseconds)
PIECES = {"movflags": "frag_keyframe+delay_moov+default_base_moof", "max_interleave_delta": "1000000"}
# then it is copied behind one index: many players know no pieces, and browsers ask a server for each before they begin
WHOLE = {"movflags": "faststart"}
IN_PIECES = (".mp4", ".m4v", ".mov")
CODECS = {".mp4": H264, ".m4v": H264, ".mov": H264, ".mkv": H264, ".webm": VP9}


class FilmWriter:
    """Encodes pictures as they come; closing it at any moment leaves a valid film of what came."""

    def __init__(
        self, path: Path, *, rate_hz: float | None = None, audio_path: str | None = None, start_s: float = 0.0
    ) -> None:
        """`start_s` of the source becomes time 0; `audio_path` is where its sound is read. Folders are made.

        Raises:
            VideoError: the ending is none of `CODECS`, or the file cannot be made.
            MissingExtraError: PyAV is not installed.
        """
        self._av: Any = require("av", "video")
        if path.suffix.lower() not in CODECS:
            raise VideoError(f"{path}: no film that mien writes: end it with {', '.join(CODECS)}")
        try:
            check_writable(path)  # FFmpeg opens the file with its first packet, long after the first picture
        except OSError as error:
            raise VideoError(f"{path}: cannot be written ({error.strerror}): choose another name") from error
        self._path, self._audio_path, self._start_s = path, audio_path, start_s
        self._rate = Fraction(rate_hz or DEFAULT_RATE_HZ).limit_denominator(1001)
        self._output: Any = None
        self._stream: Any = None
        self._audio: AudioTrack | None = None
        self._last_tick, self._last_s = -1, start_s
        self._key_s = -math.inf  # of the last key frame that was asked for
        self.problem: str | None = None  # a sentence where the sound could not be kept

    def write(self, image: Image, time_s: float) -> None:
        """Add a picture `(H, W, 3)` of the source's time `time_s`; all have the size of the first one.

        Raises:
            VideoError: the disk is full, or the picture has another size.
        """
        if self._output is None:
            self._begin(image)
        image = _even(image)
        if image.shape[:2] != (self._stream.height, self._stream.width):
            raise VideoError(f"{self._path}: a picture of another size came in the middle")
        frame = self._av.VideoFrame.from_ndarray(image, format="rgb24")
        tick = max(round((time_s - self._start_s) * CLOCK_HZ), self._last_tick + 1)
        frame = frame.reformat(format="yuv420p", dst_colorspace="itu709", dst_color_range="MPEG")
        frame.pts, frame.time_base = tick, Fraction(1, CLOCK_HZ)
        self._last_tick, self._last_s = tick, time_s
        if time_s - self._key_s >= KEY_EVERY_S:
            frame.pict_type, self._key_s = self._av.video.frame.PictureType.I, time_s
        self._sound(time_s)
        try:
            self._output.mux(self._stream.encode(frame))
        except self._av.error.FFmpegError as error:
            raise self._fault(error) from error

    def close(self) -> None:
        """Write what the encoder still holds and the index; nothing is there where no picture came."""
        if self._output is None:
            return
        output, self._output = self._output, None
        try:
            try:
                output.mux(self._stream.encode(None))
                self._sound(self._last_s + float(1 / self._rate), last=True)
            finally:
                output.close()  # the index, without which no player opens what came
        except self._av.error.FFmpegError as error:
            raise self._fault(error) from error
        if self._path.suffix.lower() in IN_PIECES:
            self._join()

    def _join(self) -> None:
        """Put a copy with one index in the place of the pieces; where that fails, these stay."""
        path = self._path.resolve()
        partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        try:
            with self._av.open(str(path)) as pieces, self._av.open(str(partial), "w", options=WHOLE) as whole:
                targets = {stream.index: whole.add_stream_from_template(stream) for stream in pieces.streams}
                for packet in pieces.demux():
                    if packet.dts is not None:
                        if packet.stream.type == "video":  # a piece tells steps of decoding, not of showing
                            packet.duration = round(1 / (self._rate * packet.time_base))
                        packet.stream = targets[packet.stream.index]
                        whole.mux(packet)
            partial.replace(path)
        except (self._av.error.FFmpegError, OSError) as error:
            problem = f"{self._path}: stays in pieces, which some players cannot search: not copied ({error})"
            self.problem = f"{self.problem}; {problem}" if self.problem else problem
        finally:
            partial.unlink(missing_ok=True)

    def _sound(self, end_s: float, *, last: bool = False) -> None:
        """Write the sound up to `end_s`; where it cannot be, the pictures go on without it."""
        if self._audio is None:
            return
        try:
            (self._audio.close if last else self._audio.write_until)(end_s)
        except self._av.error.FFmpegError as error:
            self._audio = None
            self.problem = f"{self._path}: its sound ends before {end_s:.1f} s of the source, where it broke ({error})"

    def _begin(self, first: Image) -> None:
        """Open the file with a stream for pictures of this size, and one for the sound."""
        height, width = _even(first).shape[:2]
        codec, options = CODECS[self._path.suffix.lower()]
        try:
            options_out = PIECES if self._path.suffix.lower() in IN_PIECES else {}
            self._output = self._av.open(for_ffmpeg(self._path), "w", options=options_out)
            self._output.flags |= self._av.container.Flags.flush_packets.value  # to the disk, piece by piece
            self._stream = self._output.add_stream(codec, rate=self._rate, options=options)
        except (self._av.error.FFmpegError, OSError, ValueError) as error:  # ValueError: FFmpeg lacks the encoder
            if self._output is not None:
                self._output.close()
            self._output = None
            raise self._fault(error) from error
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, CLOCK_HZ)  # the rate would round every time stamp
        for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
            setattr(self._stream.codec_context, name, 1)  # BT.709, of limited range: said, so that no player guesses
        if self._audio_path is not None:
            try:
                self._audio = AudioTrack(self._audio_path, self._output, start_s=self._start_s)
            except (self._av.error.FFmpegError, ValueError) as error:
                self.problem = f"{self._path}: without sound, which cannot be read again ({error})"

    def _fault(self, error: Exception) -> VideoError:
        reason = getattr(error, "strerror", None) or error
        return VideoError(f"{self._path}: cannot write it ({reason}): check the disk and the folder")


def _even(image: Image) -> Image:
    """Encoders take even sides: an odd picture grows by a copy of its last row or column."""
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(image)
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
