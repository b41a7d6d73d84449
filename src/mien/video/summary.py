"""One line a track: when a face was seen, which emotions it showed for how long, and how often that changed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mien.video.timeline import LONGEST_GAP_S
from mien.video.track import TrackedFace


@dataclass(slots=True)
class TrackSummary:
    """What one track came to."""

    track: int
    first_s: float
    last_s: float
    frames: int = 0
    seen_s: float = 0.0  # while the face was in sight; a frame lasts until the next one
    emotion_s: dict[str, float] = field(default_factory=dict)
    emotion_frames: dict[str, int] = field(default_factory=dict)
    uncertain_frames: int = 0
    switches: int = 0  # from one emotion to another
    last_emotion: str | None = None

    @property
    def shares(self) -> dict[str, float]:
        """Share in 0..1 of the time in sight for each emotion that was shown, the longest first."""
        amounts: dict[str, float] = {**self.emotion_s} if self.seen_s > 0 else {**self.emotion_frames}
        total = sum(amounts.values())
        longest_first = sorted(amounts.items(), key=lambda item: -item[1])
        return {emotion: amount / total for emotion, amount in longest_first} if total else {}

    @property
    def switches_per_minute(self) -> float:
        """Changes of emotion by the minute in sight; 0 for a face of a single moment."""
        return 60 * self.switches / self.seen_s if self.seen_s > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        return {
            "track": self.track,
            "first_s": round(self.first_s, 3),
            "last_s": round(self.last_s, 3),
            "seen_s": round(self.seen_s, 3),
            "frames": self.frames,
            "shares": {emotion: round(share, 4) for emotion, share in self.shares.items()},
            "switches": self.switches,
            "switches_per_minute": round(self.switches_per_minute, 2),
            "uncertain_share": round(self.uncertain_frames / self.frames, 4),
        }


class Summary:
    """Collects `TrackSummary`s; memory grows with the number of tracks alone."""

    def __init__(self, *, live: bool = False) -> None:
        """Frames of a `live` source last no longer than `LONGEST_GAP_S`: beyond, it was unplugged or silent."""
        self._longest_s = LONGEST_GAP_S if live else math.inf
        self.frames = 0
        self.first_s: float | None = None
        self.last_s = 0.0
        self._tracks: dict[int, TrackSummary] = {}
        self._before: tuple[float, Sequence[TrackedFace]] | None = None
        self._interval_s = 0.0

    @property
    def tracks(self) -> list[TrackSummary]:
        """In the order in which the faces came."""
        return list(self._tracks.values())

    def add(self, time_s: float, faces: Sequence[TrackedFace]) -> None:
        """Count the faces of the next frame; its time ends the frame before."""
        if self._before is not None:
            self._interval_s = min(time_s - self._before[0], self._longest_s)
            self._last(self._interval_s)
        self.frames += 1
        self.first_s = time_s if self.first_s is None else self.first_s
        self.last_s = time_s
        self._before = (time_s, faces)
        for face in faces:
            one = self._tracks.setdefault(face.track, TrackSummary(face.track, time_s, time_s))
            one.last_s = time_s
            one.frames += 1
            one.emotion_frames[face.emotion] = one.emotion_frames.get(face.emotion, 0) + 1
            one.uncertain_frames += face.uncertain
            one.switches += one.last_emotion not in (None, face.emotion)
            one.last_emotion = face.emotion

    def close(self) -> None:
        """Let the last frame last as long as the one before it."""
        self._last(self._interval_s)
        self._before = None

    def _last(self, duration_s: float) -> None:
        """Give the frame before its duration."""
        if self._before is None:
            return
        for face in self._before[1]:
            one = self._tracks[face.track]
            one.seen_s += duration_s
            one.emotion_s[face.emotion] = one.emotion_s.get(face.emotion, 0.0) + duration_s
