"""Frames with their faces marked: a box, the track, the steady emotion, and all smoothed probabilities as a bar."""

from collections.abc import Sequence

import cv2
import numpy as np

from mien.annotate import Mark, colour_of_label, draw_marks
from mien.results import Image
from mien.video.track import TrackedFace

BAR_RATIO = 0.07  # height of the bar, of the box's
SMALLEST_BAR_PX, LARGEST_BAR_PX = 4, 14
RIM_RGB = (16, 16, 16)


def draw_faces(image: Image, faces: Sequence[TrackedFace]) -> Image:
    """Mark `faces` on a copy of `image`, `(H, W, 3)` of the same size.

    A label says track, emotion and smoothed probability: `2 happy 83 %`; a question mark and a dashed box stand for an
    uncertain face. At the foot of each box a bar shows the shares of all labels, in their order.
    """
    if not faces:
        return image.copy()
    marks = [
        Mark(face.face.box_xyxy, face.title, colour_of_label(face.emotion, face.face.labels), face.uncertain)
        for face in faces
    ]
    marked = draw_marks(image, marks)
    for face in faces:
        _draw_bar(marked, face)
    return marked


def _draw_bar(image: Image, face: TrackedFace) -> None:
    """Shares of the labels along the lower edge of the box, inside it."""
    height, width = image.shape[:2]
    left, top, right, bottom = (round(float(value)) for value in face.face.box_xyxy)
    bar_px = int(np.clip(BAR_RATIO * (bottom - top), SMALLEST_BAR_PX, LARGEST_BAR_PX))
    inset = bar_px // 2 + 2
    left, right, bottom = max(left, 0) + inset, min(right, width) - inset, min(bottom, height) - inset
    if right - left < len(face.probabilities) or bottom - bar_px < max(top, 0):
        return
    cv2.rectangle(image, (left - 1, bottom - bar_px - 1), (right, bottom), RIM_RGB, cv2.FILLED)
    ends = left + np.rint(np.cumsum(face.probabilities) * (right - left)).astype(int)
    for label, start, end in zip(face.face.labels, [left, *ends[:-1]], ends, strict=True):
        if end > start:
            image[bottom - bar_px : bottom, start:end] = colour_of_label(label, face.face.labels)
