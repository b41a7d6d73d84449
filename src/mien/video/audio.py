"""The sound of a film, kept in step with its pictures: copied where the container takes it, else encoded anew."""

from collections.abc import Iterator
from typing import Any

from mien.errors import require
from mien.video.film import for_ffmpeg

OPUS_HZ = 48_000  # the rate that libopus runs at
FALLBACK = {"webm": "libopus"}  # encoder where the sound cannot be copied; aac elsewhere


class AudioTrack:
    """The first sound track of `path`, written into an open PyAV output a little ahead of its pictures.

    Packets between `start_s` and the film's end are moved so that `start_s` becomes 0. A damaged packet is left out,
    and so is one whose time runs backwards, which no container takes.
    """

    def __init__(self, path: str, output: Any, *, start_s: float) -> None:
        """Add the stream to `output`, whose header must not be written yet.

        Raises:
            FFmpegError: the file cannot be opened again.
            ValueError: FFmpeg does not know the codec of its sound, or there is none from `start_s` on.
        """
        self._av: Any = require("av", "video")
        self._output = output
        self._start_s = start_s
        self._reframed: Any = None  # a filter on the packets that are copied
        self._input = self._av.open(for_ffmpeg(path), metadata_errors="replace")
        self._source = self._input.streams.audio[0]
        if self._source.codec_context is None:
            raise ValueError("its codec is unknown")
        self._origin_s = (self._input.start_time or 0) / self._av.time_base
        if not self._comes(path):  # an empty track would hold every picture back
            raise ValueError(f"none from {start_s:g} s on")
        name = self._source.codec_context.name
        self.copied = self._source.codec_context.codec.canonical_name in output.supported_codecs
        if self.copied:
            self._target = output.add_stream_from_template(self._source)
            if name == "aac":  # MPEG transport streams frame it in another way, which MP4 in pieces does not take
                self._reframed = self._av.BitStreamFilterContext("aac_adtstoasc", self._source)
        else:
            encoder = FALLBACK.get(output.format.name, "aac")
            rate_hz = OPUS_HZ if encoder == "libopus" else self._source.codec_context.sample_rate
            self._target = output.add_stream(encoder, rate=rate_hz)
            self._target.codec_context.layout = "mono" if self._source.codec_context.channels == 1 else "stereo"
        self.codec = name
        self._to_start(self._input)
        self._pieces = self._copies() if self.copied else self._encoded()
        self._waiting: tuple[float, Any] | None = None

    def _comes(self, path: str) -> bool:
        """Whether there is any sound from the start on."""
        with self._av.open(for_ffmpeg(path), metadata_errors="replace") as probe:
            self._to_start(probe)
            packets = probe.demux(probe.streams.audio[0])
            return any(packet.pts is not None and not self._too_early(self._time_s(packet)) for packet in packets)

    def _to_start(self, container: Any) -> None:
        if self._start_s > 0:
            container.seek(int((self._start_s + self._origin_s) * self._av.time_base))

    def _time_s(self, piece: Any) -> float:
        """When a packet or frame sounds, in seconds of the source."""
        time_s: float = float(piece.pts * piece.time_base) - self._origin_s
        return time_s

    def _too_early(self, time_s: float) -> bool:
        return self._start_s > 0 and time_s < self._start_s

    def write_until(self, end_s: float) -> None:
        """Write the sound up to `end_s`, seconds of the source."""
        while True:
            piece = self._waiting or next(self._pieces, None)
            self._waiting = None
            if piece is None:
                return
            if piece[0] > end_s:
                self._waiting = piece
                return
            for packet in piece[1]:
                self._output.mux(packet)

    def close(self, end_s: float) -> None:
        """Write the rest up to `end_s` and close the input."""
        try:
            self.write_until(end_s)
            if not self.copied:
                self._output.mux(self._target.encode(None))
        finally:
            self._input.close()

    def _packets(self) -> Iterator[Any]:
        """Packets of the sound from the start on; a file that was cut short ends here too."""
        packets = self._input.demux(self._source)
        while True:
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError:
                return
            if packet is None:
                return
            yield packet

    def _copies(self) -> Iterator[tuple[float, list[Any]]]:
        """Time and packet, moved to the output's clock."""
        last: int | None = None
        for packet in self._packets():
            if packet.pts is None or packet.dts is None or (last is not None and packet.dts <= last):
                continue
            last = packet.dts
            time_s = self._time_s(packet)
            if self._too_early(time_s):
                continue
            moved = round((self._origin_s + self._start_s) / packet.time_base)
            packet.pts -= moved
            packet.dts -= moved
            packet.stream = self._target
            yield time_s, self._framed(packet)

    def _framed(self, packet: Any) -> list[Any]:
        """The packet as the output frames it; nothing where it is damaged."""
        if self._reframed is None:
            return [packet]
        try:
            framed: list[Any] = self._reframed.filter(packet)
        except self._av.error.FFmpegError:
            return []  # a click in the sound, not the end of the film
        return framed

    def _encoded(self) -> Iterator[tuple[float, list[Any]]]:
        """Time and new packets, of frames that are encoded when their turn comes."""
        last: int | None = None
        for packet in self._packets():
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError:
                continue  # a click in the sound, not the end of the film
            for frame in frames:
                if frame.pts is None or (last is not None and frame.pts <= last):
                    continue
                last = frame.pts
                time_s = self._time_s(frame)
                if self._too_early(time_s):
                    continue
                frame.pts -= round((self._origin_s + self._start_s) / frame.time_base)
                yield time_s, self._target.encode(frame)
