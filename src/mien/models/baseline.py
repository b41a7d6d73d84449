"""The case study's baseline CNN."""

from torch import nn

from mien.models.registry import register
from mien.preprocess import InputSpec


def start_as_keras(net: nn.Module) -> None:
    """Random weights as Keras draws them by default, with which the case study's figures were got; biases are 0."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Baseline(nn.Sequential):
    """Two convolutions and two dense layers; images (N, 1, 48, 48) to logits (N, K)."""

    global_pooling = False

    def __init__(self, num_classes: int, *, dropout: float = 0.25) -> None:
        super().__init__(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(dropout),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(64 * 12 * 12, 128),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(128, num_classes),
        )
        start_as_keras(self)


@register(input=InputSpec(), source="the case study, 'Baseline Model Architecture'", figure="56.17 %")
def baseline(num_classes: int, *, dropout: float = 0.25) -> nn.Module:
    """The case study's baseline CNN for 48 x 48 grey faces in [0, 1]: 1,199,495 parameters with 7 classes."""
    return Baseline(num_classes, dropout=dropout)
