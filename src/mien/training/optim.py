"""Optimisers, rate schedules, averaged weights and sharpness-aware steps."""

import math
from collections.abc import Callable, Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from mien.training.recipe import Recipe

WRAPPERS = ("net.", "backbone.")  # modules around a network, which are no layer of it
SECOND_HEAD = "second."  # of `models.two_heads`: as deep as the classifier that stands before it


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser: norm layers and biases do not decay, rates fall by `layer_decay` towards the input."""
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    names = [name for name, _ in trainable if not name.startswith(SECOND_HEAD)]
    depth = {block: index for index, block in enumerate(_blocks(names))}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in trainable:
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        scale = recipe.layer_decay ** (len(depth) - 1 - depth.get(_block(name), len(depth) - 1))
        groups.setdefault((decay, scale), []).append(parameter)
    settings = [{"params": p, "weight_decay": d, "lr": recipe.lr * s, "scale": s} for (d, s), p in groups.items()]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(settings, recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(settings, recipe.lr, fused=True)


def rate(recipe: Recipe, step: int, steps: int) -> float:
    """Factor on `lr` at `step` of `steps`: warm-up per step, since it is shorter than an epoch, then the schedule."""
    if recipe.schedule == "onecycle":  # Smith & Topin 2017: up over 30 %, down to where it began
        peak = 0.3 * steps
        at = step / peak if step < peak else 1 + (step - peak) / max(1, steps - peak)
        return 0.04 + 0.96 * (1 - math.cos(math.pi * at)) / 2
    warmup_steps = min(recipe.warmup_steps, steps // 4)  # a short run must reach its peak, and come down again
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if recipe.schedule == "cosine":
        done = min(1.0, max(0, step - warmup_steps) / max(1, steps - warmup_steps))
        return warm * (recipe.lr_final + (1 - recipe.lr_final) * (1 + math.cos(math.pi * done)) / 2)
    if recipe.schedule in ("inverse", "plateau"):
        return warm / (1 + recipe.lr_final * step)
    return warm


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


class Plateau:
    """ReduceLROnPlateau on a validation accuracy: the factor falls after `patience` epochs without a better one."""

    def __init__(self, recipe: Recipe) -> None:
        self.by, self.patience = recipe.plateau_factor, recipe.plateau_patience
        self.factor, self.best, self.waited = 1.0, -math.inf, 0

    def update(self, accuracy: float) -> None:
        """Take in an epoch's accuracy."""
        if accuracy > self.best:
            self.best, self.waited = accuracy, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.factor, self.waited = self.factor * self.by, 0

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"factor": self.factor, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a checkpoint."""
        self.factor, self.best, self.waited = state["factor"], state["best"], int(state["waited"])


class AveragedWeights:
    """Exponential moving average of weights and batch-norm statistics; faster at first, to forget the start."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Follow `model`, whose tensors must stay the same: optimisers and `load_state_dict` change them in place."""
        self.model = deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        ours, theirs = self.model.state_dict(), model.state_dict()  # views: they follow what happens in place
        floating = [name for name, value in ours.items() if value.is_floating_point()]
        counts = [name for name in ours if name not in floating]
        self._averaged = [ours[name] for name in floating], [theirs[name] for name in floating]
        self._copied = [ours[name] for name in counts], [theirs[name] for name in counts]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the model's weights; `step` counts the updates before this one."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(*self._averaged, weight)
        if self._copied[0]:
            torch._foreach_copy_(*self._copied)


@torch.no_grad()
def sharpen(parameters: Iterable[nn.Parameter], rho: float) -> Callable[[], None]:
    """Climb to the worst weights within `rho` (Foret et al. 2021); the returned call puts the weights back.

    Where the gradient is not finite, as when fp16 overflows, the weights stay.
    """
    moved: list[Tensor] = [p for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in moved]))
    before = [p.clone() for p in moved]
    if norm.isfinite():
        torch._foreach_add_(moved, [p.grad * (rho / (norm + 1e-12)) for p in moved if p.grad is not None])

    @torch.no_grad()
    def undo() -> None:
        torch._foreach_copy_(moved, before)

    return undo


def _block(name: str) -> str:
    """`backbone.layer3.1.conv1.weight` belongs to `layer3.1`: what layer-wise rates count as one layer."""
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    parts = name.split(".")
    if len(parts) > 3 and parts[1].isdigit() and parts[2].isdigit():  # EfficientNet's `blocks.2.1`
        return ".".join(parts[:3])
    return ".".join(parts[:2]) if len(parts) > 2 else parts[0]


def _blocks(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(_block(name) for name in names))
