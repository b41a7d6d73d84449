"""Class activation maps (Zhou et al. 2016) from exported features and classifier weights: one forward pass.

With global average pooling and a linear classifier the score of class k is the mean over positions of
`sum_c weights[k, c] * features[c, y, x]`, plus a bias: the map under that mean is the explanation, exactly.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mien.bundle import ModelSpec
from mien.errors import ModelError
from mien.explain.heatmap import Heatmap, check_crop, from_raw, label_index


class FeaturePredictor(Protocol):
    """A model that also gives its last feature map: `mien.runtime.predictor.Predictor`, for one."""

    @property
    def spec(self) -> ModelSpec:
        """What travels with the weights."""

    def predict_with_features(self, crops: NDArray[np.uint8], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`(N, H, W[, 3])` uint8 crops to `(N, K)` probabilities and `(N, C, h, w)` features."""


def class_evidence(features: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of every position in every class score: `(N, K, h, w)` from features `(N, C, h, w)` and weights `(K, C)`.

    The mean over the positions is the logit without its bias.

    Raises:
        ValueError: features and weights do not have the same C.
    """
    if features.ndim != 4 or weights.ndim != 2 or features.shape[1] != weights.shape[1]:
        raise ValueError(f"features {features.shape} and weights {weights.shape} are not (N, C, h, w) and (K, C)")
    evidence = np.tensordot(weights.astype(np.float32), features.astype(np.float32), axes=(1, 1))  # (K, N, h, w)
    return np.ascontiguousarray(evidence.transpose(1, 0, 2, 3))


def require_weights(spec: ModelSpec) -> NDArray[np.float32]:
    """The classifier's weights `(K, C)`.

    Raises:
        ModelError: the model has no global pooling, so it has no class activation map.
    """
    weights = spec.classifier_weights()
    if weights is None:
        raise ModelError(
            f"CAM is not available for {spec.name}: it has no global pooling before its classifier; use occlusion"
        )
    return weights


def cam_map(predictor: FeaturePredictor, crop: NDArray[np.uint8], label: str) -> Heatmap:
    """Class activation map of one crop `(H, W[, 3])`, at the crop's size; one forward pass.

    Values below 0 speak against the label. The unit of `scale` is the logit: the mean of the
    unenlarged map is the label's logit without its bias.

    Raises:
        ModelError: the model has no global pooling.
        ValueError: the label is unknown.
    """
    return cam_maps(predictor, crop, (label,))[0]


def cam_maps(
    predictor: FeaturePredictor, crop: NDArray[np.uint8], labels: Sequence[str] | None = None
) -> tuple[Heatmap, ...]:
    """The maps of several labels (all by default) from the same forward pass.

    Raises:
        ModelError: the model has no global pooling.
        ValueError: a label is unknown.
    """
    crop_hw = check_crop(crop)
    weights = require_weights(predictor.spec)
    wanted = predictor.spec.labels if labels is None else labels
    indices = [label_index(label, predictor.spec.labels) for label in wanted]
    probabilities, features = predictor.predict_with_features(crop[None])
    evidence = class_evidence(features, weights)[0]
    return tuple(
        from_raw(evidence[k], crop_hw=crop_hw, label=label, method="cam", probability=float(probabilities[0, k]))
        for k, label in zip(indices, wanted, strict=True)
    )
