"""A torch network seen as a function of crops (needs the `train` extra; the caller brings torch along)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mien.bundle import ModelSpec
from mien.evaluation.tta import Crops, Predict
from mien.preprocess import network_input
from mien.runtime.predictor import softmax

if TYPE_CHECKING:
    from torch import nn

CHUNK = 64  # crops of one forward pass


def torch_logits(model: "nn.Module", spec: ModelSpec) -> Callable[[Crops], NDArray[np.float32]]:
    """Crops, `(N, H, W)` or `(N, H, W, 3)` uint8, to the logits `(N, K)` of `model`, which must be in eval mode."""
    import torch  # noqa: PLC0415 - evaluation of an .onnx does without it

    device = next(model.parameters()).device

    def logits(crops: Crops) -> NDArray[np.float32]:
        parts = [np.empty((0, len(spec.labels)), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(crops), CHUNK):
                images = network_input(crops[start : start + CHUNK], spec.input)
                parts.append(model(torch.from_numpy(images).to(device)).float().cpu().numpy())
        return np.concatenate(parts)

    return logits


def torch_predict(model: "nn.Module", spec: ModelSpec) -> Predict:
    """Crops to probabilities `(N, K)`, calibrated with the temperature of `spec`."""
    logits = torch_logits(model, spec)
    return lambda crops: softmax(logits(crops), temperature=spec.temperature)
