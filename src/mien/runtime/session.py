"""One model loaded by one provider, with the options that serving needs, and the provider's faults as `ModelError`.

The options were chosen by measurement (`benchmarks/runtime_options.py`, docs/benchmarks.md).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from mien.errors import ModelError
from mien.runtime.cpus import available_cpus

FAULTS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(kind for kind in vars(ort_state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)
"""What ONNX Runtime raises; its own exceptions share no base class. OpenVINO raises RuntimeError."""

MAX_THREADS = 8  # a small network gains nothing from more

EXECUTION_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""Providers inside ONNX Runtime, by mien's name; the later ones take the nodes that the first cannot run."""


class Port(Protocol):
    """An input or output of a graph."""

    @property
    def name(self) -> str:
        """As the graph calls it."""

    @property
    def shape(self) -> Sequence[int | str | None]:
        """A length a dimension; text or None where any length goes."""

    @property
    def type(self) -> str:
        """As ONNX Runtime writes it: `tensor(float)`."""


class Session(Protocol):
    """What a provider makes of a model; the part of ONNX Runtime's session that mien uses. Threads may share one."""

    def run(self, output_names: list[str], input_feed: Mapping[str, NDArray[np.float32]], /) -> list[Any]:
        """The named outputs for arrays by input name."""

    def get_inputs(self) -> Sequence[Port]:
        """The graph's inputs."""

    def get_outputs(self) -> Sequence[Port]:
        """The graph's outputs."""

    def get_modelmeta(self) -> Any:
        """Its `custom_metadata_map` is the metadata of the file."""


def create_session(
    model: Path | bytes, *, name: str, threads: int | None = None, provider: str = "cpu"
) -> ort.InferenceSession:
    """A session of ONNX Runtime over an `.onnx` file or its bytes; `name` stands for it in errors.

    `threads` default to the CPUs; `provider` is a key of `EXECUTION_PROVIDERS`.

    Raises:
        ModelError: there is no such file, it is no ONNX model that this ONNX Runtime can run, or the provider does not
            work on this machine.
    """
    wanted = EXECUTION_PROVIDERS[provider]
    try:
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else os.fspath(model),
            session_options(threads),
            providers=[entry for entry in wanted if entry in ort.get_available_providers()],
        )
    except FAULTS as error:
        if not isinstance(model, bytes) and not model.exists():
            raise ModelError(f"{name}: no such model file: see `mien models` for the names at hand") from error
        raise unloadable(name, error) from error
    if session.get_providers()[0] != wanted[0]:  # ONNX Runtime goes on with the next one where a library is missing
        raise ModelError(
            f"{name}: the provider {provider} does not work here: install 'mien[cuda]' in place of onnxruntime, with "
            "the CUDA libraries that it names, or set MIEN_PROVIDER=cpu"
        )
    return session


def session_options(threads: int | None = None) -> ort.SessionOptions:
    """Options of every session."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or min(available_cpus(), MAX_THREADS)
    options.inter_op_num_threads = 1  # the graph is one chain
    options.log_severity_level = 4  # faults come as exceptions; the log would say them twice
    # Waiting threads sleep: spinning wins microseconds and takes whole cores from detection, decoding and neighbours.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def unloadable(name: str, error: Exception) -> ModelError:
    """The ModelError for what a provider said when it was to load a model."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(
        f"{name} is no ONNX model that can be loaded ({reason}): copy it again, or make one with `mien export`"
    )
