"""Small networks that have learnt the drawn faces, so that their decisions mean something."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mien import models
from mien.bundle import ModelSpec
from mien.datasets import packed
from mien.export.exporter import Faces
from mien.labels import FER7
from mien.preprocess import InputSpec, network_input

GREY = InputSpec(mean=(0.5,), std=(0.25,))


class Pooled(nn.Module):
    """Three stages with batch norm, global average pooling, one dense layer."""

    global_pooling = True

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 8), (8, 16), (16, 32)):
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(32, 7)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(features.mean((2, 3)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


def teach(model: nn.Module, split: packed.Split, *, steps: int, lr: float) -> nn.Module:
    """Fit `model` to all images at once, and its running statistics to the weights that came out; in eval mode."""
    images = torch.from_numpy(network_input(np.ascontiguousarray(split.images), GREY))
    targets = torch.from_numpy(np.array(split.labels))
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(images), targets).backward()
        optimizer.step()
    with torch.inference_mode():
        for _ in range(40):  # momentum 0.1: what is left of the beginning is 1 %
            model(images)
    return model.eval()


@pytest.fixture(scope="session")
def cartoons(cartoon_dataset: Path) -> packed.Dataset:
    return packed.load(cartoon_dataset)


@pytest.fixture(scope="session")
def faces(cartoons: packed.Dataset) -> Faces:
    return Faces.of(cartoons, FER7)


@pytest.fixture(scope="session")
def pooled(cartoons: packed.Dataset) -> nn.Module:
    torch.manual_seed(0)
    return teach(Pooled(), cartoons.split("train"), steps=30, lr=0.01)


@pytest.fixture(scope="session")
def flat() -> nn.Module:
    """The baseline, as it is born: dense layers, no global pooling."""
    torch.manual_seed(0)
    return models.create("baseline").eval()


@pytest.fixture(scope="session")
def pooled_spec() -> ModelSpec:
    return ModelSpec(
        name="taught", labels=FER7, input=GREY, licence="for tests only", training={"recipe": {"model": "taught"}}
    )
