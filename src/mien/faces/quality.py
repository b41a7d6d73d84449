"""How fit a face is for recognition: its size, sharpness and pose."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.preprocess import to_grey
from mien.results import Image, Quality

BLUR_SIDE_PX = 48  # FER-2013's crops; larger crops are shrunk to it, so that every model's crops measure alike
BLUR_KERNEL_PX = 5  # a tenth of the side; the paper's 9 is for whole photographs

LEFT_EYE, RIGHT_EYE, NOSE, LEFT_MOUTH, RIGHT_MOUTH = range(5)  # left and right as seen


def assess(box_xyxy: NDArray[np.float32], landmarks: NDArray[np.float32] | None, crop: Image) -> Quality:
    """Quality of one face: its box `(4,)` and landmarks `(5, 2)` in the whole picture, its aligned `(h, w, 3)` crop."""
    left, top, right, bottom = (float(value) for value in box_xyxy)
    return Quality(
        size_px=min(right - left, bottom - top),
        blur=blur(crop),
        tilt_deg=None if landmarks is None else tilt_deg(landmarks),
        turn_ratio=None if landmarks is None else turn_ratio(landmarks),
    )


def blur(crop: Image) -> float:
    """How little a further blur changes an aligned `(h, w, 3)` crop: 0 all detail goes, 1 no detail was left.

    Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur metric", 2007:
    the differences between neighbouring pixels before and after a box blur along the line; the blurrier of the two
    directions counts, and contrast cancels out. Seen at 48 px, so it asks whether the detail that the network looks
    at is there, however large the face was in its picture; a constant crop has none. FER-2013's own crops have a
    median of 0.44, and 5 % of them are over 0.52; over about 0.9 the rounding of pixels limits what it can tell.
    """
    if max(crop.shape[:2]) > BLUR_SIDE_PX:
        crop = np.asarray(cv2.resize(crop, (BLUR_SIDE_PX, BLUR_SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)
    grey = to_grey(crop[None])[0].astype(np.float32)
    return max(_blur_along(grey), _blur_along(np.ascontiguousarray(grey.T)))


def _blur_along(grey: NDArray[np.float32]) -> float:
    """The blur effect of `(h, w)` along its rows."""
    before = np.abs(np.diff(grey, axis=1))
    after = np.abs(np.diff(cv2.blur(grey, (BLUR_KERNEL_PX, 1)), axis=1))
    inside = np.s_[:, BLUR_KERNEL_PX // 2 : -(BLUR_KERNEL_PX // 2)]  # nearer to the edge the mean is of fewer pixels
    before, after = before[inside], after[inside]
    variation = float(before.sum())
    if variation == 0:
        return 1.0
    return 1 - float(np.maximum(before - after, 0).sum()) / variation


def tilt_deg(landmarks: NDArray[np.float32]) -> float:
    """Roll of `(5, 2)` landmarks in the picture plane, degrees in (-180, 180], clockwise positive."""
    across = _across(landmarks)
    return float(np.degrees(np.arctan2(across[1], across[0])))


def turn_ratio(landmarks: NDArray[np.float32]) -> float:
    """Yaw proxy of `(5, 2)` landmarks in [-1, 1]: how far the nose is from between the eyes towards one of them.

    0 is frontal, +1 the nose at the eye on the viewer's right. The roll of the head does not matter.
    """
    points = np.asarray(landmarks, np.float64)
    across = _across(points)
    length = float(np.hypot(*across))
    half_eyes = float((points[RIGHT_EYE] - points[LEFT_EYE]) @ across) / 2
    if length == 0 or half_eyes <= 0:
        return 0.0  # a profile so full that the eyes are one point says nothing about its side
    from_middle = float((points[NOSE] - (points[LEFT_EYE] + points[RIGHT_EYE]) / 2) @ across)
    return float(np.clip(from_middle / half_eyes, -1, 1))


def _across(landmarks: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    """The direction from the face's left to its right as seen, `(2,)`: eyes and mouth corners together."""
    points = np.asarray(landmarks, np.float64)
    return np.asarray(points[RIGHT_EYE] - points[LEFT_EYE] + points[RIGHT_MOUTH] - points[LEFT_MOUTH])
