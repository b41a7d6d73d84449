"""The `none` detector: the picture is one face crop already."""

from collections.abc import Sequence

import numpy as np

from mien.faces.detections import Detections
from mien.results import Image


class WholePicture:
    """Finds one face, the whole picture, without landmarks."""

    name = "none"

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """One box for each picture; see `Detector.detect`."""
        return [_whole(image) for image in images]


def _whole(image: Image) -> Detections:
    height, width = image.shape[:2]
    return Detections(np.array([[0, 0, width, height]], np.float32), None, np.ones(1, np.float32))
