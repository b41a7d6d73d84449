"""Pixels to network input in torch: what training, teachers and ensembles feed their networks with."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mien.preprocess import GREY_WEIGHTS, InputSpec, area_weights


def fit_to(pixels: Tensor, spec: InputSpec) -> Tensor:
    """(N, 1 or 3, H, W) in [0, 1] to (N, C, h, w): colour is taken out, grey repeated, the size that of the input."""
    if pixels.shape[1] == 3:
        pixels = (pixels * _channelwise(GREY_WEIGHTS, pixels)).sum(1, keepdim=True)
    if tuple(pixels.shape[2:]) != spec.size_hw:
        pixels = _resized(pixels, spec.size_hw)
    return pixels.expand(-1, spec.channels, -1, -1)


def normalise(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Pixels (N, C, H, W) in [0, 1] to network input."""
    if spec.bgr:
        pixels = pixels.flip(1)
    return (pixels - _channelwise(spec.mean, pixels)) / _channelwise(spec.std, pixels)


def _resized(pixels: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Bilinear, by area when it shrinks: as `network_input` does for inference."""
    if size_hw[0] >= pixels.shape[2] and size_hw[1] >= pixels.shape[3]:
        return F.interpolate(pixels, size_hw, mode="bilinear", align_corners=False)
    rows, columns = (
        torch.from_numpy(area_weights(size, smaller)).to(pixels)
        for size, smaller in zip(pixels.shape[2:], size_hw, strict=True)
    )
    return rows @ pixels @ columns.T


def _channelwise(values: Sequence[float], like: Tensor) -> Tensor:
    """(C, 1, 1), sent without waiting for the device: `Tensor.new_tensor` would."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)[:, None, None]
