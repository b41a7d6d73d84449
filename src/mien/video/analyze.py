"""The faces of a film, frame by frame: the one loop behind `mien video`, `mien webcam` and programs."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from mien.errors import VideoError
from mien.pipeline import Analyzer, load
from mien.video.frames import Frame, FrameSource, SourceOptions
from mien.video.loop import Newest
from mien.video.source import DEFAULT_OPTIONS, open_source
from mien.video.track import FaceTracker, TrackedFace, TrackSettings

DEFAULT_TRACKING = TrackSettings()


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """One frame and the faces in sight."""

    frame: Frame
    faces: tuple[TrackedFace, ...]  # oldest track first
    delay_s: float  # from the frame's arrival to this result

    @property
    def time_s(self) -> float:
        """As the source stamps the frame."""
        return self.frame.time_s


def analyze_video(
    source: str | os.PathLike[str] | int,
    *,
    analyzer: Analyzer | None = None,
    tracking: TrackSettings = DEFAULT_TRACKING,
    options: SourceOptions = DEFAULT_OPTIONS,
) -> Iterator[FrameResult]:
    """Results of each frame of a film, an image sequence, a stream or a camera (its number), as they come.

    Of live sources the newest frame is taken, so slow work means fewer results, not late ones. Memory does not grow
    with the length of the film.

    Raises:
        VideoError: the source cannot be opened, or ended before its time; all results have come by then.
        MissingExtraError: it is a film or a stream, and PyAV is not installed.
    """
    name = str(source) if isinstance(source, int) else os.fspath(source)
    analyzer = analyzer or load()
    with newest_if_live(open_source(name, options=options)) as frames:
        yield from follow(frames, FaceTracker(analyzer, settings=tracking))
        if frames.fault:
            raise VideoError(f"{frames.info.name}: {frames.fault}")


def newest_if_live(source: FrameSource) -> FrameSource:
    """`source` itself, or its newest frames where they come whether or not anybody waits."""
    return Newest(source) if source.info.live else source


def follow(frames: FrameSource, tracker: FaceTracker) -> Iterator[FrameResult]:
    """Results of open frames."""
    for frame in frames:
        faces = tuple(tracker.update(frame.image, frame.time_s))
        yield FrameResult(frame, faces, time.monotonic() - frame.captured_s)
