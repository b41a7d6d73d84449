"""YuNet through `cv2.FaceDetectorYN`: several times faster than CenterFace; its file is fetched on first use.

Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20, 2023.
Weights: MIT, from the OpenCV Zoo.
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
from mien.faces.detections import SAME_FACE_IOU, Detections, suppress
from mien.faces.scan import scan
from mien.results import Image

MAX_FACES = 5000  # before suppression: OpenCV's default


class YuNet:
    """The `yunet` detector; `score_threshold` in [0, 1], pictures are shrunk to `max_side_px`."""

    name = "yunet"

    def __init__(self, path: Path, *, score_threshold: float, max_side_px: int) -> None:
        """Load the weights.

        Raises:
            ModelError: the file is missing or damaged.
        """
        try:
            # from memory: OpenCV cannot open every path that Python can
            weights = np.frombuffer(path.read_bytes(), np.uint8)
            self._net = _load(weights, score_threshold)
        except (OSError, cv2.error) as error:
            raise ModelError(f"{path} cannot be read as the YuNet model ({error}): delete it and try again") from error
        self.score_threshold = score_threshold
        self.max_side_px = max_side_px
        self._lock = Lock()  # input size and threshold are a state of the object

    def at_threshold(self, score_threshold: float) -> Self:
        """The same network with another threshold, sharing its weights."""
        other = copy.copy(self)
        other.score_threshold = score_threshold
        return other

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Faces of each picture; see `Detector.detect`."""
        return [scan(image, self._detect_once, max_side_px=self.max_side_px) for image in images]

    def _detect_once(self, image: Image) -> Detections:
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)  # trained on OpenCV's channel order
        with self._lock:
            self._net.setScoreThreshold(self.score_threshold)
            self._net.setInputSize(image.shape[1::-1])
            _, rows = self._net.detect(bgr)
        if rows is None:
            return Detections.empty()
        boxes, landmarks, scores = np.split(np.asarray(rows, np.float32), [4, 14], axis=1)
        boxes[:, 2:] += boxes[:, :2]  # OpenCV gives left, top, width, height
        return suppress(boxes, landmarks.reshape(-1, 5, 2), np.clip(scores[:, 0], 0, 1))


def _load(weights: NDArray[np.uint8], score_threshold: float) -> cv2.FaceDetectorYN:
    """Create OpenCV's detector without its warning that the graph engine has one target, the CPU."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        no_config = np.empty(0, np.uint8)
        return cv2.FaceDetectorYN.create(
            "onnx", weights, no_config, (320, 320), score_threshold, SAME_FACE_IOU, MAX_FACES
        )
    finally:
        cv2.utils.logging.setLogLevel(level)
