"""Augmentation of whole batches on the device; each sample has its own draw from a seeded generator.

Draws and their use are apart: the draws of a batch depend on the seed and the step alone, so any process
of a distributed run, and any resumed run, sees the same pictures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mien.training.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Random numbers for a batch of N samples, all on the device of the images."""

    inverse: Tensor  # (N, 2, 3): affine map from output to input, in the [-1, 1] coordinates of `grid_sample`
    gain: Tensor  # (N,): contrast factor
    offset: Tensor  # (N,): brightness, on pixels in [0, 1]
    erase_xyxy: Tensor  # (N, 4): rectangle in shares of the sides; empty where nothing is erased
    fill: Tensor  # (N,): the erased rectangle's grey in [0, 1]
    partner: Tensor  # (N,): which sample of the batch is mixed in
    share: Tensor  # (N,): weight of the sample itself, 1 where nothing is mixed
    paste_xyxy: Tensor | None  # (N, 4): CutMix rectangle in shares of the sides; None: mixup
    mixed: bool  # whether this batch is mixed at all
    blur: Tensor | None  # (N, 2r + 1): Gaussian kernel, a single 1 where nothing is blurred; None: none is
    noise: Tensor | None  # (N, 1, H, W): added to each channel, on pixels in [0, 1]; None: none is

    def rows(self, index: Tensor) -> "Draws":
        """The draws of some samples; `partner` still counts in the whole batch."""
        every: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        every |= {name: one[index] for name, one in every.items() if isinstance(one, Tensor)}
        return Draws(**every)


def draw(recipe: Recipe, n: int, generator: torch.Generator, *, calm: bool, size_hw: tuple[int, int]) -> Draws:
    """Draws for `n` samples whose views have `size_hw` pixels; `calm` leaves out erasing, mixup and CutMix."""
    device = generator.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator, device=device)

    angle = uniform(-1, 1) * math.radians(recipe.rotation_deg)
    shift_x, shift_y = 2 * uniform(-recipe.shift, recipe.shift), 2 * uniform(-recipe.shift, recipe.shift)
    scale = 1 / uniform(1 - recipe.zoom, 1 + recipe.zoom)
    mirror = 1 - 2 * (uniform(0, 1) < recipe.flip).float()
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    inverse = torch.stack(
        (torch.stack((cos * mirror, -sin, shift_x), 1), torch.stack((sin * mirror, cos, shift_y), 1)), 1
    )
    coloured = (uniform(0, 1) < recipe.colour_probability).float()
    gain = 1 + coloured * uniform(-recipe.contrast, recipe.contrast)
    offset = coloured * uniform(-recipe.brightness, recipe.brightness)

    erased = (uniform(0, 1) < (0.0 if calm else recipe.erasing)).float()
    area, aspect = uniform(*recipe.erasing_area), torch.exp(uniform(math.log(0.3), math.log(1 / 0.3)))
    erase_xyxy = _rectangles((area * aspect).sqrt(), (area / aspect).sqrt(), uniform(0, 1), uniform(0, 1), erased)
    fill = uniform(0, 1)

    partner = torch.randperm(n, generator=generator, device=device)
    mixing = _mixing(recipe, uniform, generator, calm=calm)

    # last, and only where they are asked for: other recipes go on drawing what they always drew
    blur = noise = None
    if recipe.blur:
        blurred = (uniform(0, 1) < recipe.damage_probability).float()
        blur = _gaussians(blurred * uniform(0, recipe.blur) * max(size_hw), most_px=recipe.blur * max(size_hw))
    if recipe.noise:
        strength = (uniform(0, 1) < recipe.damage_probability).float() * uniform(0, recipe.noise)
        noise = _column(strength) * torch.randn(n, 1, *size_hw, generator=generator, device=device)
    return Draws(inverse, gain, offset, erase_xyxy, fill, partner, *mixing, blur, noise)


def view(images: Tensor, draws: Draws, *, padding: str, size_hw: tuple[int, int] | None = None) -> Tensor:
    """Affine, colour and erasing: `images` (N, C, H, W) in [0, 1], the same shape out, or `size_hw`."""
    grid = F.affine_grid(draws.inverse, [*images.shape[:2], *(size_hw or images.shape[2:])], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * _column(draws.gain) + mean + _column(draws.offset)
    inside = _inside(draws.erase_xyxy, images)
    return torch.where(inside, _column(draws.fill), images.clamp(0, 1))


def mix(images: Tensor, others: Tensor, draws: Draws) -> Tensor:
    """Mixup or CutMix of `images` with their partners' views `others`, both (N, C, H, W)."""
    if draws.paste_xyxy is not None:
        return torch.where(_inside(draws.paste_xyxy, images), others, images)
    return images * _column(draws.share) + others * _column(1 - draws.share)


def damage(images: Tensor, draws: Draws) -> Tensor:
    """Blur and noise, in the order of a lens and its sensor: `images` (N, C, H, W) in [0, 1], the same shape out."""
    if draws.blur is not None:
        n, channels, height, width = images.shape
        reach = draws.blur.shape[1] // 2
        kernels = draws.blur.repeat_interleave(channels, 0)[:, None]
        planes = F.pad(images, (reach, reach, reach, reach), mode="replicate").flatten(0, 1)[None]
        for kernel in (kernels[..., None], kernels[:, :, None]):  # down, then across
            planes = F.conv2d(planes, kernel, groups=n * channels)
        images = planes.view(n, channels, height, width)
    return images if draws.noise is None else (images + draws.noise).clamp(0, 1)


def mix_targets(targets: Tensor, others: Tensor, draws: Draws) -> Tensor:
    """The same mixture of target distributions (N, K)."""
    return targets * draws.share[:, None] + others * (1 - draws.share)[:, None]


def mixes(recipe: Recipe) -> bool:
    """Whether the recipe mixes samples at all."""
    return recipe.mixup > 0 or recipe.cutmix > 0


def _mixing(
    recipe: Recipe, uniform: Callable[[float, float], Tensor], generator: torch.Generator, *, calm: bool
) -> tuple[Tensor, Tensor | None, bool]:
    """`share`, `paste_xyxy` and `mixed` of the draws."""
    # what the host decides by is drawn on the host: asking a GPU for it would wait until it has caught up
    own = generator.device.type == "cpu"
    host = generator if own else torch.Generator().manual_seed(generator.initial_seed())
    choice, kind = torch.rand(2, generator=host).tolist()
    one = uniform(1, 1)
    if calm or not mixes(recipe) or choice >= recipe.mix_probability:
        return one, None, False
    cut = recipe.cutmix > 0 and (recipe.mixup == 0 or kind < 0.5)
    alpha = recipe.cutmix if cut else recipe.mixup
    # Beta(a, a) by two gammas, in float64 on the CPU: torch's Beta takes no generator
    seed = int(torch.randint(2**31, (1,), generator=host))
    concentration = torch.full((2, len(one)), alpha, dtype=torch.float64)
    gammas = torch._standard_gamma(concentration, generator=torch.Generator().manual_seed(seed))
    share = (gammas[0] / gammas.sum(0).clamp_min(1e-300)).to(one, non_blocking=True)
    if not cut:
        return share, None, True
    side = (1 - share).sqrt()
    box = _rectangles(side, side, uniform(0, 1), uniform(0, 1), one)
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    return 1 - area, box, True


def _gaussians(deviation_px: Tensor, *, most_px: float) -> Tensor:
    """(N, 2r + 1) kernels that sum to 1, for standard deviations (N,) of at most `most_px`; 0 gives a single 1."""
    reach = math.ceil(3 * most_px)
    steps = torch.arange(-reach, reach + 1, device=deviation_px.device)
    kernels = torch.exp(-0.5 * (steps / deviation_px.clamp_min(1e-3)[:, None]) ** 2)
    return kernels / kernels.sum(1, keepdim=True)


def _rectangles(width: Tensor, height: Tensor, x: Tensor, y: Tensor, present: Tensor) -> Tensor:
    """(N, 4) rectangles inside the unit square: sizes, positions in [0, 1], and whether they are there."""
    width, height = width.clamp(max=1) * present, height.clamp(max=1) * present
    left, top = x * (1 - width), y * (1 - height)
    return torch.stack((left, top, left + width, top + height), 1)


def _inside(xyxy: Tensor, images: Tensor) -> Tensor:
    """(N, 1, H, W) mask of the pixels whose centres lie in each sample's rectangle."""
    height, width = images.shape[2:]
    x = ((torch.arange(width, device=images.device) + 0.5) / width)[None, :]
    y = ((torch.arange(height, device=images.device) + 0.5) / height)[None, :]
    across = (x >= xyxy[:, 0:1]) & (x < xyxy[:, 2:3])
    down = (y >= xyxy[:, 1:2]) & (y < xyxy[:, 3:4])
    return (down[:, :, None] & across[:, None, :])[:, None]


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]
