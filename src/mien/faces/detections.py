"""What every detector returns, and the protocol that they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.results import Image

SAME_FACE_IOU = 0.3
"""Boxes that overlap more are one face: the value of CenterFace's and YuNet's own suppression."""


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single ==
class Detections:
    """Faces of one picture, best score first; parallel arrays of the same length F."""

    boxes_xyxy: NDArray[np.float32]  # (F, 4) pixels of the whole picture: left, top, right, bottom
    landmarks: NDArray[np.float32] | None  # (F, 5, 2) pixels: eyes, nose, mouth corners, left to right as seen
    scores: NDArray[np.float32]  # (F,) in [0, 1]

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.scores.shape != (count,):
            raise ValueError(f"scores have shape {self.scores.shape}, not (F,)")
        if self.boxes_xyxy.shape != (count, 4):
            raise ValueError(f"boxes_xyxy have shape {self.boxes_xyxy.shape}, not ({count}, 4)")
        if self.landmarks is not None and self.landmarks.shape != (count, 5, 2):
            raise ValueError(f"landmarks have shape {self.landmarks.shape}, not ({count}, 5, 2)")
        if not all(np.isfinite(a).all() for a in (self.boxes_xyxy, self.scores, self.landmarks) if a is not None):
            raise ValueError("boxes, landmarks or scores are not finite")
        if (self.boxes_xyxy[:, 2:] <= self.boxes_xyxy[:, :2]).any():
            raise ValueError("a box is empty: right and bottom must be larger than left and top")
        if (np.diff(self.scores) > 0).any():
            raise ValueError("scores must not rise: the best face comes first")

    def __len__(self) -> int:
        return len(self.scores)

    def first(self, count: int) -> "Detections":
        """The `count` best faces, or all where there are fewer."""
        landmarks = None if self.landmarks is None else self.landmarks[:count]
        return Detections(self.boxes_xyxy[:count], landmarks, self.scores[:count])

    @classmethod
    def empty(cls) -> "Detections":
        """No face."""
        return cls(np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32), np.empty(0, np.float32))


class Detector(Protocol):
    """Finds faces in pictures. One object may serve several threads.

    One that has an attribute `max_side_px`, the longer side in pixels beyond which it shrinks pictures, gets JPEGs that
    were decoded no larger than that takes.
    """

    @property
    def name(self) -> str:
        """What `create` calls it."""
        ...

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Faces of each picture, `(H, W, 3)` uint8 RGB, in pixels of that picture, which each box overlaps.

        Raises:
            ValueError: a picture has another shape or type.
        """
        ...


def suppress(
    boxes_xyxy: NDArray[np.float32], landmarks: NDArray[np.float32], scores: NDArray[np.float32]
) -> Detections:
    """Greedy non-maximum suppression: of boxes that overlap, only the best one stays.

    Takes `(F, 4)`, `(F, 5, 2)` and `(F,)` in any order; boxes without area are dropped.
    """
    solid = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
    boxes_xyxy, landmarks, scores = boxes_xyxy[solid], landmarks[solid], scores[solid]
    if not len(scores):
        return Detections.empty()
    boxes_xywh = np.hstack([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]])
    kept = np.asarray(cv2.dnn.NMSBoxes(boxes_xywh.tolist(), scores.tolist(), 0.0, SAME_FACE_IOU)).reshape(-1)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    return Detections(boxes_xyxy[kept], landmarks[kept], scores[kept])
