"""Pixels to network input in torch: what training, teachers and ensembles feed their networks with."""

from torch import Tensor
from torch.nn import functional as F

from mien.preprocess import GREY_WEIGHTS, InputSpec


def fit_to(pixels: Tensor, spec: InputSpec) -> Tensor:
    """(N, 1 or 3, H, W) in [0, 1] to (N, C, h, w): colour is taken out, grey repeated, the size that of the input."""
    if pixels.shape[1] == 3:
        pixels = (pixels * pixels.new_tensor(GREY_WEIGHTS)[:, None, None]).sum(1, keepdim=True)
    if tuple(pixels.shape[2:]) != spec.size_hw:
        shrink = spec.size_hw[0] < pixels.shape[2]
        pixels = F.interpolate(pixels, spec.size_hw, mode="bilinear", align_corners=False, antialias=shrink)
    return pixels.expand(-1, spec.channels, -1, -1)


def normalise(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Pixels (N, C, H, W) in [0, 1] to network input."""
    if spec.bgr:
        pixels = pixels.flip(1)
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    return (pixels - mean) / std
