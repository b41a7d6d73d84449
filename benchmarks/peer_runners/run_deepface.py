"""DeepFace's emotion network, as `DeepFace.analyze(..., actions=["emotion"], detector_backend="skip")` runs it.

The weights come from a release page on first use; without that host the runner answers with the fault.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from protocol import OARRIAGA, Predict, serve


def load() -> tuple[Predict, tuple[str, ...]]:
    """The client that `analyze` calls, without what `analyze` does around it."""
    from deepface.modules import modeling, preprocessing

    client = modeling.build_model(task="facial_attribute", model_name="Emotion")

    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        colour = [cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR) for crop in crops]
        faces = [preprocessing.resize_image(img=crop, target_size=(224, 224))[0] for crop in colour]
        return np.asarray(client.predict(np.stack(faces)), np.float32).reshape(len(crops), -1)

    return predict, OARRIAGA


serve(load)
