"""One detector pass made to reach from small faces to a face that fills the picture.

A detector sees a face well only within a band of sizes, and only with some surroundings. So each picture is
looked at in octaves: at its own size (shrunk to a limit) for the small faces, at half of that and so on, and last as
a thumbnail with a border around it, where a face that fills the picture is of middle size and has a background again.
All octaves after the first cost about as much as half of the first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.faces.detections import Detections, suppress
from mien.results import Image

THUMBNAIL_PX = 224  # longer side of the picture inside the thumbnail view
BORDER_PX = 48  # around the thumbnail, black: a tight crop gets back the surroundings that a head has in a photo

Pass = Callable[[Image], Detections]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A resized copy of a picture, with a border; `view = picture * scale_xy + border_px`."""

    image: Image
    scale_xy: NDArray[np.float32]  # (2,)
    border_px: int

    def to_picture(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(..., 2)` pixels of the view to pixels of the picture."""
        return ((points - np.float32(self.border_px)) / self.scale_xy).astype(np.float32)


def view_of(picture: Image, longer_side_px: int, *, border_px: int = 0) -> View:
    """Resize `picture` so that its longer side is `longer_side_px`, and put a border around it."""
    height, width = picture.shape[:2]
    ratio = longer_side_px / max(height, width)
    size_wh = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    scale_xy = np.array([size_wh[0] / width, size_wh[1] / height], np.float32)
    image = picture
    if size_wh != (width, height):
        method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        image = cv2.resize(picture, size_wh, interpolation=method).astype(np.uint8, copy=False)
    if border_px:
        sides = (border_px,) * 4
        image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT).astype(np.uint8, copy=False)
    return View(image, scale_xy, border_px)


def octaves(picture: Image, *, max_side_px: int) -> list[View]:
    """The views of a picture, the smallest one with a border.

    A picture over the limit is shrunk to it once, and the smaller views are made of that one: making each of them of a
    photo's 12 megapixels took longer than a pass of a quick detector.
    """
    side_px = min(max(picture.shape[:2]), max_side_px)
    largest = view_of(picture, side_px)
    views = [_of_view(largest, view_of(largest.image, THUMBNAIL_PX, border_px=BORDER_PX))]
    while side_px > THUMBNAIL_PX:
        views.append(_of_view(largest, view_of(largest.image, side_px)))
        side_px //= 2
    return views


def _of_view(first: View, second: View) -> View:
    """`second`, which was made of `first`, as a view of the picture that `first` was made of."""
    return View(second.image, first.scale_xy * second.scale_xy, second.border_px)


def scan(picture: Image, detect_pass: Pass, *, max_side_px: int) -> Detections:
    """Faces of `(H, W, 3)` uint8 RGB `picture`, found by a pass of `detect_pass` an octave of sizes, boxes inside it.

    Raises:
        ValueError: the picture has another shape or type.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ValueError(f"a picture is (H, W, 3) uint8, not {picture.dtype} {picture.shape}")
    found = [(view, detect_pass(view.image)) for view in octaves(picture, max_side_px=max_side_px)]
    boxes = np.concatenate([view.to_picture(f.boxes_xyxy.reshape(-1, 2, 2)) for view, f in found])
    landmarks = np.concatenate([view.to_picture(f.landmarks) for view, f in found if f.landmarks is not None])
    scores = np.concatenate([f.scores for _, f in found])
    corner = np.array(picture.shape[1::-1], np.float32)
    return suppress(np.clip(boxes, 0, corner).reshape(-1, 4), landmarks, scores)
