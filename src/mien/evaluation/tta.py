"""Test-time augmentation: the mean of the probabilities over flipped and shifted views of each crop."""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Crops = NDArray[np.uint8]  # (N, H, W) grey or (N, H, W, 3) RGB
Predict = Callable[[Crops], NDArray[np.float32]]  # crops to (N, K) probabilities
Tta = Literal["none", "flip", "full"]

VIEWS: dict[Tta, int] = {"none": 1, "flip": 2, "full": 10}
SHIFT_RATIO = 3 / 48  # 3 px of FER-2013's crops, and as much of the face in crops of another size


def views(crops: Crops, tta: Tta) -> Iterator[Crops]:
    """The crops as they are; for `flip` also mirrored; for `full` both, each also shifted by SHIFT_RATIO four ways.

    Shifts repeat the edge pixels, so that no new edge appears in the picture.

    Raises:
        ValueError: `tta` is no known kind.
    """
    if tta not in VIEWS:
        raise ValueError(f"tta is {tta!r}, not one of {', '.join(VIEWS)}")
    sides = (crops,) if tta == "none" else (crops, crops[:, :, ::-1])
    for side in sides:
        yield np.ascontiguousarray(side)
        if tta == "full":
            yield from _shifted(side)


def with_tta(predict: Predict, tta: Tta) -> Predict:
    """`predict` averaged over the views of `tta`."""

    def mean_probabilities(crops: Crops) -> NDArray[np.float32]:
        total = sum(predict(view).astype(np.float64) for view in views(crops, tta))
        return np.asarray(total / VIEWS[tta], np.float32)

    return mean_probabilities


def _shifted(crops: Crops) -> Iterator[Crops]:
    height, width = crops.shape[1:3]
    down, right = max(1, round(height * SHIFT_RATIO)), max(1, round(width * SHIFT_RATIO))
    pad = ((0, 0), (down, down), (right, right), *((0, 0),) * (crops.ndim - 3))
    padded = np.pad(crops, pad, mode="edge")
    for top, left in ((0, right), (2 * down, right), (down, 0), (down, 2 * right)):
        yield np.ascontiguousarray(padded[:, top : top + height, left : left + width])
