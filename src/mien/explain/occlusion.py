"""Occlusion maps (Zeiler & Fergus 2014, section 4.2): grey a patch, see how far the probability falls.

Needs nothing but a predict function, so it explains a plain `.onnx`, a web service or an ensemble alike.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mien.explain.heatmap import Heatmap, Predict, check_crop, label_index
from mien.labels import FER7

OCCLUDER = 128  # mid grey: Zeiler & Fergus' patch
BATCH = 256  # crops a call: a 48 px crop at the defaults fits in one, a large crop stays within memory

Window = tuple[slice, slice]


def occlusion_map(
    predict: Predict,
    crop: NDArray[np.uint8],
    label: str,
    *,
    patch_px: int = 8,
    stride_px: int = 4,
    labels: Sequence[str] = FER7,
) -> Heatmap:
    """Fall of the label's probability when a patch is greyed: `(H, W)` in [-1, 1].

    A pixel's value is the mean over all patches that cover it; where the probability rises it is negative.
    `predict` maps `(N, H, W)` or `(N, H, W, 3)` uint8 crops, as `crop` is, to `(N, K)` probabilities of `labels`.

    Raises:
        ValueError: the patch is larger than the crop, the stride leaves gaps, or the label is unknown.
    """
    index = label_index(label, labels)
    return occlusion_maps(predict, crop, patch_px=patch_px, stride_px=stride_px, labels=labels)[index]


def occlusion_maps(
    predict: Predict,
    crop: NDArray[np.uint8],
    *,
    patch_px: int = 8,
    stride_px: int = 4,
    labels: Sequence[str] = FER7,
) -> tuple[Heatmap, ...]:
    """The occlusion map of every label, in their order, for the cost of one: the same crops serve all.

    Raises:
        ValueError: as `occlusion_map`.
    """
    height, width = check_crop(crop)
    if not 1 <= patch_px <= min(height, width):
        raise ValueError(f"patch_px is {patch_px}, not between 1 and the crop's {min(height, width)}")
    if not 1 <= stride_px <= patch_px:
        raise ValueError(f"stride_px is {stride_px}, not between 1 and patch_px, {patch_px}: it would leave gaps")
    windows = [
        (slice(top, top + patch_px), slice(left, left + patch_px))
        for top in _starts(height, patch_px, stride_px)
        for left in _starts(width, patch_px, stride_px)
    ]
    untouched = (slice(0, 0), slice(0, 0))  # first row of the batch: the crop itself
    probabilities = _predict_occluded(predict, crop, [untouched, *windows])
    if probabilities.shape != (len(windows) + 1, len(labels)):
        raise ValueError(f"predict gave {probabilities.shape}, not ({len(windows) + 1}, {len(labels)})")
    falls = probabilities[0] - probabilities[1:]
    values = _average((height, width), windows, falls)
    return tuple(
        Heatmap(values[..., k].copy(), label, "occlusion", probability=float(probabilities[0, k]))
        for k, label in enumerate(labels)
    )


def scaled_patch(crop_hw: tuple[int, int]) -> tuple[int, int]:
    """Patch and stride in pixels with the proportions of 8 and 4 on a 48 px crop."""
    patch_px = max(2, round(min(crop_hw) / 6))
    return patch_px, max(1, patch_px // 2)


def _starts(length: int, patch_px: int, stride_px: int) -> list[int]:
    """Patch positions along one side; the last one touches the far edge, so every pixel is covered."""
    last = length - patch_px
    starts = list(range(0, last + 1, stride_px))
    return starts if starts[-1] == last else [*starts, last]


def _predict_occluded(predict: Predict, crop: NDArray[np.uint8], windows: list[Window]) -> NDArray[np.float32]:
    """`(len(windows), K)` probabilities, one row a greyed window."""
    parts = []
    for start in range(0, len(windows), BATCH):
        chunk = windows[start : start + BATCH]
        crops = np.repeat(crop[None], len(chunk), axis=0)
        for occluded, window in zip(crops, chunk, strict=True):
            occluded[window] = OCCLUDER
        parts.append(np.asarray(predict(crops), np.float32))
    return np.concatenate(parts)


def _average(size_hw: tuple[int, int], windows: list[Window], falls: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(H, W, K)`: mean of the falls `(P, K)` over the windows that cover each pixel."""
    sums = np.zeros((*size_hw, falls.shape[1]), np.float64)
    counts = np.zeros((*size_hw, 1))
    for window, fall in zip(windows, falls, strict=True):
        sums[window] += fall
        counts[window] += 1
    return np.clip(sums / counts, -1, 1).astype(np.float32)
