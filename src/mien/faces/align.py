"""Faces cut out of pictures: upright, at the geometry that the model was trained on.

Points are continuous pixel coordinates: the top left pixel covers 0..1 and has its centre at 0.5.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.results import Image

MAX_OVERSAMPLING = 64  # of the crop, each way: with a 48 px crop enough for a face of 3,000 px

Geometry = Sequence[tuple[float, float]]
"""Where the five landmarks go: (x, y) in crop units, (0, 0) top left and (1, 1) bottom right."""


def similarities(landmarks: NDArray[np.float32], geometry: Geometry, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """The `(F, 2, 3)` shifts, turns and scalings that bring `(F, 5, 2)` points nearest to `geometry` in a crop.

    Least squares over the five points (Umeyama, "Least-squares estimation of transformation parameters between two
    point patterns", 1991). In the plane a similarity without mirroring is one complex product and sum, w = a z + b.

    Raises:
        ValueError: the landmarks have another shape, are not finite, or all five of a face are one point.
    """
    points = np.asarray(landmarks, np.float64)
    if points.ndim != 3 or points.shape[1:] != (5, 2):
        raise ValueError(f"landmarks have shape {points.shape}, not (F, 5, 2)")
    height, width = size_hw
    z = points[..., 0] + 1j * points[..., 1]
    w = np.array([complex(x * width, y * height) for x, y in geometry])
    z_centred = z - z.mean(axis=1, keepdims=True)
    spread = (np.abs(z_centred) ** 2).sum(axis=1)
    if not (np.isfinite(spread) & (spread > 0)).all():
        raise ValueError("the five landmarks of a face must be finite and not all in one point")
    a = (z_centred.conj() @ (w - w.mean())) / spread
    b = w.mean() - a * z.mean(axis=1)
    return np.stack([np.stack([a.real, -a.imag, b.real], axis=1), np.stack([a.imag, a.real, b.imag], axis=1)], axis=1)


def align_crops(
    image: Image, landmarks: NDArray[np.float32], geometry: Geometry, size_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """Upright crops `(F, h, w, 3)` of the faces whose `(F, 5, 2)` landmarks are given.

    What lies outside the picture repeats its edge.

    Raises:
        ValueError: as `similarities`.
    """
    crops = [_sample(image, matrix, size_hw) for matrix in similarities(landmarks, geometry, size_hw)]
    return np.stack(crops) if crops else np.empty((0, *size_hw, 3), np.uint8)


def crop_box(image: Image, box_xyxy: NDArray[np.float32], size_hw: tuple[int, int]) -> Image:
    """The box grown around its centre to the crop's proportions, as an `(h, w, 3)` crop: for faces without landmarks.

    What lies outside the picture repeats its edge.

    Raises:
        ValueError: the box is not `(4,)` or has no area.
    """
    if np.shape(box_xyxy) != (4,):
        raise ValueError(f"box_xyxy has shape {np.shape(box_xyxy)}, not (4,)")
    left, top, right, bottom = (float(value) for value in box_xyxy)
    if not (right > left and bottom > top):
        raise ValueError(f"box_xyxy {left, top, right, bottom} has no area")
    height, width = size_hw
    scale = min(width / (right - left), height / (bottom - top))
    shift_x, shift_y = width / 2 - scale * (left + right) / 2, height / 2 - scale * (top + bottom) / 2
    return _sample(image, np.array([[scale, 0, shift_x], [0, scale, shift_y]]), size_hw)


def _sample(image: Image, matrix: NDArray[np.float64], size_hw: tuple[int, int]) -> Image:
    """Sample `image` through a `(2, 3)` similarity from picture to crop, without aliasing.

    A face larger than the crop is sampled on a finer grid, at least as fine as the picture's own, and each crop
    pixel is the mean of its part of that grid. Plain bilinear sampling would skip picture pixels.
    """
    height, width = size_hw
    scale = float(np.hypot(*matrix[:, 0]))
    finer = int(np.clip(np.ceil(1 / scale - 1e-6), 1, MAX_OVERSAMPLING))
    to_grid = matrix * finer
    to_grid[:, 2] += to_grid[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from the centre of the first pixel
    grid_wh = (width * finer, height * finer)
    grid = cv2.warpAffine(image, to_grid, grid_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if finer > 1:
        grid = cv2.resize(grid, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(grid, np.uint8)
