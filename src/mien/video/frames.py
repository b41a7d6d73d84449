"""What every source of moving pictures gives: frames with the time that the source itself puts on them."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from mien.errors import ConfigError
from mien.results import Image


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single ==
class Frame:
    """One picture of a film."""

    image: Image  # (H, W, 3) RGB, upright
    time_s: float  # as the source stamps it, from the start of the film or the first frame of a live source
    index: int  # of the frames that could be read, from 0
    captured_s: float = field(default_factory=time.monotonic)  # when it came in, on the monotonic clock


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source before its first frame."""

    name: str  # as the user gave it, without password
    duration_s: float | None = None  # as its header says; None for live sources and where it does not say
    rate_hz: float | None = None  # mean frame rate that the header names
    live: bool = False  # frames come when they come: those that nobody waits for are dropped
    audio_path: str | None = None  # where sound can be read once more, in step with the frames


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Which frames of a source are taken, and how long to wait for one."""

    start_s: float = 0.0
    end_s: float | None = None  # frames stamped later are not read
    every: int = 1  # take every n-th frame
    timeout_s: float = 10.0  # for a stream to open, and for its next data
    sequence_hz: float = 25.0  # frame rate of image sequences: pictures carry no time

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_s) and self.start_s >= 0):
            raise ConfigError(f"start is {self.start_s} s: it must be 0 or more")
        if self.end_s is not None and not self.end_s > self.start_s:
            raise ConfigError(f"end, {self.end_s} s, is not after start, {self.start_s} s")
        if self.every < 1:
            raise ConfigError(f"every is {self.every}: it must be 1 or more")
        if not self.timeout_s > 0:
            raise ConfigError(f"the time-out is {self.timeout_s} s: it must be positive")
        if not (math.isfinite(self.sequence_hz) and self.sequence_hz > 0):
            raise ConfigError(f"the frame rate is {self.sequence_hz}: it must be positive")


class FrameSource(Protocol):
    """Frames in the order of their times. Closed by `close` or by leaving it as a context."""

    @property
    def info(self) -> SourceInfo:
        """What the source says of itself."""
        ...

    @property
    def broken(self) -> int:
        """Frames that could not be decoded or came out of order: skipped, and counted here."""
        ...

    @property
    def fault(self) -> str | None:
        """A sentence where the source ended too early: cut short, or the stream fell silent."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Frames inside the options' limits; times rise strictly."""
        ...

    def stop(self) -> None:
        """Ask an iteration in another thread to end with the next frame."""
        ...

    def close(self) -> None:
        """Let go of files and connections; may be called more than once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ClosedAfterUse:
    """What most `FrameSource`s share."""

    def stop(self) -> None:
        """Frames do not wait, so the reader ends by itself."""

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
