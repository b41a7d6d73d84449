"""What every explanation returns: a self-checking map over the face crop, and what its numbers mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""`(N, H, W)` grey or `(N, H, W, 3)` RGB uint8 crops to `(N, K)` probabilities."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to explain: what its map shows and what it needs."""

    name: str
    title: str  # heads its panel in pictures
    meaning: str  # of the numbers, beside the scale bar
    signed: bool  # negative values speak against the label
    needs_run: bool  # gradients need torch and a run; the rest work on a plain .onnx
    fine: bool = False  # differs from pixel to pixel: a few pixels stand far above the rest


METHODS = {
    method.name: method
    for method in (
        Method(name="occlusion", title="Occlusion", meaning="fall of probability", signed=True, needs_run=False),
        Method(name="cam", title="CAM", meaning="share of the score (logit)", signed=True, needs_run=False),
        Method(
            name="saliency",
            title="Saliency",
            meaning="|gradient of the score|",
            signed=False,
            needs_run=True,
            fine=True,
        ),
        Method(
            name="smoothgrad", title="SmoothGrad", meaning="|mean gradient|", signed=False, needs_run=True, fine=True
        ),
        Method(name="gradcam", title="Grad-CAM", meaning="evidence for the score", signed=False, needs_run=True),
        Method(
            name="integrated-gradients",
            title="Integrated gradients",
            meaning="share of the score (logit)",
            signed=True,
            needs_run=True,
            fine=True,
        ),
    )
}
"""By the name that `mien explain --method` takes, in the order that grids show them."""


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single ==
class Heatmap:
    """Where in the crop the evidence for `label` lies, as `method` sees it."""

    values: NDArray[np.float32]  # (H, W) of the crop, in [-1, 1]; above 0 speaks for the label, below 0 against it
    label: str
    method: str  # a key of METHODS
    scale: float = 1.0  # what 1.0 stands for in the method's own unit: values * scale is the raw map
    probability: float | None = None  # of `label` in the crop as it is, 0..1

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            raise ValueError(f"values are float32 (H, W), not {self.values.dtype} {self.values.shape}")
        if self.method not in METHODS:
            raise ValueError(f"{self.method!r} is no method: use one of {', '.join(METHODS)}")
        if not np.isfinite(self.values).all() or np.abs(self.values).max(initial=0) > 1 + 1e-5:
            raise ValueError("values must be finite and in [-1, 1]")
        if not METHODS[self.method].signed and self.values.min(initial=0) < 0:
            raise ValueError(f"values of {self.method} must not be negative")

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form: `values` as H rows of W numbers in [-1, 1]; times `scale` they have the method's unit."""
        return {
            "method": self.method,
            "label": self.label,
            "probability": None if self.probability is None else round(self.probability, 4),
            "meaning": METHODS[self.method].meaning,
            "scale": float(f"{self.scale:.6g}"),
            "shape_hw": list(self.values.shape),
            "values": [[round(float(value), 4) for value in row] for row in self.values],
        }


def from_raw(
    raw: NDArray[np.float32], *, crop_hw: tuple[int, int], label: str, method: str, probability: float | None
) -> Heatmap:
    """A heatmap of the crop's size from a map `(h, w)` in the method's own unit and resolution.

    Enlarged bilinearly with half-pixel centres; `scale` is the largest magnitude of the raw map.
    """
    raw = np.ascontiguousarray(raw, np.float32)
    scale = float(np.abs(raw).max(initial=0)) or 1.0  # a map of zeros stays one
    shrink = raw.shape[0] > crop_hw[0] or raw.shape[1] > crop_hw[1]
    if raw.shape != crop_hw:
        method_of_size = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
        raw = np.asarray(cv2.resize(raw, crop_hw[::-1], interpolation=method_of_size), np.float32)
    values = np.clip(raw / scale, -1, 1).astype(np.float32)
    return Heatmap(values, label, method, scale=scale, probability=probability)


def label_index(label: str, labels: Sequence[str]) -> int:
    """Place of `label` among the model's labels.

    Raises:
        ValueError: the model does not know it.
    """
    if label not in labels:
        raise ValueError(f"{label!r} is no label of the model: use one of {', '.join(labels)}")
    return list(labels).index(label)


def check_crop(crop: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of one face crop.

    Raises:
        ValueError: it is not uint8, or neither `(H, W)` grey nor `(H, W, 3)` RGB.
    """
    if crop.dtype != np.uint8 or crop.ndim not in (2, 3) or (crop.ndim == 3 and crop.shape[2] != 3) or not crop.size:
        raise ValueError(f"a crop is uint8 (H, W) or (H, W, 3), not {crop.dtype} {crop.shape}")
    return crop.shape[0], crop.shape[1]
