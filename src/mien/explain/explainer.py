"""One model, every method that it allows, by name."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mien.bundle import ModelSpec
from mien.errors import ConfigError, ModelError
from mien.explain.cam import cam_maps
from mien.explain.heatmap import METHODS, Heatmap, check_crop, label_index
from mien.explain.occlusion import occlusion_maps, scaled_patch


class ExplainablePredictor(Protocol):
    """What every model offers: `runtime.predictor.Predictor` and `gradients.TorchPredictor` do."""

    @property
    def spec(self) -> ModelSpec:
        """What travels with the weights."""

    def predict(self, crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """`(N, H, W[, 3])` uint8 crops to `(N, K)` probabilities."""

    def predict_with_features(self, crops: NDArray[np.uint8], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same, and `(N, C, h, w)` features."""


@runtime_checkable
class GradientPredictor(ExplainablePredictor, Protocol):
    """A model with gradients: `gradients.TorchPredictor`. Named here by its form, so that serving never meets torch."""

    def gradient_map(self, crop: NDArray[np.uint8], label: str, *, method: str) -> Heatmap:
        """The map of one of the methods that need a run."""


def unavailable(predictor: ExplainablePredictor, method: str) -> str:
    """Why the method cannot explain this model, with what can; empty where it can.

    Raises:
        ConfigError: there is no such method.
    """
    if method not in METHODS:
        raise ConfigError(f"{method!r} is no method: use one of {', '.join(METHODS)}")
    if method == "cam" and predictor.spec.cam_weights is None:
        return "CAM is not available: the model has no global pooling before its classifier; use occlusion"
    if METHODS[method].needs_run and not isinstance(predictor, GradientPredictor):
        return f"{METHODS[method].title} needs gradients, so a run or checkpoint, not an .onnx; or use occlusion"
    return ""


def explain(
    predictor: ExplainablePredictor,
    crop: NDArray[np.uint8],
    labels: Sequence[str],
    *,
    method: str = "occlusion",
    patch_px: int | None = None,
    stride_px: int | None = None,
) -> tuple[Heatmap, ...]:
    """A map of `crop` `(H, W[, 3])` for each label; patch and stride are those of occlusion, in the crop's proportion
    where None.

    Raises:
        ModelError: the model does not allow the method.
        ConfigError: there is no such method.
        ValueError: a label is unknown, or patch and stride do not fit the crop.
        MissingExtraError: the method needs the train extra.
    """
    if reason := unavailable(predictor, method):
        raise ModelError(f"{predictor.spec.name}: {reason}")
    if method == "cam":
        return cam_maps(predictor, crop, labels)
    if method == "occlusion":
        indices = [label_index(label, predictor.spec.labels) for label in labels]
        patch, stride = scaled_patch(check_crop(crop))
        patch = patch if patch_px is None else patch_px
        stride = min(stride, patch) if stride_px is None else stride_px
        maps = occlusion_maps(predictor.predict, crop, patch_px=patch, stride_px=stride, labels=predictor.spec.labels)
        return tuple(maps[k] for k in indices)
    assert isinstance(predictor, GradientPredictor)
    return tuple(predictor.gradient_map(crop, label, method=method) for label in labels)
