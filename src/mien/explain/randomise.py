"""Model randomisation (Adebayo et al. 2018): does the map change when what the model learnt is destroyed?

From the logits down, layer after layer, each layer's weights are shuffled: the same numbers at other places, so the
activations keep their scale and only what was learnt is lost. A map that stays alike shows the picture, not the model.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mien import bundle
from mien.bundle import ModelSpec
from mien.errors import ModelError, require
from mien.explain.gradients import TorchPredictor
from mien.runtime.predictor import Predictor

if TYPE_CHECKING:
    from torch import nn

Item = TypeVar("Item")

STAGES = 8  # steps from the logits to the first layer, of as many layers each as it takes


def shuffled_networks(
    predictor: TorchPredictor, *, stages: int = STAGES, seed: int = 0
) -> Iterator[tuple[str, TorchPredictor]]:
    """Copies of a network with more and more of its layers shuffled: name of the last one, and the predictor.

    Each is a copy of its own; the network handed in stays as it is.
    """
    torch = require("torch", "train")
    network = copy.deepcopy(predictor.network)
    rng = np.random.default_rng(seed)
    layers = _layers_from_logits(network, predictor.spec)
    for stage in _portions(layers, stages):
        with torch.no_grad():
            for _, layer in stage:
                for parameter in layer.parameters(recurse=False):
                    order = torch.from_numpy(rng.permutation(parameter.numel()))
                    parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
        yield stage[-1][0], TorchPredictor(copy.deepcopy(network), predictor.spec)


def shuffled_onnx(path: Path, *, stages: int = STAGES, seed: int = 0) -> Iterator[tuple[str, Predictor]]:
    """The same for an `.onnx` file of floating-point weights.

    Raises:
        ModelError: its weights are quantised, or the class activation map's weights are not in the graph.
        MissingExtraError: onnx is not installed.
    """
    onnx, helper = require("onnx", "train"), require("onnx.numpy_helper", "train")
    model = onnx.load(path)
    rng = np.random.default_rng(seed)
    weights = {entry.name: entry for entry in model.graph.initializer}
    layers = _onnx_layers_from_logits(model, helper)
    if not layers:
        raise ModelError(f"{path} has no floating-point weights to shuffle: check the unquantised model")
    for stage in _portions(layers, stages):
        for _, names in stage:
            for name in names:
                old = helper.to_array(weights[name])
                new = rng.permutation(old.ravel()).reshape(old.shape)
                weights[name].CopyFrom(helper.from_array(new, name))
                _follow_cam(model, old, new)
        yield stage[-1][0], Predictor(model.SerializeToString())


def _layers_from_logits(network: "nn.Module", spec: ModelSpec) -> list[tuple[str, "nn.Module"]]:
    """Modules with parameters of their own, last used first."""
    torch = require("torch", "train")
    owners = {module: name for name, module in network.named_modules() if any(True for _ in module.parameters(False))}
    used: list[nn.Module] = []
    handles = [module.register_forward_pre_hook(lambda module, _inputs: used.append(module)) for module in owners]
    try:
        with torch.no_grad():
            network(torch.zeros(1, spec.input.channels, *spec.input.size_hw))
    finally:
        for handle in handles:
            handle.remove()
    latest_first = list(dict.fromkeys(reversed(used)))
    return [(owners[module] or "network", module) for module in latest_first]


def _onnx_layers_from_logits(model: Any, helper: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Nodes with floating-point weights, the last first: name of the first weight, and all of the node's."""
    sizes = {
        entry.name: helper.to_array(entry).size
        for entry in model.graph.initializer
        if np.issubdtype(helper.to_array(entry).dtype, np.floating)
    }
    layers = []
    for node in reversed(model.graph.node):  # nodes are in topological order
        names = tuple(name for name in node.input if sizes.pop(name, 0) > 1)
        if names:
            layers.append((names[0], names))
    return layers


def _follow_cam(model: Any, old: NDArray[np.generic], new: NDArray[np.generic]) -> None:
    """Where `old` was the classifier, write its shuffled weights to the metadata too: CAM reads them there."""
    for entry in model.metadata_props:
        if entry.key != bundle.KEY:
            continue
        spec = bundle.from_json(entry.value, source="the model")
        weights = spec.classifier_weights()
        if weights is None:
            return
        for turn in (np.asarray, np.transpose):
            if old.ndim == 2 and turn(old).shape == weights.shape and np.allclose(turn(old), weights, atol=1e-3):
                encoded = bundle.encode_weights(turn(new).astype(np.float32))
                entry.value = bundle.to_json(replace(spec, cam_weights=encoded))


def _portions(items: Sequence[Item], count: int) -> Iterator[Sequence[Item]]:
    """The items in at most `count` portions of about equal size, none empty."""
    edges = np.linspace(0, len(items), min(count, len(items)) + 1).round().astype(int)
    for start, end in pairwise(edges.tolist()):
        yield items[start:end]
