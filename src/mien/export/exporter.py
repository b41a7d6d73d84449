"""From a network in torch to a calibrated, checked `.onnx` file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from mien.bundle import ModelSpec
from mien.datasets import packed
from mien.datasets.packed import Dataset, Split
from mien.errors import ConfigError
from mien.evaluation import calibration, evaluate
from mien.evaluation.network import torch_logits
from mien.export import onnx as graphs
from mien.export import parity as parities
from mien.export import quantize
from mien.export.parity import Parity
from mien.runtime.predictor import Predictor, softmax

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

PARITY_FACES = 256  # torch on the CPU takes a minute for as many of the largest networks
SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """What calibration, quantisation and the parity check look at: never the test split."""

    validation: Split  # labels numbered as the model's
    training: Split | None  # for the ranges of int8, and to know the twins

    @classmethod
    def load(cls, root: Path, labels: tuple[str, ...]) -> "Faces":
        """The same from a packed data set on the disk; its test split is not opened.

        Raises:
            DataError: as `of`, or `root` is no packed data set.
        """
        return cls.of(packed.load(root, only=("train", "validation")), labels)

    @classmethod
    def of(cls, dataset: Dataset, labels: tuple[str, ...]) -> "Faces":
        """The validation and training splits of `dataset`, for a model with these labels.

        Raises:
            DataError: the validation split is empty, or has a class that the model does not know.
        """
        training = dataset.splits.get("train")
        validation = evaluate.judged(dataset.split("validation"), dataset.labels, labels)
        return cls(validation, training if training is not None and len(training) else None)


@dataclass(frozen=True, slots=True)
class Export:
    """What was written, and how it compares with the network."""

    path: Path
    spec: ModelSpec
    sha256: str
    size_bytes: int
    parity: Parity
    fp32_accuracy: float | None  # of the same network before fp16 or int8, on validation

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        return {
            "path": str(self.path),
            "name": self.spec.name,
            "precision": self.spec.precision,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "opset": graphs.OPSET,
            "labels": list(self.spec.labels),
            "temperature": self.spec.temperature,
            "threshold": self.spec.threshold,
            "parity": self.parity.to_dict(),
            "fp32_accuracy": self.fp32_accuracy,
            "metrics": dict(self.spec.metrics),
            "licence": self.spec.licence,
        }


def export(
    model: nn.Module,
    spec: ModelSpec,
    path: Path,
    *,
    precision: Precision = "fp32",
    faces: Faces | None = None,
    coverage: float = calibration.DEFAULT_COVERAGE,
) -> Export:
    """Write `model` to `path`, calibrated on the validation faces and checked against torch.

    Without faces the temperature and threshold of `spec` stay, and parity is checked on random pictures.

    Raises:
        ModelError: the network cannot be expressed, or the file would differ from it by more than TOLERANCES allow.
        ConfigError: the precision is unknown, or int8 is asked for without training faces.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"{precision!r} is no precision: use one of {', '.join(PRECISIONS)}")
    if precision == "int8" and (faces is None or faces.training is None):
        raise ConfigError("int8 measures activation ranges on training faces: name a data set with --data")
    fp32, spec = graphs.build(model, spec)
    spec = replace(spec, precision=precision)
    graph = _convert(fp32, spec, faces)
    fp32_accuracy = None
    if faces is not None:
        spec = calibrated(graph, spec, faces, coverage)
        if precision != "fp32":
            right = _predictor(fp32, spec).logits(faces.validation.images).argmax(axis=1) == faces.validation.labels
            fp32_accuracy = float(right.mean())
    parity = _parity(model, _predictor(graph, spec), faces)
    parities.check(parity, precision, name=spec.name)
    spec = replace(spec, metrics={**spec.metrics, "parity": parity.to_dict()})
    final = graphs.with_spec(graph, spec)
    graphs.save(final, path)
    data = path.read_bytes()
    return Export(path, spec, hashlib.sha256(data).hexdigest(), len(data), parity, fp32_accuracy)


def _convert(fp32: onnx.ModelProto, spec: ModelSpec, faces: Faces | None) -> onnx.ModelProto:
    if spec.precision == "fp16":
        return quantize.to_fp16(fp32)
    if spec.precision == "int8":
        assert faces is not None
        assert faces.training is not None  # `export` has seen to it
        chosen = _sample(faces.training.images, quantize.CALIBRATION_FACES)
        return quantize.to_int8(fp32, chosen, spec.input)
    return fp32


def calibrated(graph: onnx.ModelProto, spec: ModelSpec, faces: Faces, coverage: float) -> ModelSpec:
    """`spec` with temperature, threshold and metrics of this graph, at its own precision, on validation."""
    split = faces.validation
    logits = _predictor(graph, spec).logits(split.images)
    temperature = calibration.fit_temperature(logits, split.labels)
    probabilities = softmax(logits, temperature=temperature)
    threshold = calibration.choose_threshold(probabilities.max(axis=1), coverage=coverage)
    twins = None if faces.training is None else evaluate.find_twins(split.images, faces.training.images)
    found = evaluate.Evaluation(spec.labels, split.labels, probabilities, split.names, threshold, twins)
    metrics = {**_short(found.to_dict()), "split": "validation", "tta": "none", "digest": split.digest}
    return replace(spec, temperature=temperature, threshold=threshold, metrics=metrics)


def _short(table: Mapping[str, Any]) -> dict[str, Any]:
    """The figures without the points of the curves."""
    kept = {key: value for key, value in table.items() if key not in ("coverage_accuracy", "calibration", "labels")}
    return {**kept, "cross_fit": table["calibration"].get("cross_fit")}


def _parity(model: nn.Module, predictor: Predictor, faces: Faces | None) -> Parity:
    spec = predictor.spec
    if faces is None:
        generator = np.random.default_rng(SEED)
        crops = generator.integers(0, 256, (64, *spec.input.size_hw)).astype(np.uint8)
        kind = "random pictures"
    else:
        crops, kind = _sample(faces.validation.images, PARITY_FACES), "validation faces"
    reference = softmax(torch_logits(model, spec)(crops), temperature=spec.temperature)
    return parities.compare(reference, predictor.predict(crops), crops=kind)


def _predictor(graph: onnx.ModelProto, spec: ModelSpec) -> Predictor:
    return Predictor(graphs.with_spec(graph, spec).SerializeToString())


def _sample(images: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """At most `n` images, the same ones each time."""
    chosen = np.random.default_rng(SEED).permutation(len(images))[:n]
    return np.ascontiguousarray(images[np.sort(chosen)])
