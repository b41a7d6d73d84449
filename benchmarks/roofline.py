"""The default model's time against its arithmetic at this machine's measured peak, and what takes the rest.

    python benchmarks/roofline.py [--try]

The peak is the fastest matrix product of ONNX Runtime here, fp32 and int8 (uint8 by int8), on one thread and on all; an
upper bound for convolutions, which run as such products. One multiplication with its addition is a MAC. The time of
each node comes from ONNX Runtime's own profile. Writes results/roofline.json and a section of docs/benchmarks.md.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from page import keep, table
from timing import in_turn

from mien import bench, hub
from mien.preprocess import network_input
from mien.runtime.cpus import available_cpus
from mien.runtime.predictor import Predictor
from mien.runtime.session import MAX_THREADS, create_session, session_options

MODELS = {"default": "int8", "default-fp16": "fp32"}  # and the arithmetic that they run in
PRODUCTS = (512, 1024, 2048)  # sides of the square matrices: the fastest counts
BATCHES = (1, 64)
OPSET = 17


@dataclass(frozen=True)
class Layer:
    """A convolution of the network."""

    what: str
    macs: int  # a crop


def product(side: int, precision: str) -> onnx.ModelProto:
    """A graph that multiplies a square matrix with a constant one."""
    rng = np.random.default_rng(0)
    if precision == "fp32":
        constants = {"b": rng.standard_normal((side, side)).astype(np.float32)}
        node, kind = helper.make_node("MatMul", ["a", "b"], ["c"]), TensorProto.FLOAT
    else:
        constants = {
            "b": rng.integers(-127, 128, (side, side), np.int8),
            **{name: np.array(0.02, np.float32) for name in ("a_scale", "b_scale", "c_scale")},
            **{name: np.array(128, np.uint8) for name in ("a_zero", "c_zero")},
            "b_zero": np.array(0, np.int8),
        }
        names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "c_scale", "c_zero"]
        node, kind = helper.make_node("QLinearMatMul", names, ["c"]), TensorProto.UINT8
    shape = [side, side]
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", kind, shape)],
        [helper.make_tensor_value_info("c", kind, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def peak_gmacs(precision: str, threads: int, rounds: int) -> float:
    """Thousand million MACs a second of the fastest product."""
    best = 0.0
    for side in PRODUCTS:
        data = product(side, precision).SerializeToString()
        session = create_session(data, name=f"product of {side}", threads=threads)
        a = np.ones((side, side), np.float32 if precision == "fp32" else np.uint8)
        least_ms = in_turn({"product": partial(session.run, None, {"a": a})}, rounds=rounds)["product"]["least_ms"]
        best = max(best, side**3 / least_ms / 1e6)
    return best


def layers(path: Path) -> list[Layer]:
    """The convolutions of an `.onnx` file in the order of the graph."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.value_info}
    kernels = {entry.name: list(entry.dims) for entry in model.graph.initializer}
    for node in model.graph.node:  # weights reach a convolution through a cast or a dequantisation
        if node.op_type in ("DequantizeLinear", "Cast") and node.input[0] in kernels:
            kernels[node.output[0]] = kernels[node.input[0]]
    found = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            channels, inner, *window = kernels[node.input[1]]
            height, width = shapes[node.output[0]][2:]
            what = f"{window[0]} x {window[1]}, {inner} to {channels}, at {height} x {width}"
            found.append(Layer(what, height * width * channels * inner * int(np.prod(window))))
    return found


def profile(path: Path, images: NDArray[np.float32], threads: int, runs: int) -> list[tuple[str, float]]:
    """Type and median milliseconds of each node for one call, in the order in which they run."""
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        for _ in range(runs + 1):
            session.run(["logits"], {"images": images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [e for e in events if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
    nodes.sort(key=lambda event: event["ts"])
    each = len(nodes) // (runs + 1)
    spent = np.array([event["dur"] for event in nodes[each:]], np.float64).reshape(runs, each) / 1000
    kinds = [event["args"]["op_name"] for event in nodes[:each]]
    return list(zip(kinds, np.median(spent, axis=0).tolist(), strict=True))


def measure(rounds: int) -> dict[str, Any]:
    """Peaks, whole models, and the layers of the default on one thread with 64 crops."""
    everything = min(available_cpus(), MAX_THREADS)
    thread_numbers = sorted({1, everything})
    peaks = {f"{p}, {t}": peak_gmacs(p, t, rounds) for p in ("int8", "fp32") for t in thread_numbers}
    crops = np.random.default_rng(0).integers(0, 256, (max(BATCHES), 48, 48), np.uint8)
    rows = []
    for name, precision in MODELS.items():
        path = hub.resolve(name)
        macs = sum(layer.macs for layer in layers(path))
        for threads in thread_numbers:
            predictor = Predictor(path, threads=threads, provider="cpu")
            session = create_session(path, name=name, threads=threads)
            for batch in BATCHES:
                images = network_input(crops[:batch], predictor.spec.input)
                calls = {
                    "predict": partial(predictor.predict, crops[:batch]),
                    "network": partial(session.run, ["logits"], {"images": images}),
                }
                spent = in_turn(calls, rounds=rounds, repeat=max(1, 16 // batch))
                row = {"model": name, "precision": precision, "threads": threads, "batch": batch, "macs": macs}
                row |= {f"{call}_ms": spent[call]["wall_ms"] / batch for call in calls}
                rows.append({**row, "peak_gmacs": peaks[f"{precision}, {threads}"]})
    images = network_input(crops, Predictor(hub.resolve("default"), threads=1).spec.input)
    nodes = profile(hub.resolve("default"), images, 1, rounds)
    return {"peaks_gmacs": peaks, "models": rows, "nodes": nodes, "nodes_batch": len(crops)}


def section(about: dict[str, Any], figures: dict[str, Any]) -> str:
    """Both tables."""
    peaks = [
        [precision, threads, f"{gmacs:,.0f}"]
        for (precision, threads), gmacs in ((key.split(", "), value) for key, value in figures["peaks_gmacs"].items())
    ]
    rows = []
    for row in figures["models"]:
        floor_ms = row["macs"] / row["peak_gmacs"] / 1e6
        gmacs = row["macs"] / row["network_ms"] / 1e6
        cells = [f"{row['predict_ms']:.3f}", f"{row['network_ms']:.3f}", f"{floor_ms:.3f}", f"{gmacs:,.0f}"]
        cells += [f"**{100 * floor_ms / row['network_ms']:.0f} %**"]
        rows.append([row["model"], row["precision"], str(row["threads"]), str(row["batch"]), *cells])
    heads = ["model", "arithmetic", "threads", "crops a call", "`predict` ms a crop", "network ms", "at the peak ms"]
    macs = figures["models"][0]["macs"]
    return "\n\n".join(
        [
            f"{about['cpu']}, {about['cpus']} cores. The default does {macs / 1e6:.1f} M MACs a crop in its "
            "convolutions. `predict` is what a program calls: preparation of the crops, the network, softmax. The peak "
            "is the fastest matrix product that ONNX Runtime reaches here:",
            table(["arithmetic", "threads", "GMAC/s"], peaks, text_columns=2),
            table([*heads, "GMAC/s", "of the peak"], rows, text_columns=2),
            "What takes the rest, by ONNX Runtime's profile of `default` (one thread, "
            f"{figures['nodes_batch']} crops a call):",
            _nodes(figures),
        ]
    )


def _nodes(figures: dict[str, Any]) -> str:
    """A row a convolution, one for all other nodes of a type; microseconds a crop."""
    peak = figures["peaks_gmacs"]["int8, 1"]
    batch, nodes = figures["nodes_batch"], figures["nodes"]
    convolutions = layers(hub.resolve("default"))
    total_ms = sum(ms for _, ms in nodes)
    rows, others, number = [], dict[str, float](), 0
    for kind, ms in nodes:
        if kind == "QLinearConv":
            layer, number = convolutions[number], number + 1
            us, at_peak_us = 1000 * ms / batch, layer.macs / peak / 1000
            share = [f"{100 * ms / total_ms:.1f} %", f"{100 * at_peak_us / us:.0f} %"]
            rows.append([f"convolution {layer.what}", f"{layer.macs / 1e6:.1f}", f"{us:,.0f}", *share])
        else:
            others[kind] = others.get(kind, 0.0) + ms
    for kind, ms in sorted(others.items(), key=lambda pair: -pair[1]):
        rows.append([f"{kind}", "", f"{1000 * ms / batch:,.1f}", f"{100 * ms / total_ms:.1f} %", ""])
    return table(["node", "M MACs", "us a crop", "of the time", "of the peak"], rows)


def main() -> None:
    """Measure, keep, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--try", dest="only_try", action="store_true", help="print, and write neither figures nor page")
    options = parser.parse_args()
    about, figures = bench.machine(), measure(options.rounds)
    text = section(about, figures)
    print(text)
    if not options.only_try:
        keep("roofline", {"machine": about, **figures}, {"roofline": text})


if __name__ == "__main__":
    main()
