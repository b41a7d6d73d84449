"""Networks whose explanation is known beforehand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mien.bundle import ModelSpec
from mien.datasets.packed import Split
from mien.explain.gradients import TorchPredictor
from mien.labels import FER7
from mien.preprocess import InputSpec
from tests.tiny_model import tiny_spec, tiny_weights

CORNER_PX = 16  # the corner network sees rows and columns 0..15 of 48


class Corner(nn.Module):
    """Keeps the top left corner of the images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(images.shape[-2:])
        mask[:CORNER_PX, :CORNER_PX] = 1
        return images * mask


class PooledNet(nn.Module):
    """Layers, mean over positions, linear: the form of mien's networks with global pooling."""

    global_pooling = True

    def __init__(self, features: nn.Module, channels: int) -> None:
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(channels, len(FER7))

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.forward_features(images).mean((2, 3)))


@pytest.fixture
def corner_predictor() -> TorchPredictor:
    """Sees the top left corner only; every feature of it speaks for happy and against angry."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 4, 3, padding=1, stride=2, bias=False)
    net = PooledNet(nn.Sequential(Corner(), convolution, nn.ReLU(inplace=True)), 4)
    with torch.no_grad():
        convolution.weight.abs_()
        net.classifier.weight.zero_()
        net.classifier.weight[FER7.index("happy")] = 12
        net.classifier.weight[FER7.index("angry")] = -12
    return TorchPredictor(net, ModelSpec(name="corner", labels=FER7, input=InputSpec()))


@pytest.fixture
def tiny_predictor() -> TorchPredictor:
    """The network of the fixture `tiny_onnx`, in torch."""
    weights = {name: torch.from_numpy(array) for name, array in tiny_weights().items()}
    convolution = nn.Conv2d(1, 8, 3, stride=2, padding=1)
    net = PooledNet(nn.Sequential(convolution, nn.ReLU()), 8)
    with torch.no_grad():
        convolution.weight.copy_(weights["kernel"])
        convolution.bias.copy_(weights["kernel_bias"])
        net.classifier.weight.copy_(weights["classifier"])
        net.classifier.bias.copy_(weights["classifier_bias"])
    return TorchPredictor(net, tiny_spec(tiny_weights()["classifier"]))


@pytest.fixture
def dense_predictor() -> TorchPredictor:
    """No global pooling, as the case study's baseline."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(4 * 11 * 11, 7))
    return TorchPredictor(net, ModelSpec(name="dense", labels=FER7))


@pytest.fixture
def crop(cartoon_faces: Split) -> NDArray[np.uint8]:
    """A drawn happy face, (48, 48) grey."""
    return cartoon_faces.images[FER7.index("happy")]
