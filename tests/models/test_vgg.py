"""The case study's VGG, layer by layer as its Keras code lists them."""

from typing import Any

import torch
from torch import nn

from mien import models

STAGE = "conv relu norm conv relu norm pool "  # Conv2D(activation="relu"), BatchNormalization, twice; MaxPooling2D
NAMES = {
    nn.Conv2d: "conv",
    nn.ReLU: "relu",
    nn.BatchNorm2d: "norm",
    nn.MaxPool2d: "pool",
    nn.Flatten: "flatten",
    nn.Dropout: "dropout",
    nn.Linear: "dense",
}


def test_layers_stand_as_in_the_case_study() -> None:
    network: Any = models.create("vgg")
    assert " ".join(NAMES[type(layer)] for layer in network) == 4 * STAGE + "flatten dropout dense relu dense"
    widths = [layer.out_channels for layer in network if isinstance(layer, nn.Conv2d)]
    assert widths == [64, 64, 128, 128, 256, 256, 512, 512]


def test_constants_and_weights_are_keras_defaults() -> None:
    torch.manual_seed(0)
    network = models.create("vgg")
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.eps, layer.momentum) == (1e-3, 0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            area = layer.weight[0, 0].numel()
            bound = (6 / (area * sum(layer.weight.shape[:2]))) ** 0.5  # Glorot & Bengio 2010, uniform
            assert 0.98 * bound < layer.weight.abs().max() <= bound
            assert layer.bias is not None
            assert not layer.bias.any()
