"""ONNX Runtime sessions with the options that serving needs, and its faults as `ModelError`."""

import os
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from mien.errors import ModelError

FAULTS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(kind for kind in vars(ort_state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)
"""What ONNX Runtime raises; its own exceptions share no base class."""

MAX_THREADS = 8  # a small network gains nothing from more


def available_cpus() -> int:
    """CPUs that this process may use, which in a container can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def create_session(model: Path | bytes, *, name: str, threads: int | None = None) -> ort.InferenceSession:
    """A CPU session over an `.onnx` file or its bytes; `name` stands for it in errors, `threads` default to the CPUs.

    Raises:
        ModelError: there is no such file, or it is no ONNX model that this ONNX Runtime can run.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or min(available_cpus(), MAX_THREADS)
    options.inter_op_num_threads = 1  # the graph is one chain
    options.log_severity_level = 4  # faults come as exceptions; the log would say them twice
    # Waiting threads sleep: spinning wins microseconds and takes whole cores from detection, decoding and neighbours.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(
            model if isinstance(model, bytes) else os.fspath(model), options, providers=["CPUExecutionProvider"]
        )
    except FAULTS as error:
        if not isinstance(model, bytes) and not model.exists():
            raise ModelError(f"{name}: no such model file: see `mien models` for the names at hand") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{name} is no ONNX model that can be loaded ({reason}): copy it again, or make one with `mien export`"
        ) from error
