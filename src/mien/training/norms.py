"""Batch-norm statistics of plain images: training sees augmented ones, whose mean and variance are others."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def estimate(model: nn.Module, forward: Callable[[Tensor], object], batches: Iterable[Tensor]) -> None:
    """Replace the running statistics by their means over `batches` (precise BN; Wu & Johnson 2021, section 3).

    Batches of one size count alike. All but batch norm stays in eval mode, so dropout drops nothing; a network without
    running statistics is not run at all. The averages are written in place, and `model` is left in the mode it had.

    Args:
        model: what the statistics belong to.
        forward: runs `model` on a batch.
        batches: what `forward` takes, two images or more each.
    """
    layers = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
    if not layers:
        return
    was_training, momenta = model.training, [one.momentum for one in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
        layer.train()
    try:
        for batch in batches:
            forward(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.train(was_training)
