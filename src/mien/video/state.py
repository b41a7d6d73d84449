"""What is remembered of one face of a film."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.faces.detections import Detections
from mien.results import Image
from mien.video import looks
from mien.video.flow import moved, moved_box
from mien.video.smooth import Smoother

SPEEDS = 5  # last detections whose median is a face's speed: those while something came before it count little


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A face as the detector saw it."""

    time_s: float
    box_xyxy: NDArray[np.float32]  # (4,)
    landmarks: NDArray[np.float32] | None  # (5, 2)
    score: float
    crop: Image
    looks: NDArray[np.float32]  # (looks.LENGTH,)


def sightings(
    found: Detections, crops: NDArray[np.uint8], seen_looks: NDArray[np.float32], time_s: float
) -> list[Sighting]:
    """F detections of a frame with their `(F, h, w, 3)` crops and the `(F, L)` looks of these."""
    points = [None] * len(found) if found.landmarks is None else list(found.landmarks)
    return [
        Sighting(time_s, box_xyxy, landmarks, float(score), crop, look)
        for box_xyxy, landmarks, score, crop, look in zip(
            found.boxes_xyxy, points, found.scores, crops, seen_looks, strict=True
        )
    ]


class Track:
    """One face: where it is, where and how fast it was seen to go, what it looks like."""

    def __init__(self, sighting: Sighting, smoother: Smoother) -> None:
        """Begin with what the detector saw."""
        self.number: int | None = None  # as long as it is in doubt whether this is a face of its own
        self.smoother = smoother
        self.began_s = sighting.time_s
        self.looks = np.zeros(looks.LENGTH, np.float32)
        self._count = 0
        self.in_sight = True
        self._shift = np.zeros(2, np.float32)  # since the last detection, as flow saw it
        self._speeds: deque[NDArray[np.float32]] = deque(maxlen=SPEEDS)
        self._sight = sighting
        self.see(sighting)

    @property
    def sight(self) -> Sighting:
        """The last detection of it."""
        return self._sight

    @property
    def velocity(self) -> NDArray[np.float32]:
        """`(2,)` px/s."""
        return np.median(self._speeds, axis=0).astype(np.float32) if self._speeds else np.zeros(2, np.float32)

    def see(self, sighting: Sighting) -> None:
        """Take over what the detector saw."""
        elapsed_s = sighting.time_s - self._sight.time_s
        if elapsed_s > 0:
            # flow saw how the face itself went; the box of a face that something half covers moves less
            shift = self._shift if self.in_sight else _centre(sighting.box_xyxy) - _centre(self._sight.box_xyxy)
            self._speeds.append(np.asarray(shift / elapsed_s, np.float32))
        self._count += 1
        self.looks = looks.renewed(self.looks, sighting.looks, self._count)
        self.box_xyxy, self.landmarks, self.score = sighting.box_xyxy, sighting.landmarks, sighting.score
        self.crop: Image | None = sighting.crop  # of this frame
        self.in_sight, self.detected = True, True  # detected: in this frame
        self.missed = False  # by the last detection, which saw no such face
        self._sight = sighting
        self._shift = np.zeros(2, np.float32)

    def move(self, motion: NDArray[np.float64]) -> None:
        """Follow a `(2, 3)` motion that flow has seen."""
        box_xyxy = moved_box(self.box_xyxy, motion)
        self._shift = self._shift + _centre(box_xyxy) - _centre(self.box_xyxy)
        self.box_xyxy = box_xyxy
        self.landmarks = None if self.landmarks is None else moved(self.landmarks, motion)

    def coast(self, time_s: float) -> None:
        """Out of sight: on from the last detection with the speed of before."""
        self.in_sight = False
        self.box_xyxy = self._sight.box_xyxy + np.tile(self.velocity * np.float32(time_s - self._sight.time_s), 2)


def _centre(box_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((box_xyxy[:2] + box_xyxy[2:]) / 2, np.float32)
