"""The case study's transfer networks: a ResNet-50 backbone and three dense layers."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, Protocol

import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from mien.models.baseline import start_as_keras
from mien.models.registry import IMAGENET, register

CASE_STUDY = "the case study, 'Deep Learning with ResNet and Transfer Learning'"
VGGFACE2_LICENCE = "Apache-2.0; from vggface2: non-commercial research"
TRANSFER_INPUT = replace(IMAGENET, size_hw=(197, 197))  # the least that keras-vggface takes


Layout = Literal["torch", "keras", "caffe"]
"""Strides, padding and batch norm of a backbone, as the weights that it starts from have them."""


class KerasOrder(Protocol):
    """A backbone whose layers can be told in the order in which Keras numbers them."""

    def __call__(self, backbone: Any, /) -> Iterator[nn.Module | None]:
        """Each layer, None for one without weights (input, activation, pooling, sum)."""


class TransferNet(nn.Module):
    """Backbone, average pooling, dense 4096, 1024, K with dropout before each: (N, 3, H, W) to logits (N, K).

    Class activation maps need a single dense layer behind the pooling, so this has none (`global_pooling` is False).
    """

    global_pooling = False

    def __init__(self, backbone: nn.Module, order: KerasOrder, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(2048, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(1024, num_classes),
        )
        start_as_keras(self.head)
        self._order = order

    def freezable(self) -> list[nn.Module | None]:
        """The backbone's layers as Keras numbers them, so that N means what it means in the case study."""
        return list(self._order(self.backbone))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, K)."""
        features: torch.Tensor = self.backbone(images)
        logits: torch.Tensor = self.head(features.mean((2, 3)))
        return logits


@register(
    input=TRANSFER_INPUT,
    source=CASE_STUDY,
    pretrained=("imagenet", "imagenet-caffe", "vggface2"),
    figure="70.94 %",
    licence=VGGFACE2_LICENCE,
)
def resnet50(num_classes: int, *, dropout: float = 0.5, layout: Layout = "torch") -> nn.Module:
    """The case study's ResNet-50 with dense 4096-1024-K.

    `layout`: `torch` has the strides in the 3 x 3 convolutions; `caffe` has them where He's networks and Keras' have
    them, in the 1 x 1 before; `keras` has the uneven padding of keras-vggface, too.
    """
    backbone: Any = timm.create_model("resnet50", num_classes=0, global_pool="")
    if layout == "keras":
        backbone.conv1 = keras_stem(backbone.conv1)
        backbone.maxpool = nn.MaxPool2d(3, stride=2)
    if layout != "torch":
        for stage in (backbone.layer2, backbone.layer3, backbone.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        keras_batch_norm(backbone, eps=1e-3)
    return TransferNet(backbone, _keras_order, num_classes=num_classes, dropout=dropout)


def keras_stem(conv: nn.Conv2d) -> nn.Conv2d:
    """The 7 x 7 stem with TensorFlow's "same" padding, which is uneven for even sizes."""
    return Conv2dSame(conv.in_channels, conv.out_channels, 7, stride=2, bias=False)


def keras_batch_norm(backbone: nn.Module, *, eps: float) -> None:
    """Give the batch norms Keras' constants: `eps`, and a running average that keeps 0.99 of itself."""
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps, layer.momentum = eps, 0.01


def _keras_order(backbone: Any) -> Iterator[nn.Module | None]:
    """173 layers: input, stem, 4 projecting blocks of 12 and 12 others of 10."""
    yield from (None, backbone.conv1, backbone.bn1, None, None)
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        for block in stage:
            yield from (block.conv1, block.bn1, None, block.conv2, block.bn2, None, block.conv3)
            if block.downsample is None:
                yield block.bn3
            else:
                yield from (block.downsample[0], block.bn3, block.downsample[1])
            yield from (None, None)
