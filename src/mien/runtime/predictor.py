"""Face crops to calibrated probabilities: one `.onnx` file, its specification read from inside it."""

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien import bundle
from mien.bundle import ModelSpec
from mien.errors import ModelError
from mien.preprocess import network_input
from mien.runtime import providers
from mien.runtime.session import FAULTS, Session

CHUNK = 64  # crops of one inference call: memory stays flat and larger calls are no faster


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Which model answered, and how its numbers are to be read."""

    name: str
    sha256: str  # of the whole .onnx file
    temperature: float
    threshold: float
    precision: str
    licence: str
    provider: str = "cpu"  # what ran it: a name of `runtime.providers`

    def to_dict(self) -> dict[str, str | float]:
        """JSON-safe form."""
        return asdict(self)


def softmax(logits: NDArray[np.float32], *, temperature: float = 1.0) -> NDArray[np.float32]:
    """`(N, K)` logits to probabilities; a temperature over 1 flattens them."""
    scaled = logits / np.float32(temperature)
    grown = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True), np.float32)


class Predictor:
    """A model ready to run. Safe to share between threads."""

    def __init__(self, model: Path | str | bytes, *, threads: int | None = None, provider: str | None = None) -> None:
        """Load an `.onnx` file, or its bytes, that `mien export` wrote; `provider` as in `providers.open_session`.

        Raises:
            ModelError: it is missing, corrupt, without mien's metadata, or its graph does not fit them.
            ConfigError: the provider is unknown.
            MissingExtraError: the provider is not installed.
        """
        self._source = f"model of {len(model):,} bytes" if isinstance(model, bytes) else str(model)
        data = model if isinstance(model, bytes) else _read(Path(model))
        sha256 = hashlib.sha256(data).hexdigest()
        self._session, used = providers.open_session(
            data, name=self._source, sha256=sha256, threads=threads, provider=provider
        )
        self.spec = read_spec(self._session, self._source)
        self._chunk = _check_graph(self._session, self.spec, self._source)
        self.info = ModelInfo(
            name=self.spec.name,
            sha256=sha256,
            temperature=self.spec.temperature,
            threshold=self.spec.threshold,
            precision=self.spec.precision,
            licence=self.spec.licence,
            provider=used,
        )
        self.has_features = any(output.name == "features" for output in self._session.get_outputs())

    def __repr__(self) -> str:
        return f"Predictor({self.info.name!r}, sha256={self.info.sha256[:12]}...)"

    def predict(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated probabilities `(N, K)` of `(N, H, W)` grey or `(N, H, W, 3)` RGB uint8 crops of any size.

        Raises:
            ValueError: the crops are not uint8 or not of one of the two shapes.
            ModelError: the model gives values that are not finite.
        """
        return softmax(self.logits(crops), temperature=self.spec.temperature)

    def logits(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Raw outputs `(N, K)`, before temperature and softmax; crops and errors as in `predict`."""
        logits = [outputs[0] for outputs in self._run(crops, ["logits"])]
        return np.concatenate([np.empty((0, len(self.spec.labels)), np.float32), *logits])

    def predict_with_features(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities `(N, K)` and the last feature maps `(N, C', h, w)` before global pooling.

        Raises:
            ModelError: the model exports no feature maps, or gives values that are not finite.
            ValueError: the crops are empty, not uint8 or not of one of the shapes of `predict`.
        """
        if not self.has_features:
            raise ModelError(f"{self._source} exports no feature maps: use occlusion, or a model with global pooling")
        if not len(crops):
            raise ValueError("no crops: feature maps need at least one")
        outputs = list(self._run(crops, ["logits", "features"]))
        logits = np.concatenate([output[0] for output in outputs])
        features = np.concatenate([output[1] for output in outputs])
        return softmax(logits, temperature=self.spec.temperature), features

    def _run(self, crops: NDArray[np.uint8], names: list[str]) -> Iterator[list[NDArray[np.float32]]]:
        """Outputs of one chunk after the other."""
        if not len(crops):
            network_input(crops, self.spec.input)  # refuses a wrong type or shape, empty or not
        for start in range(0, len(crops), self._chunk):
            images = network_input(crops[start : start + self._chunk], self.spec.input)
            try:
                outputs = self._session.run(names, {"images": images})
            except FAULTS as error:
                raise ModelError(f"{self._source} cannot run on {images.shape}: {error}: export it again") from error
            _check_logits(outputs[0], images.shape[0], self.spec, self._source)
            yield outputs


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such model file: check the path, or see `mien models` for names") from error
    except IsADirectoryError as error:
        export = shlex.join(["mien", "export", str(path), "model.onnx"])
        raise ModelError(f"{path}: is a folder: make a model of a run with `{export}`") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from error


def read_spec(session: Session, source: str) -> ModelSpec:
    """What the model in `session` says of itself; `source` names it in errors.

    Raises:
        ModelError: it was not exported by mien, or its metadata are damaged.
    """
    metadata = session.get_modelmeta().custom_metadata_map
    if bundle.KEY not in metadata:
        raise ModelError(
            f"{source} has no mien metadata (labels, preprocessing, calibration): export it with `mien export`"
        )
    return bundle.from_json(metadata[bundle.KEY], source=source)


def _check_graph(session: Session, spec: ModelSpec, source: str) -> int:
    """The number of crops that one call may take; raises ModelError where graph and metadata differ."""
    inputs = {entry.name: entry for entry in session.get_inputs()}
    outputs = {entry.name: entry for entry in session.get_outputs()}
    if set(inputs) != {"images"} or "logits" not in outputs:
        raise ModelError(
            f"{source} has inputs {sorted(inputs)} and outputs {sorted(outputs)}, not `images` and `logits`: "
            "export it with `mien export`"
        )
    batch, *geometry = inputs["images"].shape
    expected = [spec.input.channels, *spec.input.size_hw]
    known = zip(geometry, expected, strict=False)
    if len(geometry) != 3 or any(isinstance(found, int) and found != wanted for found, wanted in known):
        raise ModelError(f"{source} takes images of shape {geometry}, its metadata say {expected}: export it again")
    if inputs["images"].type != "tensor(float)":
        raise ModelError(f"{source} takes {inputs['images'].type}, not float32 images: export it again")
    classes = outputs["logits"].shape[-1]
    if isinstance(classes, int) and classes != len(spec.labels):
        raise ModelError(f"{source} gives {classes} classes, its metadata name {len(spec.labels)}: export it again")
    if isinstance(batch, int) and batch != 1:
        raise ModelError(f"{source} takes exactly {batch} images a call: export it with a free batch axis")
    return 1 if batch == 1 else CHUNK


def _check_logits(logits: NDArray[np.float32], n: int, spec: ModelSpec, source: str) -> None:
    if logits.shape != (n, len(spec.labels)):
        raise ModelError(f"{source} gives logits {logits.shape}, not {(n, len(spec.labels))}: export it again")
    if not np.isfinite(logits).all():
        raise ModelError(f"{source} gives values that are not finite: train or export it again")
