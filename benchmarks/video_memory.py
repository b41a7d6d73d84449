"""Memory of `mien video` on a long film: resident size over time, its peak, and its slope after the first minute.

    python benchmarks/video_memory.py [--minutes 10] [--detector yunet] [--output FILE.json]

A person moves about for 20 s in a film of 640 x 480 at 25 Hz with sound; the packets are repeated until the film is as
long as asked. `mien video` then writes an annotated copy, a Parquet table and a timeline page, in a process of its own,
whose resident size is read from /proc twice a second. Bars: under 1 GB, and a slope of zero after the first minute of
the film: the resident size does not grow by more than 1 MB a minute of film (a line fitted by least squares).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from mien import demo
from mien.images import read_image

RATE_HZ, SIZE_WH, PIECE_S, SOUND_HZ = 25, (640, 480), 20, 48_000
PEAK_BAR_MB, SLOPE_BAR_MB = 1000.0, 1.0


@dataclass(frozen=True)
class Memory:
    """What was measured."""

    minutes: float
    wall_s: float
    frames: int
    start_mb: float  # after the first minute of film
    end_mb: float
    peak_mb: float
    slope_mb: float  # a minute of film, after the first
    samples: tuple[tuple[float, float], ...]  # (minute of film, resident MB), some forty of them
    exit_code: int

    @property
    def held(self) -> bool:
        """Whether both bars are met."""
        return self.exit_code == 0 and self.peak_mb < PEAK_BAR_MB and self.slope_mb < SLOPE_BAR_MB


def frames() -> Iterator[np.ndarray]:  # type: ignore[type-arg]
    """The portrait of the demo, moving about on a gradient; the end meets the beginning."""
    portrait = cv2.resize(read_image(demo.portrait()), (300, 352), interpolation=cv2.INTER_AREA)
    width, height = SIZE_WH
    room = np.tile(np.linspace(60, 190, width, dtype=np.float32)[None, :, None], (height, 1, 3)).astype(np.uint8)
    for number in range(PIECE_S * RATE_HZ):
        turn = 2 * np.pi * number / (PIECE_S * RATE_HZ)
        left, top = round(170 + 120 * np.sin(3 * turn)), round(64 + 50 * np.sin(5 * turn))
        frame = room.copy()
        frame[top : top + 352, left : left + 300] = portrait
        yield frame


def write_piece(path: Path) -> None:
    """Twenty seconds with a tone."""
    with av.open(str(path), "w") as output:
        film = output.add_stream("libx264", rate=RATE_HZ, options={"preset": "veryfast", "bf": "0"})
        film.width, film.height = SIZE_WH
        sound = output.add_stream("aac", rate=SOUND_HZ)
        sound.codec_context.layout = "mono"
        size = SOUND_HZ // RATE_HZ
        for number, image in enumerate(frames()):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
            output.mux(film.encode(frame))
            time_s = (np.arange(size) + number * size) / SOUND_HZ
            wave = (0.1 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)[None]
            piece = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = SOUND_HZ, number * size, Fraction(1, SOUND_HZ)
            output.mux(sound.encode(piece))
        output.mux(film.encode(None))
        output.mux(sound.encode(None))


def repeat(piece: Path, path: Path, times: int) -> None:
    """The packets of `piece`, one after the other, without decoding."""
    with av.open(str(piece)) as first, av.open(str(path), "w") as output:
        targets = {stream.index: output.add_stream_from_template(stream) for stream in first.streams}
        for number in range(times):
            with av.open(str(piece)) as source:
                for packet in source.demux():
                    if packet.dts is None or packet.pts < 0:
                        continue
                    shift = round(number * PIECE_S / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = targets[packet.stream.index]
                    output.mux(packet)


def resident_mb(process: int) -> float | None:
    """Resident size as Linux knows it; None when the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    sizes = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")]
    return sizes[0] if sizes else None


def measure(film: Path, folder: Path, *, minutes: float, model: str, detector: str) -> Memory:
    """Run `mien video` over the film and watch it."""
    command = [sys.executable, "-m", "mien", "video", str(film), "--model", model, "--detector", detector]
    command += ["--output", str(folder / "out.mp4"), "--table", str(folder / "out.parquet")]
    command += ["--timeline", str(folder / "out.html"), "--format", "json"]
    began_s = time.monotonic()
    samples: list[tuple[float, float]] = []
    with (folder / "summary.json").open("w") as out, subprocess.Popen(command, stdout=out) as process:
        while process.poll() is None:
            size_mb = resident_mb(process.pid)
            if size_mb is not None:
                samples.append((time.monotonic() - began_s, size_mb))
            time.sleep(0.5)
    wall_s = time.monotonic() - began_s
    summary = json.loads((folder / "summary.json").read_text() or "{}")
    times_s, sizes_mb = np.array(samples).T
    film_minutes = times_s / wall_s * minutes  # the work is even
    settled = (film_minutes > min(1.0, minutes / 3)) & (times_s < wall_s - 3)  # the timeline is drawn at the end
    every = max(1, len(samples) // 40)
    slope_mb = float(np.polyfit(film_minutes[settled], sizes_mb[settled], 1)[0])
    return Memory(
        minutes=minutes,
        wall_s=round(wall_s, 1),
        frames=int(summary.get("frames", 0)),
        start_mb=round(float(sizes_mb[settled][0]), 1),
        end_mb=round(float(sizes_mb[settled][-1]), 1),
        peak_mb=round(float(sizes_mb.max()), 1),
        slope_mb=round(slope_mb, 3),
        samples=tuple(
            (round(float(at), 2), round(float(size), 1))
            for at, size in zip(film_minutes[::every], sizes_mb[::every], strict=True)
        ),
        exit_code=process.returncode,
    )


def run(minutes: float, model: str, detector: str) -> Memory:
    """Make the film, and measure."""
    with tempfile.TemporaryDirectory(prefix="mien-video-") as name:
        folder = Path(name)
        write_piece(folder / "piece.mp4")
        repeat(folder / "piece.mp4", folder / "film.mp4", max(1, round(60 * minutes / PIECE_S)))
        return measure(folder / "film.mp4", folder, minutes=minutes, model=model, detector=detector)


def main() -> None:
    """Measure, print, and end with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--model", default="default")
    parser.add_argument("--detector", default="centerface")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    memory = run(options.minutes, options.model, options.detector)
    print(f"{memory.frames:,} frames, {memory.minutes:g} minutes of film in {memory.wall_s:.0f} s")
    print(f"resident: {memory.start_mb:.0f} MB after the first minute, {memory.end_mb:.0f} MB at the end")
    print(f"peak {memory.peak_mb:.0f} MB (bar: {PEAK_BAR_MB:.0f}), slope {memory.slope_mb:+.2f} MB a minute of film")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps({**asdict(memory), "held": memory.held}, indent=1) + "\n")
    sys.exit(0 if memory.held else 1)


if __name__ == "__main__":
    main()
