"""Size and arithmetic of a network."""

import torch
from torch import nn


def count_parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters together."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, images: torch.Tensor) -> int:
    """Multiply-accumulates of convolutions and dense layers for one image; `images` is (1, C, H, W)."""
    total = 0

    def add(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        positions = output[0, 0].numel() if isinstance(layer, nn.Conv2d) else output[0].numel() // weight.shape[0]
        total += positions * weight.numel()

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    was_training = model.training
    try:
        with torch.inference_mode():
            model.eval()(images)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
