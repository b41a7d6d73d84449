"""Weights of the keras-vggface project (ResNet-50 and SENet-50 trained on VGGFace2) for timm's backbones.

The files are what Keras' `save_weights` writes: a group for each layer with the list of its arrays.
Their original licence allows non-commercial research only.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mien.errors import ModelError, require
from mien.preprocess import InputSpec

FILES = {
    "resnet50": "rcmalli_vggface_tf_notop_resnet50.h5",
    "senet50": "rcmalli_vggface_tf_notop_senet50.h5",
}
RELEASE = "https://github.com/rcmalli/keras-vggface/releases/tag/v2.0"

VGGFACE2_INPUT = InputSpec(
    size_hw=(197, 197),
    channels=3,
    mean=(91.4953 / 255, 103.8827 / 255, 131.0912 / 255),  # blue, green, red
    std=(1 / 255, 1 / 255, 1 / 255),  # the networks take differences of 8-bit values
    bgr=True,
)

Layers = Mapping[str, list[NDArray[np.float32]]]


def read(path: Path) -> Layers:
    """Arrays of each layer that has any, in the order in which Keras keeps them.

    Raises:
        ModelError: the file is missing, damaged, or no file of Keras weights.
    """
    try:
        with require("h5py", "train").File(path) as file:
            root = file.get("model_weights", file)
            layers = {}
            for layer in _strings(root.attrs, "layer_names"):
                group = root[layer]
                arrays = [np.asarray(group[name], np.float32) for name in _strings(group.attrs, "weight_names")]
                if arrays:
                    layers[layer] = arrays
            return layers
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist: download it from {RELEASE}") from error
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is no file of Keras weights, or is damaged: {error}") from error


def load(backbone: nn.Module, path: Path) -> None:
    """Put the weights of a file into timm's `resnet50` or `legacy_seresnet50`; the file's classifier is left out.

    Raises:
        ModelError: the file cannot be read, or holds another network.
    """
    layers = dict(read(path))
    layers.pop("classifier", None)
    for name, module in _named_layers(backbone):
        if name not in layers:
            raise ModelError(f"{path} has no layer {name!r}: it is not the backbone that the recipe names")
        _fill(module, layers.pop(name), source=f"{path}, layer {name}")
    if layers:
        raise ModelError(f"{path} has layers that the backbone lacks, such as {next(iter(layers))!r}")


def _named_layers(backbone: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers with weights and their names in keras-vggface."""
    stem: Any = getattr(backbone, "layer0", backbone)
    yield from (("conv1/7x7_s2", stem.conv1), ("conv1/7x7_s2/bn", stem.bn1))
    for stage in range(2, 6):
        blocks: Any = getattr(backbone, f"layer{stage - 1}")
        for number, block in enumerate(blocks, 1):
            name = f"conv{stage}_{number}"
            pairs = [("1x1_reduce", block.conv1, block.bn1), ("3x3", block.conv2, block.bn2)]
            pairs.append(("1x1_increase", block.conv3, block.bn3))
            if block.downsample is not None:
                pairs.append(("1x1_proj", *block.downsample))
            for part, conv, norm in pairs:
                yield from ((f"{name}_{part}", conv), (f"{name}_{part}/bn", norm))
            if hasattr(block, "se_module"):
                yield from ((f"{name}_1x1_down", block.se_module.fc1), (f"{name}_1x1_up", block.se_module.fc2))


@torch.no_grad()
def _fill(module: nn.Module, arrays: list[NDArray[np.float32]], *, source: str) -> None:
    if isinstance(module, nn.Conv2d):
        targets = [module.weight] if module.bias is None else [module.weight, module.bias]
        arrays = [arrays[0].transpose(3, 2, 0, 1), *arrays[1:]]  # (h, w, in, out) to (out, in, h, w)
    else:
        assert isinstance(module, nn.BatchNorm2d)
        assert module.running_mean is not None
        assert module.running_var is not None
        targets = [module.weight, module.bias, module.running_mean, module.running_var]  # gamma, beta, mean, variance
    found, wanted = [array.shape for array in arrays], [tuple(target.shape) for target in targets]
    if found != wanted:
        raise ModelError(f"{source}: arrays of shapes {found}, not {wanted}")
    for target, array in zip(targets, arrays, strict=True):
        target.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def _strings(attributes: Any, name: str) -> list[str]:
    """A list of names; Keras cuts one of over 64 KiB into `name0`, `name1`, ..."""
    parts = [name] if name in attributes else sorted((key for key in attributes if key[: len(name)] == name), key=len)
    if not parts:
        raise KeyError(f"it has no {name}")
    return [item.decode() if isinstance(item, bytes) else str(item) for part in parts for item in attributes[part]]
