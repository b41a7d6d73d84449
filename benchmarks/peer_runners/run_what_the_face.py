"""`what-the-face-classification`: its transform and its network; `predict` gives only the best label, as text."""

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from protocol import Predict, serve


def load() -> tuple[Predict, tuple[str, ...]]:
    """The network on crops, past its Haar detector, which OpenCV 5 no longer has."""
    import torch
    from what_the_face_classification.inference import Image_classifier

    classifier = Image_classifier()
    classifier.net.eval()

    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            images = torch.stack([classifier.transform(PIL.Image.fromarray(crop)) for crop in crops])
            return np.asarray(torch.softmax(classifier.net(images), 1))

    return predict, classifier.classes


serve(load)
