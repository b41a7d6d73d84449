"""EmotiEffLib with its default network (EfficientNet-B0, AffectNet-8) on ONNX Runtime.

The weights come from its repository on first use; without that host the runner answers with the fault. Its eighth
class, contempt, is left out and the other seven are scaled to sum to 1.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from protocol import Predict, serve

CLASSES = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def load() -> tuple[Predict, tuple[str, ...]]:
    """The recogniser, which takes RGB crops."""
    from emotiefflib.facial_analysis import EmotiEffLibRecognizer

    recogniser = EmotiEffLibRecognizer(engine="onnx", model_name="enet_b0_8_best_vgaf")

    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        faces = [cv2.cvtColor(crop, cv2.COLOR_GRAY2RGB) for crop in crops]
        return np.asarray(recogniser.predict_emotions(faces, logits=False)[1], np.float32)

    return predict, CLASSES


serve(load)
