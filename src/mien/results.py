"""What analysis returns: frozen, self-checking, JSON-safe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3), RGB, upright: the only image inside mien


@dataclass(frozen=True, slots=True)
class Quality:
    """How fit a face is for recognition."""

    size_px: float  # shorter side of the box in the whole picture
    blur: float  # 0 sharp .. 1 no detail left
    tilt_deg: float | None  # roll in the picture plane, clockwise positive; None without landmarks
    turn_ratio: float | None  # yaw in [-1, 1]: 0 frontal, +1 nose at the viewer's right eye; None without landmarks

    def to_dict(self) -> dict[str, float | None]:
        """JSON-safe form."""
        return {
            "size_px": round(self.size_px, 1),
            "blur": round(self.blur, 3),
            "tilt_deg": None if self.tilt_deg is None else round(self.tilt_deg, 1),
            "turn_ratio": None if self.turn_ratio is None else round(self.turn_ratio, 3),
        }


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single ==
class Face:
    """One face of a picture and the expression that it shows."""

    box_xyxy: NDArray[np.float32]  # (4,), pixels of the whole upright picture
    landmarks: NDArray[np.float32] | None  # (5, 2) pixels: eyes, nose, mouth corners, left to right as seen
    score: float  # detector's, 0..1
    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]  # (K,), in the order of `labels`, calibrated
    uncertain: bool  # the largest probability is under the model's threshold
    quality: Quality
    crop: NDArray[np.uint8] = field(repr=False)  # (h, w, 3) RGB: the upright crop that the network saw

    def __post_init__(self) -> None:
        if self.box_xyxy.shape != (4,):
            raise ValueError(f"box_xyxy has shape {self.box_xyxy.shape}, not (4,)")
        if self.probabilities.shape != (len(self.labels),):
            raise ValueError(f"probabilities have shape {self.probabilities.shape}, not ({len(self.labels)},)")
        if not np.isclose(self.probabilities.sum(), 1.0, atol=1e-3):
            raise ValueError(f"probabilities sum to {self.probabilities.sum():.3f}, not 1")

    @property
    def emotion(self) -> str:
        """The most probable label."""
        return self.labels[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        """Probability of `emotion`, 0..1."""
        return float(self.probabilities.max())

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form: native floats, no crop."""
        points = None if self.landmarks is None else [[round(float(v), 1) for v in p] for p in self.landmarks]
        probabilities = (round(float(p), 4) for p in self.probabilities)
        return {
            "box_xyxy": [round(float(v), 1) for v in self.box_xyxy],
            "landmarks": points,
            "score": round(self.score, 4),
            "emotion": self.emotion,
            "confidence": round(self.confidence, 4),
            "probabilities": dict(zip(self.labels, probabilities, strict=True)),
            "uncertain": self.uncertain,
            "quality": self.quality.to_dict(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """All faces of one picture, with what produced them."""

    source: str
    width: int
    height: int
    faces: tuple[Face, ...]
    model: Mapping[str, Any]  # name, sha256, temperature, threshold, precision, detector, version

    def to_dict(self) -> dict[str, Any]:
        """One entry of `mien predict --format json`."""
        return {
            "source": self.source,
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict() for face in self.faces],
            "model": dict(self.model),
        }
