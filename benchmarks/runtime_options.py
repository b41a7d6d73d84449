"""Which options of ONNX Runtime serve the packaged models best, each against what mien uses, in turn.

    python benchmarks/runtime_options.py [--try]

Threads, spinning, memory arena and pattern, graph optimisation, a fixed batch, I/O binding, and how many crops go into
a call. The times are of one crop and of 256. Writes results/runtime_options.json and a section of docs/benchmarks.md.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from page import keep, table
from timing import in_turn

from mien import bench, hub
from mien.preprocess import network_input
from mien.runtime.predictor import CHUNK, Predictor
from mien.runtime.session import session_options

CROPS = 256
Options = ort.SessionOptions
Run = Callable[[NDArray[np.float32]], object]

SPINNING = "session.intra_op.allow_spinning"
LEVELS = ort.GraphOptimizationLevel
SESSIONS: dict[str, Callable[[Options, int], None]] = {
    "mien's options": lambda options, batch: None,
    "one thread": lambda options, batch: setattr(options, "intra_op_num_threads", 1),
    "two threads": lambda options, batch: setattr(options, "intra_op_num_threads", 2),
    "four threads": lambda options, batch: setattr(options, "intra_op_num_threads", 4),
    "threads spin while they wait": lambda options, batch: options.add_session_config_entry(SPINNING, "1"),
    "no memory arena": lambda options, batch: setattr(options, "enable_cpu_mem_arena", False),
    "no memory pattern": lambda options, batch: setattr(options, "enable_mem_pattern", False),
    "graph: no optimisation": lambda options, batch: setattr(
        options, "graph_optimization_level", LEVELS.ORT_DISABLE_ALL
    ),
    "graph: basic": lambda options, batch: setattr(options, "graph_optimization_level", LEVELS.ORT_ENABLE_BASIC),
    "graph: extended": lambda options, batch: setattr(options, "graph_optimization_level", LEVELS.ORT_ENABLE_EXTENDED),
    "batch fixed in the graph": lambda options, batch: options.add_free_dimension_override_by_name("batch", batch),
}
"""What is changed in the options; `all` is the level that mien uses."""


def session_run(path: Path, batch: int, change: Callable[[Options, int], None]) -> Run:
    """Calls of `batch` images on a session of its own."""
    options = session_options()
    change(options, batch)
    session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})


def bound_run(path: Path) -> Run:
    """Calls with input and output bound, so that no array is made or copied."""
    session = ort.InferenceSession(path.read_bytes(), session_options(), providers=["CPUExecutionProvider"])
    binding = session.io_binding()

    def run(images: NDArray[np.float32]) -> object:
        binding.bind_cpu_input("images", images)
        binding.bind_output("logits", "cpu")
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]

    return run


def in_chunks(run: Run, images: NDArray[np.float32], size: int) -> None:
    """All images, `size` a call."""
    for start in range(0, len(images), size):
        run(images[start : start + size])


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    """A row a change: milliseconds of a crop, alone and in calls of CHUNK."""
    path = hub.resolve(name)
    spec = Predictor(path, threads=1, provider="cpu").spec
    images = network_input(np.random.default_rng(0).integers(0, 256, (CROPS, 48, 48), np.uint8), spec.input)
    one = {what: partial(session_run(path, 1, change), images[:1]) for what, change in SESSIONS.items()}
    many = {
        what: partial(in_chunks, session_run(path, CHUNK, change), images, CHUNK) for what, change in SESSIONS.items()
    }
    bound = bound_run(path)
    one["I/O binding"] = partial(bound, images[:1])
    many["I/O binding"] = partial(in_chunks, bound, images, CHUNK)
    plain = session_run(path, CHUNK, SESSIONS["mien's options"])
    for size in (8, 16, 32, 128, 256):
        many[f"{size} crops a call, not {CHUNK}"] = partial(in_chunks, plain, images, size)
    alone, together = in_turn(one, rounds=rounds, repeat=20), in_turn(many, rounds=rounds)
    rows = []
    for what in many:
        row: dict[str, Any] = {"model": name, "what": what, "many": _a_crop(together[what], CROPS)}
        rows.append({**row, "one": _a_crop(alone[what], 1)} if what in alone else row)
    return rows


def _a_crop(spent: dict[str, float], crops: int) -> dict[str, float]:
    return {key: value / crops for key, value in spent.items()}


def section(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """A table a model: times, and how they stand to those of mien's options."""
    parts = [
        f"{about['cpu']}, {about['cpus']} cores, {about['threads']} threads; medians over rounds in which every "
        "variant runs in turn. In brackets the ratio of CPU time to that of mien's options: under 1.00 is better."
    ]
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        base = own[0]
        lines = [[row["what"], _cell(row.get("one"), base["one"]), _cell(row["many"], base["many"])] for row in own]
        parts.append(table([f"`{model}`", "1 crop, ms", f"in calls of {CHUNK}, ms a crop"], lines))
    return "\n\n".join(parts)


def _cell(spent: dict[str, float] | None, base: dict[str, float]) -> str:
    return "" if spent is None else f"{spent['wall_ms']:.3f} ({spent['cpu_ms'] / base['cpu_ms']:.2f})"


def main() -> None:
    """Measure, keep, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--models", nargs="+", default=["default", "default-fp16"])
    parser.add_argument("--try", dest="only_try", action="store_true", help="print, and write neither figures nor page")
    options = parser.parse_args()
    about = bench.machine()
    rows = [row for name in options.models for row in measure(name, options.rounds)]
    text = section(about, rows)
    print(text)
    if not options.only_try:
        keep("runtime_options", {"machine": about, "rows": rows}, {"runtime-options": text})


if __name__ == "__main__":
    main()
