"""Small residual networks with attention: CBAM (Woo et al. 2018) and local multi-head channel attention (LHC-Net)."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from mien.errors import ModelError
from mien.models.registry import GREY, register
from mien.models.senet import residual_trunk
from mien.models.vgg import PooledConvNet

WIDTHS = (32, 64, 128, 256)


class Cbam(nn.Module):
    """Convolutional block attention: channels first, then places (Woo et al. 2018); the shape (N, C, H, W) stays."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.shared = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )
        self.places = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scale channels, then places."""
        mean, most = images.mean((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        images = images * torch.sigmoid(self.shared(mean) + self.shared(most))
        summary = torch.cat((images.mean(1, keepdim=True), images.amax(1, keepdim=True)), 1)
        scaled: torch.Tensor = images * torch.sigmoid(self.places(summary))
        return scaled


class LocalHeads(nn.Module):
    """Local multi-head channel self-attention (Pecoraro et al. 2021), added to its input (N, C, side, side).

    Each head sees one horizontal band of the map: within it every channel attends to every channel. Queries come
    from average-pooled and keys from max-pooled maps by the same dense layer; the exponent that scales the scores
    is learned for each channel.
    """

    def __init__(self, channels: int, *, side: int, heads: int) -> None:
        super().__init__()
        if side % heads:
            raise ValueError(f"{heads} bands do not fit into {side} rows")
        self.side, self.heads = side, heads
        band = side * side // heads
        self.dim = math.ceil(band / 2)  # as in the paper's settings
        self.embed = nn.ModuleList(nn.Linear(band, self.dim) for _ in range(heads))
        self.scale = nn.Linear(channels, channels)
        self.value = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The input with what its channels tell each other.

        Raises:
            ModelError: the map is of another size.
        """
        if images.shape[2:] != (self.side, self.side):
            raise ModelError(
                f"lhc attends to bands of a {self.side} x {self.side} map: its input is 48 x 48, early = 0"
            )
        query = self._embedded(F.avg_pool2d(images, 3, 1, padding=1, count_include_pad=False))
        key = self._embedded(F.max_pool2d(images, 3, 1, padding=1))
        value = self._bands(F.avg_pool2d(self.value(images), 3, 1, padding=1, count_include_pad=False))
        scores = query @ key.transpose(2, 3)  # (N, heads, C, C)
        power = 1 + torch.sigmoid(self.scale(scores.mean(3)))
        scores = scores * torch.exp(-math.log(self.dim) * power)[..., None]
        told = (scores.softmax(3) @ value).transpose(1, 2)  # (N, C, heads, band)
        result: torch.Tensor = images + told.reshape(images.shape)
        return result

    def _bands(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, side, side) to (N, heads, C, rows * side)."""
        return maps.reshape(maps.shape[0], maps.shape[1], self.heads, -1).transpose(1, 2)

    def _embedded(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, heads, C, dim), each band by its head's own dense layer."""
        bands = self._bands(maps)
        return torch.stack([embed(bands[:, head]) for head, embed in enumerate(self.embed)], 1)


def _none(_: int) -> nn.Module:
    return nn.Identity()


@register(input=GREY, source="He et al. 2016 at half width, with a 3 x 3 stem of stride 1")
def resnet18_narrow(num_classes: int, *, dropout: float = 0.2) -> nn.Module:
    """ResNet-18 at half width without attention, for 48 x 48 grey faces: what cbam and lhc are compared with."""
    trunk = residual_trunk((2, 2, 2, 2), WIDTHS, _none)
    return PooledConvNet(trunk, WIDTHS[-1], num_classes=num_classes, dropout=dropout)


@register(input=GREY, source="Woo et al. 2018, https://arxiv.org/abs/1807.06521")
def cbam(num_classes: int, *, dropout: float = 0.2) -> nn.Module:
    """ResNet-18 at half width with convolutional block attention in every block, for 48 x 48 grey faces."""
    trunk = residual_trunk((2, 2, 2, 2), WIDTHS, Cbam)
    return PooledConvNet(trunk, WIDTHS[-1], num_classes=num_classes, dropout=dropout)


@register(input=GREY, source="Pecoraro et al. 2021, https://arxiv.org/abs/2111.07224")
def lhc(num_classes: int, *, dropout: float = 0.2) -> nn.Module:
    """ResNet-18 at half width with local multi-head channel attention behind stages 2 to 4, for 48 x 48 grey faces."""
    heads = (
        nn.Identity(),
        LocalHeads(64, side=24, heads=6),
        LocalHeads(128, side=12, heads=6),
        LocalHeads(256, side=6, heads=1),
    )
    trunk = residual_trunk((2, 2, 2, 2), WIDTHS, _none, closing=heads)
    return PooledConvNet(trunk, WIDTHS[-1], num_classes=num_classes, dropout=dropout)
