"""Several `.onnx` models merged into one graph, with each member's resizing and normalisation inside."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper, version_converter

from mien.bundle import ModelSpec
from mien.errors import ModelError
from mien.models.ensemble import ENSEMBLE_INPUT, FLOOR, shares
from mien.preprocess import InputSpec, area_weights

OPSET = 18  # the first whose Resize takes sizes of some axes and antialiases

Member = tuple[onnx.ModelProto, ModelSpec]


def merge(members: Sequence[Member], weights: Sequence[float] | None = None) -> onnx.ModelProto:
    """One graph: `images` (N, 1, 48, 48) grey in [0, 1] to `logits` (N, K), whose softmax is the weighted mean.

    Raises:
        ModelError: labels differ, weights do not fit, or a member's graph cannot be brought to a common opset.
    """
    specs = [spec for _, spec in members]
    parts = shares(specs, weights)
    opset = max([OPSET, *(_opset(graph) for graph, _ in members)])
    height, width = ENSEMBLE_INPUT.size_hw
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, height, width])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(specs[0].labels)])
    graph = helper.make_graph([], "mien", [images], [logits])
    merged = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="mien")
    merged.ir_version = max(member.ir_version for member, _ in members)
    for number, ((member, spec), part) in enumerate(zip(members, parts, strict=True)):
        _add_member(merged, _at(member, opset, spec.name), spec, part, name=f"m{number}")
    means = [f"m{number}/share" for number in range(len(members))]
    _add(merged, "Sum", means, "mean")
    _add(merged, "Max", ["mean", _constant(merged, "floor", np.float32(FLOOR))], "floored")
    _add(merged, "Log", ["floored"], "logits")
    return merged


def _add_member(merged: onnx.ModelProto, member: onnx.ModelProto, spec: ModelSpec, part: float, *, name: str) -> None:
    """The member's nodes as `name.*`; its own preprocessing and its weighted probabilities as `name/*`."""
    inside = compose.add_prefix(member, f"{name}.")
    _add_preprocessing(merged, spec.input, name)
    merged.graph.node.extend(inside.graph.node)
    merged.graph.initializer.extend(inside.graph.initializer)
    known = {(function.domain, function.name) for function in merged.functions}
    merged.functions.extend(f for f in inside.functions if (f.domain, f.name) not in known)
    domains = {entry.domain for entry in merged.opset_import}
    merged.opset_import.extend(entry for entry in inside.opset_import if entry.domain not in domains)
    temperature = _constant(merged, f"{name}/temperature", np.float32(1 / spec.temperature))
    _add(merged, "Mul", [f"{name}.logits", temperature], f"{name}/scaled")
    _add(merged, "Softmax", [f"{name}/scaled"], f"{name}/probabilities", axis=1)
    weight = _constant(merged, f"{name}/weight", np.float32(part))
    _add(merged, "Mul", [f"{name}/probabilities", weight], f"{name}/share")


def _add_preprocessing(merged: onnx.ModelProto, spec: InputSpec, name: str) -> None:
    """`images` in [0, 1] to the member's own size, channels and normalisation; grey is the same in RGB and BGR."""
    last = "images"
    height, width = ENSEMBLE_INPUT.size_hw
    if spec.size_hw[0] < height or spec.size_hw[1] < width:  # by area: rows, then columns
        rows = _constant(merged, f"{name}/rows", area_weights(height, spec.size_hw[0]))
        columns = _constant(merged, f"{name}/columns", np.ascontiguousarray(area_weights(width, spec.size_hw[1]).T))
        _add(merged, "MatMul", [rows, last], f"{name}/lower")
        _add(merged, "MatMul", [f"{name}/lower", columns], f"{name}/resized")
        last = f"{name}/resized"
    elif spec.size_hw != ENSEMBLE_INPUT.size_hw:
        sizes = _constant(merged, f"{name}/sizes", np.array(spec.size_hw, np.int64))
        how: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "axes": [2, 3]}
        _add(merged, "Resize", [last, "", "", sizes], f"{name}/resized", **how)
        last = f"{name}/resized"
    if spec.channels == 3:
        _add(merged, "Concat", [last] * 3, f"{name}/repeated", axis=1)
        last = f"{name}/repeated"
    mean, std = (np.array(values, np.float32)[None, :, None, None] for values in (spec.mean, spec.std))
    _add(merged, "Sub", [last, _constant(merged, f"{name}/mean", mean)], f"{name}/centred")
    _add(merged, "Div", [f"{name}/centred", _constant(merged, f"{name}/std", std)], f"{name}.images")


def _add(merged: onnx.ModelProto, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
    merged.graph.node.append(helper.make_node(kind, inputs, [output], name=f"{output}.{kind.lower()}", **attributes))


def _constant(merged: onnx.ModelProto, name: str, value: NDArray[np.generic] | np.generic) -> str:
    merged.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _opset(model: onnx.ModelProto) -> int:
    return max(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _at(model: onnx.ModelProto, opset: int, name: str) -> onnx.ModelProto:
    if _opset(model) == opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except RuntimeError as error:
        raise ModelError(f"{name} cannot be brought to ONNX opset {opset}: export it again") from error
