"""`fer`: the int8 TFLite network that it uses by default, with its own preprocessing.

Its constructor makes an OpenCV Haar detector, which OpenCV 5 no longer has, so the object is made without one. Its
`detect_emotions` grows each box by 10 pixels, which costs it 15 points on crops as tight as these, and rounds to two
decimals: crops are resized as `detect_emotions` does it and go to `_classify_emotions`, past both.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from protocol import OARRIAGA, Predict, serve

SIDE_PX = 64


def load() -> tuple[Predict, tuple[str, ...]]:
    """The network without a detector."""
    from fer.fer import FER  # `from fer import FER`, as in its README, fails in 25.10.3

    network = FER.__new__(FER)
    network.tfserving, network.use_tflite = False, True
    network._initialize_model()

    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        faces = np.array([cv2.resize(crop, (SIDE_PX, SIDE_PX)) for crop in crops], np.float32)
        return np.asarray(network._classify_emotions((faces / 255.0 - 0.5) * 2.0))

    return predict, OARRIAGA


serve(load)
