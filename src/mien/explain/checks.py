"""Does an explanation mean anything? Deletion and insertion (Petsiuk et al. 2018), and how alike two maps are.

A faithful map makes the probability fall fast when its strongest pixels go first (deletion: a small area under
the curve), and rise fast when they come back first (insertion: a large area). Both are read beside maps that know
nothing of the model: smooth random ones, and the prior that faces are in the middle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.explain.heatmap import Heatmap, Predict, check_crop, label_index
from mien.explain.occlusion import OCCLUDER
from mien.labels import FER7

STEPS = 24  # points of a curve after the first
RANDOM_MAPS = 16
BLUR_RATIO = 1 / 8  # standard deviation of insertion's blur to the crop's side: no expression is left
RANDOM_GRID = 6  # random maps have as many bumps a side: as coarse as occlusion or CAM


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The label's probability while pixels go (deletion) or come (insertion), strongest first."""

    fractions: NDArray[np.float32]  # (S + 1,) of pixels changed, 0..1, rising
    probabilities: NDArray[np.float32]  # (S + 1,)

    @property
    def auc(self) -> float:
        """Area under the curve by trapezoids, 0..1."""
        widths = np.diff(self.fractions)
        return float(np.sum(widths * (self.probabilities[1:] + self.probabilities[:-1]) / 2))


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One curve of a map beside the same curve of maps that know nothing of the model."""

    curve: Curve
    random: tuple[Curve, ...]  # of RANDOM_MAPS smooth random maps
    centre: Curve  # of a bump in the middle of the crop

    @property
    def random_auc_mean(self) -> float:
        """Mean area of the random maps."""
        return float(np.mean([curve.auc for curve in self.random]))

    @property
    def random_auc_sd(self) -> float:
        """Standard deviation of their areas, over maps."""
        return float(np.std([curve.auc for curve in self.random], ddof=1))

    @property
    def random_mean(self) -> Curve:
        """The mean of the random maps' curves."""
        return Curve(self.curve.fractions, np.mean([curve.probabilities for curve in self.random], axis=0))

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form: areas, and the map's curve."""
        return {
            "auc": round(self.curve.auc, 4),
            "random_auc_mean": round(self.random_auc_mean, 4),
            "random_auc_sd": round(self.random_auc_sd, 4),
            "centre_auc": round(self.centre.auc, 4),
            "fractions": [round(float(v), 4) for v in self.curve.fractions],
            "probabilities": [round(float(v), 4) for v in self.curve.probabilities],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Faithfulness:
    """Deletion (small areas are better) and insertion (large areas are better) of one map."""

    method: str
    label: str
    deletion: Comparison
    insertion: Comparison

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        return {"deletion": self.deletion.to_dict(), "insertion": self.insertion.to_dict()}


@dataclass(frozen=True, slots=True, eq=False)
class Randomisation:
    """Rank correlation of a map with that of the model after each stage of shuffling."""

    method: str
    label: str
    layers: tuple[str, ...]  # last layer of each stage, from the logits down
    similarities: tuple[float, ...]  # Spearman, one a stage: -1..1

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        similarities = [round(value, 4) for value in self.similarities]
        return {"layers": list(self.layers), "similarities": similarities}


def deletion_curve(
    predict: Predict,
    crop: NDArray[np.uint8],
    heatmap: Heatmap,
    *,
    labels: Sequence[str] = FER7,
    steps: int = STEPS,
    seed: int = 0,
) -> Curve:
    """Grey the pixels of `crop` from the strongest to the weakest; `seed` orders equal ones.

    Raises:
        ValueError: the map does not fit the crop, or its label is unknown.
    """
    grey = np.full_like(crop, OCCLUDER)
    return _curve(predict, crop, grey, heatmap, labels=labels, steps=steps, seed=seed)


def insertion_curve(
    predict: Predict,
    crop: NDArray[np.uint8],
    heatmap: Heatmap,
    *,
    labels: Sequence[str] = FER7,
    steps: int = STEPS,
    seed: int = 0,
) -> Curve:
    """Bring the pixels back into a blurred `crop` from the strongest to the weakest; `seed` orders equal ones.

    Raises:
        ValueError: the map does not fit the crop, or its label is unknown.
    """
    return _curve(predict, blurred(crop), crop, heatmap, labels=labels, steps=steps, seed=seed)


def faithfulness(
    predict: Predict, crop: NDArray[np.uint8], heatmap: Heatmap, *, labels: Sequence[str] = FER7, seed: int = 0
) -> Faithfulness:
    """Deletion and insertion of `heatmap`, of `RANDOM_MAPS` smooth random maps and of the centre.

    Raises:
        ValueError: the map does not fit the crop, or its label is unknown.
    """
    size_hw = check_crop(crop)
    rng = np.random.default_rng(seed)
    ignorant = [*(random_map(size_hw, rng) for _ in range(RANDOM_MAPS)), _centre(size_hw)]
    maps = [heatmap, *(Heatmap(values, heatmap.label, heatmap.method) for values in ignorant)]

    def compare(draw: Callable[..., Curve]) -> Comparison:
        first, *random, centre = (draw(predict, crop, other, labels=labels, seed=seed) for other in maps)
        return Comparison(first, tuple(random), centre)

    return Faithfulness(heatmap.method, heatmap.label, compare(deletion_curve), compare(insertion_curve))


def similarity(first: Heatmap, second: Heatmap) -> float:
    """Spearman's rank correlation of two maps of one size, -1..1; 0 when one of them is constant.

    Adebayo et al. (2018) compare the maps of a model and of its randomised copies with it: near 0 the
    explanation depends on what was learnt, near 1 it would look the same for any weights.

    Raises:
        ValueError: the maps have different shapes.
    """
    if first.values.shape != second.values.shape:
        raise ValueError(f"maps of {first.values.shape} and {second.values.shape} cannot be compared")
    ranks = [_ranks(heatmap.values.ravel()) for heatmap in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    norm = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / norm if norm > 0 else 0.0


def randomisation(heatmap: Heatmap, stages: Sequence[tuple[str, Heatmap]]) -> Randomisation:
    """Compare `heatmap` with the maps of the stages."""
    return Randomisation(
        method=heatmap.method,
        label=heatmap.label,
        layers=tuple(layer for layer, _ in stages),
        similarities=tuple(similarity(heatmap, other) for _, other in stages),
    )


def random_map(size_hw: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise `(H, W)` in [0, 1], as coarse as an occlusion map."""
    noise = rng.random((RANDOM_GRID, RANDOM_GRID)).astype(np.float32)
    smooth = cv2.resize(noise, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(smooth, np.float32)


def blurred(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop with no expression left: what insertion starts from."""
    sigma_px = BLUR_RATIO * min(crop.shape[:2])
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT), np.uint8)


def _curve(
    predict: Predict,
    start: NDArray[np.uint8],
    end: NDArray[np.uint8],
    heatmap: Heatmap,
    *,
    labels: Sequence[str],
    steps: int,
    seed: int,
) -> Curve:
    """Turn `start` into `end` pixel by pixel, strongest first, in `steps` equal portions."""
    if check_crop(start) != heatmap.values.shape:
        raise ValueError(f"a map of {heatmap.values.shape} does not fit a crop of {start.shape[:2]}")
    index = label_index(heatmap.label, labels)
    order = _strongest_first(heatmap.values, seed)
    counts = np.linspace(0, order.size, steps + 1).round().astype(int)
    crops = np.repeat(start[None], steps + 1, axis=0)
    flat = crops.reshape(steps + 1, order.size, -1)
    target = end.reshape(order.size, -1)
    for row, count in zip(flat, counts, strict=True):
        row[order[:count]] = target[order[:count]]
    probabilities = np.asarray(predict(crops), np.float32)[:, index]
    return Curve((counts / order.size).astype(np.float32), probabilities)


def _strongest_first(values: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """Flat pixel indices by falling value; equal ones in random order, not from the top left corner."""
    ties = np.random.default_rng(seed).permutation(values.size)
    return np.lexsort((ties, -values.ravel())).astype(np.int64)


def _centre(size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """A bump in the middle, `(H, W)` in [0, 1]."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, length) for length in size_hw), indexing="ij")
    return np.exp(-2 * (x**2 + y**2)).astype(np.float32)


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse.ravel()]
