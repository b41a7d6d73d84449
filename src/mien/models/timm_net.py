"""Any network of timm, as `timm:NAME`."""

import functools
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import timm
import torch
from torch import nn

from mien.errors import ModelError
from mien.models.registry import Entry
from mien.preprocess import InputSpec

PREFIX = "timm:"


class TimmNet(nn.Module):
    """A network of timm: (N, C, H, W) to logits (N, K).

    `global_pooling` is True where its head is average pooling and one dense layer, which class activation maps need.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net  # networks of timm share no base class that says what they have
        self.global_pooling = _pools_globally(net)

    @property
    def classifier(self) -> nn.Module:
        """The last dense layer."""
        layer: nn.Module = self.net.get_classifier()
        return layer

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """The last map before pooling, (N, C', h, w) where `global_pooling` is True."""
        features: torch.Tensor = self.net.forward_features(images)
        return features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of a last map."""
        logits: torch.Tensor = self.net.forward_head(features)
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, K)."""
        return self.forward_head(self.forward_features(images))


def timm_entry(name: str) -> Entry:
    """The entry of `timm:NAME`, with the input that timm's own weights expect.

    Raises:
        ModelError: timm has no such network.
    """
    wanted = name.removeprefix(PREFIX)
    if not timm.is_model(wanted):
        near = get_close_matches(wanted, timm.list_models(), n=3)
        hint = f": did you mean {', '.join(PREFIX + match for match in near)}?" if near else ": see timm.list_models()"
        raise ModelError(f"timm {timm.__version__} has no network {wanted!r}{hint}")
    config = timm.get_pretrained_cfg(wanted)
    channels, height, width = (3, 224, 224) if config is None else config.input_size
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if config is None else (config.mean, config.std)
    spec = InputSpec(size_hw=(height, width), channels=channels, mean=tuple(mean), std=tuple(std))
    return Entry(
        name=name,
        build=functools.partial(_build, wanted),
        input=spec,
        source=f"timm {timm.__version__}",
        summary=f"{wanted} of timm",
        pretrained=("imagenet",) if config is not None and config.has_weights else (),
    )


def grey_input(spec: InputSpec) -> InputSpec:
    """`spec` for one channel: timm sums the stem's weights over RGB, and mean and deviation become their averages."""
    if spec.channels == 1:
        return spec
    return replace(spec, channels=1, mean=(sum(spec.mean) / 3,), std=(sum(spec.std) / 3,), bgr=False)


def _build(wanted: str, num_classes: int, *, dropout: float = 0.0, channels: int = 3, input_size: int = 0) -> nn.Module:
    """The network with random weights; `input_size` is told to those that are built for one size only."""
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels, "drop_rate": dropout}
    config = timm.get_pretrained_cfg(wanted)
    if input_size and config is not None and config.fixed_input_size:
        options["img_size"] = input_size
    return TimmNet(timm.create_model(wanted, **options))


@torch.no_grad()
def _pools_globally(net: Any) -> bool:
    """Whether the head gives what pooling and one dense layer give, tried on a random map."""
    classifier = net.get_classifier()
    if not isinstance(classifier, nn.Linear) or classifier.in_features != net.num_features:
        return False
    if classifier.weight.is_meta:
        return False
    was_training = net.training
    net.eval()
    try:
        features = torch.randn(2, net.num_features, 3, 3, generator=torch.Generator().manual_seed(0))
        return torch.allclose(net.forward_head(features), classifier(features.mean((2, 3))), atol=1e-5)
    except (RuntimeError, ValueError, IndexError, TypeError):  # its maps have another form, as in transformers
        return False
    finally:
        net.train(was_training)
