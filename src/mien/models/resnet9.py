"""ResNet-9, the small residual network of Page's "How to Train Your ResNet" (2018), for 48 x 48 grey faces."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from mien.models.registry import GREY, register
from mien.models.vgg import PooledConvNet, conv_bn


class Residual(nn.Module):
    """Two convolutions with batch norm and ReLU, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_bn(channels, channels), *conv_bn(channels, channels))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape."""
        added: torch.Tensor = images + self.body(images)
        return added


def residual_stages(channels: Sequence[int]) -> nn.Sequential:
    """(N, 1, H, W) to (N, channels[-1], H / 8, W / 8) for four widths."""
    layers = conv_bn(1, channels[0])
    for inputs, outputs in pairwise(channels):
        layers += [nn.MaxPool2d(2), *conv_bn(inputs, outputs), Residual(outputs)]
    return nn.Sequential(*layers)


@register(input=GREY, source="Page 2018, https://myrtle.ai/how-to-train-your-resnet")
def resnet9_narrow(num_classes: int, *, dropout: float = 0.1) -> nn.Module:
    """ResNet-9 at widths 32-64-128-224: 1.6 M parameters, 149 M MACs at 48 x 48."""
    return PooledConvNet(residual_stages((32, 64, 128, 224)), 224, num_classes=num_classes, dropout=dropout)


@register(input=GREY, source="resnet9-narrow at half its width")
def resnet9_tiny(num_classes: int, *, dropout: float = 0.1) -> nn.Module:
    """ResNet-9 at widths 16-32-64-112: 0.4 M parameters, 37 M MACs at 48 x 48."""
    return PooledConvNet(residual_stages((16, 32, 64, 112)), 112, num_classes=num_classes, dropout=dropout)
