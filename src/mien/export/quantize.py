"""Smaller graphs: fp16 weights at fp32 speed, and int8 arithmetic.

fp16 halves the file only. ONNX Runtime's CPU kernels compute in fp32, and a graph in fp16 would pay a cast around
every node; so the weights are stored in fp16 and one Cast each brings them back, which ONNX Runtime folds when it
loads the file.

int8 is static quantisation in QDQ form: weights per output channel, activations unsigned with the smallest and
largest values seen on training faces. Measured on PublicTest with a residual network of 1.6 M weights at 59.60 %:
these ranges 59.54 %, entropy 59.52 %, percentiles (99.99, 99.999) 59.57 % and 59.49 % with larger single differences
and up to twice the time. Signed activations take twice as long on x86. Weights use 7 of their 8 bits, which costs
nothing here: on CPUs without VNNI the 16-bit sums of products of 8 bits would overflow silently.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mien.errors import ModelError
from mien.preprocess import InputSpec, network_input

CALIBRATION_FACES = 256  # of 256, 512, 1,024 and 2,048 none is better beyond chance (docs/decisions.md, 18)
BATCH = 32
SMALL = 64  # elements: a shape, a scale or a bias of this size gains nothing from fp16


def to_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `graph` whose weights are fp16, each behind a Cast to fp32.

    Raises:
        ModelError: a weight is out of fp16's range.
    """
    small = onnx.ModelProto()
    small.CopyFrom(graph)
    casts = []
    for tensor in small.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) <= SMALL:
            continue
        weights = numpy_helper.to_array(tensor)
        if np.abs(weights).max() > np.finfo(np.float16).max:
            raise ModelError(f"weight {tensor.name} is out of fp16's range: export as fp32")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *small.graph.node]
    del small.graph.node[:]
    small.graph.node.extend(nodes)
    return small


def to_int8(graph: onnx.ModelProto, crops: NDArray[np.uint8], spec: InputSpec) -> onnx.ModelProto:
    """A copy of `graph` in int8 arithmetic, its activation ranges measured on `crops`.

    `crops` are `(N, H, W)` or `(N, H, W, 3)` uint8 training faces; a few hundred are enough.

    Raises:
        ModelError: there are no crops.
    """
    from onnxruntime import quantization as q  # noqa: PLC0415 - slow to import
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    if not len(crops):
        raise ModelError("int8 needs faces to measure activation ranges on: name a data set with --data")
    with tempfile.TemporaryDirectory() as folder:
        folded, quantized = Path(folder) / "folded.onnx", Path(folder) / "int8.onnx"
        source = Path(folder) / "fp32.onnx"
        source.write_bytes(graph.SerializeToString())
        quant_pre_process(source, folded, skip_symbolic_shape=True)
        q.quantize_static(
            folded,
            quantized,
            _reader(q, crops, spec),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
            reduce_range=True,
            calibrate_method=q.CalibrationMethod.MinMax,
        )
        return onnx.load(quantized)


def _reader(q: ModuleType, crops: NDArray[np.uint8], spec: InputSpec) -> object:
    """What ONNX Runtime asks for batches of calibration images: all of one size, as it asks."""
    size = min(BATCH, len(crops))
    batches: Iterator[dict[str, NDArray[np.float32]]] = (
        {"images": network_input(crops[start : start + size], spec)} for start in range(0, len(crops) - size + 1, size)
    )

    class Reader(q.CalibrationDataReader):  # type: ignore[name-defined,misc]  # the base class is loaded late
        """One batch after the other."""

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            """The next batch, or None at the end."""
            return next(batches, None)

    return Reader()
