"""A trained network to one `.onnx` file that needs nothing beside it.

The graph has opset 18: the one that torch's exporter writes without conversion, and that every ONNX Runtime from
1.14 on runs. Batch norm is folded into the convolutions, the batch axis is free, and what torch notes on each
node (names of scopes, stack traces with paths of this machine) is taken out.
"""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import onnx
import torch
from torch import nn

from mien import bundle
from mien.bundle import ModelSpec
from mien.errors import ModelError
from mien.files import write_whole

OPSET = 18


class PoolingNetwork(Protocol):
    """What a network with `global_pooling = True` offers beside `forward`."""

    classifier: nn.Linear

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the last map before pooling, (N, C', h, w)."""
        ...

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """That map to logits (N, K)."""
        ...


class _WithFeatures(nn.Module):
    """Logits and the last map before global pooling."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = cast(PoolingNetwork, model)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, H, W) to logits (N, K) and features (N, C', h, w)."""
        features = self.model.forward_features(images)
        return self.model.forward_head(features), features


def build(model: nn.Module, spec: ModelSpec) -> tuple[onnx.ModelProto, ModelSpec]:
    """The fp32 graph of `model`, and `spec` with the classifier's weights where the model pools globally.

    Raises:
        ModelError: torch cannot express the network in ONNX.
    """
    pooled = bool(getattr(model, "global_pooling", False))
    # a copy on the CPU: the caller's model keeps its device and memory format
    module = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).float().eval()
    outputs = ["logits", "features"] if pooled else ["logits"]
    traced = _WithFeatures(module).eval() if pooled else module
    images = torch.zeros(2, spec.input.channels, *spec.input.size_hw)
    try:
        program = torch.onnx.export(
            traced,
            (images,),
            input_names=["images"],
            output_names=outputs,
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise ModelError(f"{spec.name} cannot be expressed in ONNX: {str(error).splitlines()[0]}") from error
    assert program is not None  # it is None only when a file was asked for
    graph = program.model_proto
    _strip(graph)
    if pooled:
        weights = cast(PoolingNetwork, module).classifier.weight.detach().numpy()
        spec = replace(spec, cam_weights=bundle.encode_weights(weights.reshape(len(spec.labels), -1)))
    return graph, spec


def with_spec(graph: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    """A copy of `graph` that carries `spec` as its one metadata entry."""
    carried = onnx.ModelProto()
    carried.CopyFrom(graph)
    carried.producer_name, carried.producer_version = "mien", ""
    del carried.metadata_props[:]
    carried.metadata_props.add(key=bundle.KEY, value=bundle.to_json(spec))
    return carried


def save(graph: onnx.ModelProto, path: Path) -> None:
    """Check `graph` and write it; a killed write leaves an old file, or none.

    Raises:
        ModelError: the graph is invalid.
    """
    try:
        onnx.checker.check_model(graph)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path} would be no valid ONNX model: {error}") from error
    write_whole(path, graph.SerializeToString())


def _strip(graph: onnx.ModelProto) -> None:
    """Remove what only a debugger needs."""
    del graph.metadata_props[:]
    del graph.graph.metadata_props[:]
    del graph.graph.value_info[:]
    graph.doc_string = graph.graph.doc_string = ""
    graph.graph.name = "mien"
    inside = graph.graph
    items: list[Any] = [*inside.node, *inside.input, *inside.output, *inside.initializer]
    for item in items:
        item.doc_string = ""
        del item.metadata_props[:]
