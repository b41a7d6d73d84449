"""Small films whose every frame carries its number, written by PyAV without mien."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.labels import FER7
from mien.results import Face, Quality
from mien.video.track import TrackedFace
from tests.drawing import draw_face

Rgb = NDArray[np.uint8]
WIDTH, HEIGHT, BITS = 128, 96, 8
SOUND_HZ = 48_000


def coded(number: int, width: int = WIDTH, height: int = HEIGHT) -> Rgb:
    """A picture whose eight bars are the bits of `number`; its upper half is red, so that it has a top."""
    image = np.zeros((height, width, 3), np.uint8)
    bar = width // BITS
    for bit in range(BITS):
        image[height // 4 :, bit * bar : (bit + 1) * bar] = 230 if number >> bit & 1 else 25
    image[: height // 4] = (210, 30, 30)
    return image


def steady(number: int) -> Rgb:
    """A drawn face that fills the frame and hardly changes: one track where each frame is one face."""
    return np.repeat(np.roll(_drawn(), number % 3, axis=1)[..., None], 3, axis=2)


@cache
def _drawn() -> NDArray[np.uint8]:
    return draw_face("happy", np.random.default_rng(0), WIDTH)[16 : 16 + HEIGHT]


def code_of(image: Rgb) -> int:
    """The number that `coded` put in."""
    height, width = image.shape[:2]
    row = image[round(height * 0.7)].mean(axis=1)
    return sum(1 << bit for bit in range(BITS) if row[int((bit + 0.5) * width / BITS)] > 128)


def write_film(
    path: Path,
    times_s: Sequence[float],
    *,
    codec: str = "libx264",
    rate_hz: Fraction | int = 25,
    pixels: str = "yuv420p",
    sound: str | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    picture: Callable[[int], Rgb] = coded,
) -> Path:
    """Frame i is `picture(i)`, stamped `times_s[i]`; the sound is a tone as long as the film."""
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=rate_hz, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        stream.codec_context.thread_count = 1  # the same bytes whatever the number of CPUs
        if codec not in ("mpeg4", "mjpeg"):
            stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        tone = output.add_stream(sound, rate=SOUND_HZ) if sound else None
        if tone:
            tone.codec_context.layout = "mono"
        for number, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time_s), Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if tone:
            for piece in tone_frames(times_s[-1]):
                output.mux(tone.encode(piece))
            output.mux(tone.encode(None))
    return path


def tone_frames(duration_s: float) -> list[av.AudioFrame]:
    """440 Hz in pieces of 20 ms."""
    size = SOUND_HZ // 50
    frames = []
    for number in range(round(duration_s * 50)):
        time_s = (np.arange(size) + number * size) / SOUND_HZ
        wave = (0.3 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_HZ, number * size, Fraction(1, SOUND_HZ)
        frames.append(frame)
    return frames


@pytest.fixture(scope="session")
def steady_s() -> list[float]:
    """Times of 50 frames at 25 Hz."""
    return [0.04 * number for number in range(50)]


@pytest.fixture(scope="session")
def plain_film(tmp_path_factory: pytest.TempPathFactory, steady_s: list[float]) -> Path:
    """Two seconds, with sound; the index comes first, as for the web; a key frame every ten."""
    path = tmp_path_factory.mktemp("film") / "plain.mp4"
    return write_film(path, steady_s, sound="aac", options={"g": "10"}, container={"movflags": "faststart"})


def tracked(
    emotion: str = "happy",
    *,
    track: int = 1,
    confidence: float = 0.7,
    raw: float | None = None,
    uncertain: bool = False,
    box: tuple[float, float, float, float] = (30, 20, 90, 80),
    landmarks: bool = True,
) -> TrackedFace:
    """A face of a track, as the tracker gives it."""

    def spread(share: float) -> NDArray[np.float32]:
        values = np.full(len(FER7), (1 - share) / (len(FER7) - 1), np.float32)
        values[FER7.index(emotion)] = share
        return values

    points = np.array([(45, 40), (75, 40), (60, 52), (48, 66), (72, 66)], np.float32)
    face = Face(
        box_xyxy=np.array(box, np.float32),
        landmarks=points if landmarks else None,
        score=0.9,
        labels=FER7,
        probabilities=spread(confidence if raw is None else raw),
        uncertain=uncertain,
        quality=Quality(60.0, 0.4, 1.0 if landmarks else None, 0.1 if landmarks else None),
        crop=np.zeros((48, 48, 3), np.uint8),
    )
    return TrackedFace(track, face, spread(confidence), emotion, uncertain, True)
