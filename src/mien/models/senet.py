"""Squeeze-and-excitation networks (Hu et al. 2018): SENet-50 for transfer, small ResNets for 48 x 48 faces."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import timm
import torch
from torch import nn

from mien.models.registry import GREY, register
from mien.models.resnet import (
    TRANSFER_INPUT,
    VGGFACE2_LICENCE,
    Layout,
    TransferNet,
    keras_batch_norm,
    keras_stem,
)
from mien.models.vgg import PooledConvNet

SMALL = "He et al. 2016 with squeeze and excitation (Hu et al. 2018) and a 3 x 3 stem of stride 1"


@register(
    input=TRANSFER_INPUT,
    source="Hu et al. 2018, with the head of the case study's ResNet-50",
    pretrained=("imagenet", "vggface2"),
    licence=VGGFACE2_LICENCE,
)
def senet50(num_classes: int, *, dropout: float = 0.5, layout: Layout = "torch") -> nn.Module:
    """SENet-50 with dense 4096-1024-K; the layout `keras` pads as keras-vggface does (the strides are the same)."""
    backbone: Any = timm.create_model("legacy_seresnet50", num_classes=0, global_pool="")
    if layout == "keras":
        backbone.layer0.conv1 = keras_stem(backbone.layer0.conv1)
        backbone.pool0 = nn.MaxPool2d(3, stride=2)
        keras_batch_norm(backbone, eps=1e-4)
    return TransferNet(backbone, _keras_order, num_classes=num_classes, dropout=dropout)


class SqueezeExcitation(nn.Module):
    """Channels scaled by a gate that sees their means (Hu et al. 2018): (N, C, H, W) to the same shape."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scale the channels."""
        scaled: torch.Tensor = images * self.gate(images.mean((2, 3), keepdim=True))
        return scaled


Attention = Callable[[int], nn.Module]
"""Channels to a module that keeps the shape (N, C, H, W)."""


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm, attention, shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, attention: Attention) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.bn2.weight)  # a block starts as its shortcut (Goyal et al. 2017)
        self.attention = attention(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        added = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(images)))))
        result: torch.Tensor = self.relu(self.attention(added) + self.shortcut(images))
        return result


def residual_trunk(
    depths: Sequence[int], widths: Sequence[int], attention: Attention, *, closing: Sequence[nn.Module] = ()
) -> nn.Sequential:
    """(N, 1, H, W) to (N, widths[-1], H / 8, W / 8) for four stages; `closing[i]` follows stage i."""
    layers: list[nn.Module] = [
        nn.Conv2d(1, widths[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(inplace=True),
    ]
    inputs = widths[0]
    for stage, (depth, outputs) in enumerate(zip(depths, widths, strict=True)):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            layers.append(BasicBlock(inputs, outputs, stride=stride, attention=attention))
            inputs = outputs
        layers += closing[stage : stage + 1]
    return nn.Sequential(*layers)


@register(input=GREY, source=SMALL)
def resnet18_se(num_classes: int, *, dropout: float = 0.3) -> nn.Module:
    """ResNet-18 with squeeze and excitation and a small-image stem, for 48 x 48 grey faces."""
    trunk = residual_trunk((2, 2, 2, 2), (64, 128, 256, 512), SqueezeExcitation)
    return PooledConvNet(trunk, 512, num_classes=num_classes, dropout=dropout)


@register(input=GREY, source=SMALL)
def resnet34_se(num_classes: int, *, dropout: float = 0.3) -> nn.Module:
    """ResNet-34 with squeeze and excitation and a small-image stem, for 48 x 48 grey faces."""
    trunk = residual_trunk((3, 4, 6, 3), (64, 128, 256, 512), SqueezeExcitation)
    return PooledConvNet(trunk, 512, num_classes=num_classes, dropout=dropout)


def _keras_order(backbone: Any) -> Iterator[nn.Module | None]:
    """The layers of keras-vggface's SENet-50: input, stem, 4 projecting blocks of 19 and 12 others of 17."""
    yield from (None, backbone.layer0.conv1, backbone.layer0.bn1, None, None)
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        for block in stage:
            squeeze = block.se_module
            yield from (block.conv1, block.bn1, None, block.conv2, block.bn2, None, block.conv3, block.bn3)
            yield from (None, None, squeeze.fc1, None, squeeze.fc2, None)  # pooling, reshape, ReLU, sigmoid
            if block.downsample is None:
                yield None  # product
            else:
                yield from (block.downsample[0], None, block.downsample[1])
            yield from (None, None)
