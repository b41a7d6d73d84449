"""A mien `.onnx` file made by hand, node by node: no torch, no training."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mien import bundle
from mien.labels import FER7
from mien.preprocess import InputSpec

FILTERS = 8


def tiny_weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """`kernel` (8, 1, 3, 3), `kernel_bias` (8,), `classifier` (7, 8), `classifier_bias` (7,)."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(0, 1, (FILTERS, 1, 3, 3))
    return {
        "kernel": (kernel - 0.8 * kernel.mean((2, 3), keepdims=True)).astype(np.float32),
        "kernel_bias": np.zeros(FILTERS, np.float32),
        "classifier": rng.normal(0, 2, (len(FER7), FILTERS)).astype(np.float32),
        "classifier_bias": rng.normal(0, 0.1, len(FER7)).astype(np.float32),
    }


def write_tiny_model(path: Path, *, seed: int = 0, spec: bundle.ModelSpec | None = None) -> Path:
    """Write conv 3 x 3 with stride 2 -> ReLU (`features`) -> mean -> linear (`logits`) to `path`, and return it."""
    weights = tiny_weights(seed)
    nodes = [
        helper.make_node(
            "Conv",
            ["images", "kernel", "kernel_bias"],
            ["maps"],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
            kernel_shape=[3, 3],
        ),
        helper.make_node("Relu", ["maps"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "classifier", "classifier_bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 48, 48])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(FER7)]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", FILTERS, 24, 24]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {bundle.KEY: bundle.to_json(spec or tiny_spec(weights["classifier"]))})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def tiny_spec(classifier: NDArray[np.float32]) -> bundle.ModelSpec:
    """What the file says of itself."""
    return bundle.ModelSpec(
        name="tiny",
        labels=FER7,
        input=InputSpec(size_hw=(48, 48), channels=1, mean=(0.5,), std=(0.25,)),
        temperature=1.5,
        threshold=0.4,
        licence="Apache-2.0",
        training={"recipe": "random weights, for tests"},
        cam_weights=bundle.encode_weights(classifier),
    )
