"""Models on OpenVINO, behind the part of ONNX Runtime's session that mien uses.

`onnxruntime-openvino` would be the other way to it, but it is a second build of the package `onnxruntime` and
overwrites its files: the two cannot be installed together, and the base install already has one. The package `openvino`
reads the same `.onnx` file and stands beside it.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import bundle
from mien.errors import require
from mien.runtime.cpus import available_cpus
from mien.runtime.session import FAULTS, MAX_THREADS, unloadable

ONNX_TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)"}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output, described as ONNX Runtime does."""

    name: str
    shape: tuple[int | None, ...]  # None: any length
    type: str


@dataclass(frozen=True, slots=True)
class Meta:
    """The metadata of the file, described as ONNX Runtime does."""

    custom_metadata_map: Mapping[str, str]


class OpenVinoSession:
    """A model compiled for the CPU. Safe to share between threads: each has a request of its own."""

    def __init__(self, model: bytes, *, name: str, threads: int | None = None) -> None:
        """Compile the bytes of an `.onnx` file; `name` stands for it in errors, `threads` default to the CPUs.

        Raises:
            MissingExtraError: openvino is not installed.
            ModelError: it is no ONNX model that OpenVINO can run.
        """
        openvino = require("openvino", "openvino")
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or min(available_cpus(), MAX_THREADS),
            # else float networks run in bfloat16 where the CPU has it: faster, and other probabilities (by up to 0.01)
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            graph = openvino.Core().read_model(model)
            self._compiled = openvino.compile_model(graph, "CPU", settings)
        except FAULTS as error:
            raise unloadable(name, error) from error
        self._inputs = [_port(entry) for entry in graph.inputs]
        self._outputs = [_port(entry) for entry in graph.outputs]
        self._meta = Meta(_metadata(graph))
        self._of_thread = threading.local()

    def run(self, output_names: list[str], input_feed: Mapping[str, NDArray[np.float32]], /) -> list[Any]:
        """The named outputs for arrays by input name."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        found = self._of_thread.request.infer(dict(input_feed), share_inputs=True)
        return [np.array(found[name]) for name in output_names]  # copies: the next call writes over the request's own

    def get_inputs(self) -> Sequence[Port]:
        """The graph's inputs."""
        return self._inputs

    def get_outputs(self) -> Sequence[Port]:
        """The graph's outputs."""
        return self._outputs

    def get_modelmeta(self) -> Meta:
        """The metadata of the file."""
        return self._meta


def _port(entry: Any) -> Port:
    kind = entry.element_type.get_type_name()
    shape = tuple(None if length.is_dynamic else length.get_length() for length in entry.partial_shape)
    return Port(entry.any_name, shape, ONNX_TYPES.get(kind, f"tensor({kind})"))


def _metadata(graph: Any) -> dict[str, str]:
    path = ["framework", bundle.KEY]  # where OpenVINO keeps the metadata of an ONNX file
    return {bundle.KEY: str(graph.get_rt_info(path).value)} if graph.has_rt_info(path) else {}
