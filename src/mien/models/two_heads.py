"""A second head for the crowd's votes, in training only."""

import torch
from torch import nn

from mien.errors import ConfigError


class TwoHeads(nn.Module):
    """A global-pooling network and a second dense layer on its pooled features.

    Images (N, C, H, W) to logits (N, K) and (N, `second`) in training, to logits (N, K) alone in eval mode: what is
    evaluated and exported is the first head.
    """

    global_pooling = True

    def __init__(self, net: nn.Module, second: int) -> None:
        """Wrap `net`.

        Raises:
            ConfigError: it does not pool globally.
        """
        super().__init__()
        if not getattr(net, "global_pooling", False):
            raise ConfigError("ferplus = 'head' needs a network with global pooling, such as vgg-modern or resnet18-se")
        self.net = net
        assert isinstance(self.classifier, nn.Linear)
        self.second = nn.Linear(self.classifier.in_features, second)

    @property
    def classifier(self) -> nn.Module:
        """The first head's dense layer."""
        layer: nn.Module = self.net.classifier  # type: ignore[assignment]  # a module, as global_pooling promises
        return layer

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """The last map before pooling, (N, C', h, w)."""
        features: torch.Tensor = self.net.forward_features(images)  # type: ignore[operator]
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of the first head."""
        logits: torch.Tensor = self.net.forward_head(features)  # type: ignore[operator]
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Logits of both heads in training, of the first one else."""
        features = self.forward_features(images)
        logits = self.forward_head(features)
        if not self.training:
            return logits
        return logits, self.second(features.mean((2, 3)))
