"""What travels inside a model's `.onnx` file: labels, preprocessing, calibration, crop geometry, origin.

One metadata entry, `mien`, holds it all as JSON, so that the file alone is enough to serve it.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.preprocess import InputSpec

KEY = "mien"  # the metadata entry
FORMAT = 1

FER2013_LANDMARKS = ((0.314, 0.391), (0.686, 0.391), (0.5, 0.6), (0.35, 0.759), (0.65, 0.759))
"""Left eye, right eye, nose, left and right mouth corner (as the viewer sees them), in crop units:
medians that two detectors find on FER-2013's own crops, made symmetric (docs/crop-geometry.md)."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """All that inference needs beside the weights.

    The graph has one input `images` (N, C, H, W) float32, an output `logits` (N, K) and, when
    `cam_weights` is there, an output `features` (N, C', h, w): the last map before global pooling.
    """

    name: str
    labels: tuple[str, ...]
    input: InputSpec = field(default_factory=InputSpec)
    temperature: float = 1.0  # probabilities are softmax(logits / temperature)
    threshold: float = 0.0  # `uncertain` where the largest probability is lower
    landmarks: tuple[tuple[float, float], ...] = FER2013_LANDMARKS  # where alignment puts the five points
    licence: str = "unknown"  # of the weights; the code's is Apache-2.0
    precision: str = "fp32"
    training: Mapping[str, Any] = field(default_factory=dict)  # recipe, data digests, versions
    metrics: Mapping[str, Any] = field(default_factory=dict)  # on validation, as `mien evaluate` writes them
    cam_weights: str | None = None  # base64 of the classifier's (K, C') float32, for class activation maps

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or len(self.labels) < 2:
            raise ValueError(f"labels must be two or more different names, not {self.labels}")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}, not positive")
        if len(self.landmarks) != 5:
            raise ValueError(f"landmarks are {len(self.landmarks)} points, not 5")

    def classifier_weights(self) -> NDArray[np.float32] | None:
        """`(K, C')` float32 for class activation maps, or None where the model has no global pooling."""
        if self.cam_weights is None:
            return None
        flat = np.frombuffer(base64.b64decode(self.cam_weights), np.float32)
        return flat.reshape(len(self.labels), -1)


def encode_weights(weights: NDArray[np.float32]) -> str:
    """Classifier weights `(K, C')` as `ModelSpec.cam_weights` keeps them."""
    return base64.b64encode(np.ascontiguousarray(weights, np.float32).tobytes()).decode("ascii")


def to_json(spec: ModelSpec) -> str:
    """The metadata entry of `spec`."""
    return json.dumps({"format": FORMAT, **asdict(spec)}, ensure_ascii=False, sort_keys=True)


def from_json(text: str, *, source: str) -> ModelSpec:
    """Read a metadata entry; `source` names the file in errors.

    Raises:
        ModelError: it is malformed, or was written by a newer mien.
    """
    try:
        table = json.loads(text)
        if table.pop("format") != FORMAT:
            raise ModelError(f"{source} was exported by a newer mien: upgrade, or export the model again")
        spec = {**table, "input": InputSpec.from_dict(table["input"])}
        return ModelSpec(**{k: _tuple(v) for k, v in spec.items()})
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{source} has damaged mien metadata ({error}): export the model again") from error


def _tuple(value: Any) -> Any:
    """JSON has lists only; frozen specs hold tuples."""
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value
