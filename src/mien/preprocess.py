"""Faces to crops and crops to network input, in NumPy: the same functions serve and train."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_OVERSAMPLING = 64  # of the crop, each way: with a 48 px crop enough for a face of 3,000 px
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, what PIL's convert("L") and OpenCV use


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a network takes: geometry, channels and normalisation. Travels with the weights."""

    size_hw: tuple[int, int] = (48, 48)
    channels: int = 1  # 1: grey; 3: grey repeated, for nets that began on RGB: what they train on has no colour
    mean: tuple[float, ...] = (0.0,)  # of pixels in [0, 1], one a channel
    std: tuple[float, ...] = (1.0,)
    bgr: bool = False  # channel order of nets that came from Caffe

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "InputSpec":
        """From `dataclasses.asdict`, after JSON has made lists of the tuples."""
        return cls(
            size_hw=(int(table["size_hw"][0]), int(table["size_hw"][1])),
            channels=int(table["channels"]),
            mean=tuple(table["mean"]),
            std=tuple(table["std"]),
            bgr=bool(table["bgr"]),
        )

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}, not 1 or 3")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need {self.channels} values, not {len(self.mean)} and {len(self.std)}")
        if min(self.size_hw) < 1 or min(self.std) <= 0:
            raise ValueError(f"size_hw {self.size_hw} and std {self.std} must be positive")


def fit(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A whole picture `(H, W)` or `(H, W, 3)` as a crop `(h, w, ..)`: what trains is cut as what is served."""
    height, width = image.shape[:2]
    return crop_box(image, np.array([0, 0, width, height], np.float32), size_hw)


def crop_box(image: NDArray[np.uint8], box_xyxy: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """The box grown around its centre to the crop's proportions, as an `(h, w, 3)` crop: for faces without landmarks.

    Of an `(H, W)` grey picture the crop is `(h, w)`. What lies outside the picture repeats its edge.

    Raises:
        ValueError: the box is not `(4,)` or has no area.
    """
    if np.shape(box_xyxy) != (4,):
        raise ValueError(f"box_xyxy has shape {np.shape(box_xyxy)}, not (4,)")
    left, top, right, bottom = (float(value) for value in box_xyxy)
    if not (right > left and bottom > top):
        raise ValueError(f"box_xyxy {left, top, right, bottom} has no area")
    height, width = size_hw
    scale = min(width / (right - left), height / (bottom - top))
    shift_x, shift_y = width / 2 - scale * (left + right) / 2, height / 2 - scale * (top + bottom) / 2
    return sample(image, np.array([[scale, 0, shift_x], [0, scale, shift_y]]), size_hw)


def sample(image: NDArray[np.uint8], matrix: NDArray[np.float64], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Sample `image` through a `(2, 3)` similarity from picture to crop, without aliasing.

    A face larger than the crop is sampled on a finer grid, at least as fine as the picture's own, and each crop
    pixel is the mean of its part of that grid. Plain bilinear sampling would skip picture pixels.
    """
    height, width = size_hw
    scale = float(np.hypot(*matrix[:, 0]))
    finer = int(np.clip(np.ceil(1 / scale - 1e-6), 1, MAX_OVERSAMPLING))
    to_grid = matrix * finer
    to_grid[:, 2] += to_grid[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from the centre of the first pixel
    grid_wh = (width * finer, height * finer)
    grid = cv2.warpAffine(image, to_grid, grid_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if finer > 1:
        grid = cv2.resize(grid, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(grid, np.uint8)


def area_weights(size: int, smaller: int) -> NDArray[np.float32]:
    """`(smaller, size)`: what each pixel of a row weighs in the shrunk row, by the area that they share.

    What OpenCV's INTER_AREA does, and so `network_input`.
    """
    edges = np.arange(smaller + 1) * (size / smaller)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.clip(overlap, 0, None) * (smaller / size), np.float32)


def to_grey(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(N, H, W, 3)` RGB to `(N, H, W)` grey, rounded; grey crops pass through."""
    if crops.ndim == 3:
        return crops
    return np.rint(crops @ np.array(GREY_WEIGHTS, np.float32)).astype(np.uint8)


def network_input(crops: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """`(N, H, W)` grey or `(N, H, W, 3)` RGB uint8 crops to `(N, C, h, w)` float32, without colour, normalised.

    Resizing is bilinear with OpenCV's half-pixel centres, by area when it shrinks.

    Raises:
        ValueError: the array is not uint8 or not of one of the two shapes.
    """
    if crops.dtype != np.uint8 or crops.ndim not in (3, 4) or (crops.ndim == 4 and crops.shape[3] != 3):
        raise ValueError(f"crops are uint8 (N, H, W) or (N, H, W, 3), not {crops.dtype} {crops.shape}")
    if crops.ndim == 3 and crops.shape[2] == 3:
        raise ValueError(f"crops are (N, H, W) or (N, H, W, 3): {crops.shape} is one RGB crop, pass crop[None]")
    if 0 in crops.shape[1:]:
        raise ValueError(f"crops of no pixels: {crops.shape}")
    crops = to_grey(crops)
    if crops.shape[1:3] != spec.size_hw:
        height, width = spec.size_hw
        shrink = height < crops.shape[1] or width < crops.shape[2]
        method = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
        resized = [cv2.resize(crop, (width, height), interpolation=method) for crop in crops]
        crops = np.stack(resized).astype(np.uint8) if resized else np.empty((0, height, width), np.uint8)
    crops = np.repeat(crops[..., None], spec.channels, axis=3)
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    normalised = crops.astype(np.float32) * (1 / (255 * std)) - mean / std
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2), np.float32)
