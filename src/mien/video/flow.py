"""Where faces went from one frame to the next, by optical flow; and whether the scene is another one.

A grid of points inside each face is followed by pyramidal Lucas-Kanade and followed back again: points that do not
return to where they began are dropped (Kalal, Mikolajczyk and Matas, "Forward-Backward Error: Automatic Detection of
Tracking Failures", ICPR 2010; Bouguet, "Pyramidal Implementation of the Lucas Kanade Feature Tracker", 2000). A shift,
turn and scaling is fitted to the others by RANSAC.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.results import Image

MAX_SIDE_PX = 640  # larger frames are shrunk before their flow is measured
GRID = 7  # points each way
INNER_RATIO = 0.7  # of the box: further out lies background, which moves otherwise
WINDOW_PX = 11  # 15 takes twice the time and is no more exact
LEVELS = 3  # of the pyramid above the frame: motion of up to some 60 px a frame
CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)
RETURN_PX = 1.0  # how far from its start a point may come back to
FIT_PX = 1.5  # how far from the fitted motion a point may lie
MIN_SHARE = 0.4  # of the grid's points that must return, and of those that must fit: else the motion is not known
MAX_SCALING = 1.25  # from a frame to the next, either way

CUT_WIDTH_PX = 48  # of the thumbnails that are compared
CUT_CORRELATION = 0.5  # two frames of one scene are more alike, of two scenes less
CUT_SHIFTED_CORRELATION = 0.75  # likewise at the best of all shifts, where chance has more choice
CUT_SHIFT_RATIO = 0.2  # of the picture, each way
CUT_DIFFERENCE = 8.0  # grey levels, mean: under it nothing has happened, whatever the correlation of the noise


@dataclass(frozen=True, slots=True, eq=False)
class _Grey:
    """A frame as flow sees it."""

    pixels: NDArray[np.uint8]  # (h, w)
    thumbnail: NDArray[np.float32]
    scale: float  # frame * scale = pixels


class Flow:
    """Holds the last frame; each new one is compared with it."""

    def __init__(self) -> None:
        """No frame yet."""
        self._before: _Grey | None = None
        self._now: _Grey | None = None

    def advance(self, image: Image) -> bool:
        """Take the next `(H, W, 3)` frame; whether it shows another scene than the one before (the first does not).

        A frame of another size is another scene.
        """
        self._before, self._now = self._now, _shrunk(image)
        if self._before is None:
            return False
        same_size = self._before.pixels.shape == self._now.pixels.shape
        return not same_size or is_cut(self._before.thumbnail, self._now.thumbnail)

    def motions(self, boxes_xyxy: NDArray[np.float32]) -> list[NDArray[np.float64] | None]:
        """For each of `(F, 4)` boxes of the last frame, the `(2, 3)` similarity that brings it to this one.

        None where the face was lost from sight, turned away or covered.
        """
        if self._before is None or self._now is None or not len(boxes_xyxy):
            return [None] * len(boxes_xyxy)
        scale = self._now.scale
        starts = np.stack([_grid(box) for box in boxes_xyxy * np.float32(scale)])
        ends, returned = _follow(self._before.pixels, self._now.pixels, starts.reshape(-1, 2))
        ends, returned = ends.reshape(starts.shape), returned.reshape(starts.shape[:2])
        return [_fit(*points, scale=scale) for points in zip(starts, ends, returned, strict=True)]


def thumbnail(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`(h, w)` grey shrunk to a width of `CUT_WIDTH_PX`."""
    size_wh = (CUT_WIDTH_PX, max(1, round(CUT_WIDTH_PX * grey.shape[0] / grey.shape[1])))
    return np.asarray(cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA), np.float32)


def is_cut(before: NDArray[np.float32], now: NDArray[np.float32]) -> bool:
    """Whether the thumbnails of two frames that follow each other show different scenes.

    Those of one scene correlate, also when the light changes or a flash goes off: a difference alone would take that
    for a cut. Where the camera turns fast, they do when one is shifted.
    """
    if np.abs(before - now).mean() < CUT_DIFFERENCE:
        return False
    a, b = before - before.mean(), now - now.mean()
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if lengths == 0 or float((a * b).sum()) >= CUT_CORRELATION * lengths:
        return lengths == 0
    height, width = before.shape
    y, x = round(CUT_SHIFT_RATIO * height), round(CUT_SHIFT_RATIO * width)
    shifted = cv2.matchTemplate(now, before[y : height - y, x : width - x], cv2.TM_CCOEFF_NORMED)
    return float(shifted.max()) < CUT_SHIFTED_CORRELATION


def moved(points: NDArray[np.floating], motion: NDArray[np.float64]) -> NDArray[np.float32]:
    """`(..., 2)` points after a `(2, 3)` motion."""
    return np.asarray(points @ motion[:, :2].T + motion[:, 2], np.float32)


def moved_box(box_xyxy: NDArray[np.float32], motion: NDArray[np.float64]) -> NDArray[np.float32]:
    """A `(4,)` box after a `(2, 3)` similarity: its centre moves, its sides are scaled, it stays upright."""
    centre = moved((box_xyxy[:2] + box_xyxy[2:]) / 2, motion)
    half = (box_xyxy[2:] - box_xyxy[:2]) / 2 * np.float32(np.hypot(*motion[:, 0]))
    return np.concatenate([centre - half, centre + half])


def _shrunk(image: Image) -> _Grey:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, MAX_SIDE_PX / max(grey.shape))
    if scale < 1:
        size_wh = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
        grey = cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA)
    pixels = np.asarray(grey, np.uint8)
    return _Grey(pixels, thumbnail(pixels), scale)


def _grid(box_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(GRID², 2)` points inside a box."""
    along = np.linspace(-INNER_RATIO, INNER_RATIO, GRID, dtype=np.float32) / 2
    x, y = np.meshgrid(along, along)
    unit = np.stack([x.ravel(), y.ravel()], axis=1)
    return np.asarray((box_xyxy[:2] + box_xyxy[2:]) / 2 + unit * (box_xyxy[2:] - box_xyxy[:2]), np.float32)


def _follow(
    before: NDArray[np.uint8], now: NDArray[np.uint8], starts: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where `(N, 2)` points are in the next frame, and which of them come back to where they began."""
    ends, there = _lucas_kanade(before, now, starts)
    back, here = _lucas_kanade(now, before, ends)
    return ends, there & here & (np.linalg.norm(back - starts, axis=1) <= RETURN_PX)


def _lucas_kanade(
    before: NDArray[np.uint8], now: NDArray[np.uint8], points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    ends, found, _ = cv2.calcOpticalFlowPyrLK(
        before, now, points, points.copy(), winSize=(WINDOW_PX, WINDOW_PX), maxLevel=LEVELS, criteria=CRITERIA
    )
    return np.asarray(ends, np.float32), np.asarray(found)[:, 0] == 1


def _fit(
    starts: NDArray[np.float32], ends: NDArray[np.float32], returned: NDArray[np.bool_], *, scale: float
) -> NDArray[np.float64] | None:
    """The motion of one face in pixels of the frame, or None where too few points agree on one."""
    if returned.mean() < MIN_SHARE:
        return None
    fitted, fitting = cv2.estimateAffinePartial2D(
        starts[returned], ends[returned], method=cv2.RANSAC, ransacReprojThreshold=FIT_PX
    )
    if fitted is None or np.mean(fitting) < MIN_SHARE:
        return None
    motion = np.array(fitted, np.float64)
    scaling = float(np.hypot(*motion[:, 0]))
    if not 1 / MAX_SCALING <= scaling <= MAX_SCALING:
        return None
    motion[:, 2] /= scale
    return motion
