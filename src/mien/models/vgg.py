"""VGG-style networks: stages of 3 x 3 convolutions with batch norm, after Simonyan & Zisserman (2014)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from mien.models.baseline import start_as_keras
from mien.models.registry import GREY, register
from mien.preprocess import InputSpec

CASE_STUDY = "the case study, 'VGG-Style CNN'"


def conv_bn(inputs: int, outputs: int) -> list[nn.Module]:
    """3 x 3 convolution, batch norm, ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def stages(channels: Sequence[int]) -> nn.Sequential:
    """Stages of two convolutions, each but the last halved by max pooling."""
    layers: list[nn.Module] = []
    inputs = 1
    for index, outputs in enumerate(channels):
        if index:
            layers.append(nn.MaxPool2d(2))
        layers += conv_bn(inputs, outputs) + conv_bn(outputs, outputs)
        inputs = outputs
    return nn.Sequential(*layers)


class PooledConvNet(nn.Module):
    """Convolutions, global average pooling, one dense layer: (N, C, H, W) to logits (N, K).

    The last map, `forward_features`, is what class activation maps are made of.
    """

    global_pooling = True

    def __init__(self, features: nn.Module, width: int, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.features = features
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """The last map before pooling, (N, C, h, w)."""
        features: torch.Tensor = self.features(images)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of a last map (N, C, h, w)."""
        logits: torch.Tensor = self.classifier(self.dropout(features.mean((2, 3))))
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, K)."""
        return self.forward_head(self.forward_features(images))


class CaseStudyVgg(nn.Sequential):
    """Four pooled stages, dropout, dense 4096 (L2 through `penalised`), dense K, as in the case study's code for Keras.

    So each batch norm stands behind its ReLU, and constants and random weights are Keras' defaults.
    """

    global_pooling = False

    def __init__(self, num_classes: int, *, dropout: float) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((1, 64, 128, 256, 512)):
            for width in (inputs, outputs):
                layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                layers.append(nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01))
            layers.append(nn.MaxPool2d(2))
        dense = nn.Linear(512 * 3 * 3, 4096)
        super().__init__(
            *layers,
            nn.Flatten(),
            nn.Dropout(dropout),
            dense,
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )
        start_as_keras(self)
        self.penalised = (dense.weight,)  # a Keras kernel regulariser adds l2 * sum(w^2) of these to the loss


@register(input=InputSpec(), source=CASE_STUDY, figure="66.68 %")
def vgg(num_classes: int, *, dropout: float = 0.5) -> nn.Module:
    """The case study's VGG: 64-128-256-512, max pooling, dropout, dense 4096 with L2, for 48 x 48 grey in [0, 1]."""
    return CaseStudyVgg(num_classes, dropout=dropout)


@register(input=GREY, source="Simonyan & Zisserman 2014; global pooling: Lin et al. 2013")
def vgg_modern(num_classes: int, *, dropout: float = 0.3) -> nn.Module:
    """The case study's four stages with global average pooling instead of the dense layers."""
    return PooledConvNet(stages((64, 128, 256, 512)), 512, num_classes=num_classes, dropout=dropout)


@register(input=GREY, source="vgg-modern at half its width")
def vgg_narrow(num_classes: int, *, dropout: float = 0.1) -> nn.Module:
    """32-64-128-256 with global average pooling: 1.2 M parameters, 117 M MACs at 48 x 48."""
    return PooledConvNet(stages((32, 64, 128, 256)), 256, num_classes=num_classes, dropout=dropout)
