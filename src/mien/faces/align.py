"""Faces cut out of pictures by their landmarks: upright, at the geometry that the model was trained on.

Points are continuous pixel coordinates: the top left pixel covers 0..1 and has its centre at 0.5.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mien.preprocess import sample
from mien.results import Image

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
    crops = [sample(image, matrix, size_hw) for matrix in similarities(landmarks, geometry, size_hw)]
    return np.stack(crops) if crops else np.empty((0, *size_hw, 3), np.uint8)
