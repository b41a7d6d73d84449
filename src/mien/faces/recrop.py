"""Faces that were cropped already, cropped once more: upright, at the geometry of serving."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.bundle import FER2013_LANDMARKS
from mien.faces import align
from mien.faces.detections import Detector

ENLARGED_PX = 192  # of the shorter side: a face of 48 px is too small for the detectors (docs/crop-geometry.md)
BORDER_RATIOS = (0.0, 1 / 6)  # of the sides, repeated outside: more faces are found with room, but less exactly so
MAX_ZOOM = 2.0  # a face found at less than half, or over twice, the size of a crop's face is not the crop's face


class Recrop:
    """Finds the face of a crop and puts its five landmarks where serving puts them."""

    def __init__(self, detector: Detector, geometry: align.Geometry = FER2013_LANDMARKS) -> None:
        self.detector, self.geometry = detector, geometry

    @property
    def about(self) -> Mapping[str, Any]:
        """What the provenance of aligned images says."""
        return {"detector": self.detector.name, "landmarks": [list(point) for point in self.geometry]}

    def __call__(self, pixels: NDArray[np.uint8], size_hw: tuple[int, int], /) -> NDArray[np.uint8] | None:
        """A grey `(H, W)` crop to an upright `(h, w)` one; None where no face is found that could be the crop's."""
        large = _enlarged(pixels)
        for ratio in BORDER_RATIOS:
            top, left = (round(side * ratio) for side in large.shape[:2])
            picture = np.asarray(cv2.copyMakeBorder(large, top, top, left, left, cv2.BORDER_REPLICATE), np.uint8)
            (found,) = self.detector.detect([picture])
            if found.landmarks is None or not len(found):
                continue
            best = found.landmarks[:1]
            if _zoom(min(large.shape[:2]), best, self.geometry) <= MAX_ZOOM:
                (crop,) = align.align_crops(picture, best, self.geometry, size_hw)
                return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)
        return None


def _enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(H, W)` grey as `(H', W', 3)`, at least ENLARGED_PX a side."""
    scale = max(1.0, ENLARGED_PX / min(pixels.shape))
    large = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), np.uint8)


def _zoom(side_px: int, landmarks: NDArray[np.float32], geometry: align.Geometry) -> float:
    """How many times larger or smaller, whichever is over 1, the aligned crop shows things than one of `side_px`."""
    (matrix,) = align.similarities(landmarks, geometry, (1, 1))  # from pixels to a crop of side 1
    scale = float(np.hypot(*matrix[:, 0])) * side_px
    return max(scale, 1 / scale)
