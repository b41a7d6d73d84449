"""The predictor against the tiny model's arithmetic done by hand, and against models that do not fit."""

import concurrent.futures
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from tests.tiny_model import tiny_spec, tiny_weights, write_tiny_model

from mien import bundle
from mien.errors import ModelError
from mien.preprocess import InputSpec
from mien.runtime.cpus import available_cpus
from mien.runtime.predictor import CHUNK, Predictor, softmax


@pytest.fixture(scope="module")
def predictor(tiny_onnx: Path) -> Predictor:
    return Predictor(tiny_onnx, threads=1)


def random_crops(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def by_hand(crops: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities and features of the tiny model for `(N, 48, 48)` crops, one window after the other."""
    weights = tiny_weights()
    features = np.zeros((len(crops), 8, 24, 24))
    for n, crop in enumerate(crops):
        padded = np.pad((crop / 255 - 0.5) / 0.25, 1)
        for row in range(24):
            for column in range(24):
                window = padded[2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
                features[n, :, row, column] = np.maximum((weights["kernel"][:, 0] * window).sum((1, 2)), 0)
    logits = features.mean((2, 3)) @ weights["classifier"].T.astype(np.float64) + weights["classifier_bias"]
    grown = np.exp(logits / 1.5)  # the tiny model's temperature
    return grown / grown.sum(1, keepdims=True), features


def test_probabilities_and_features_by_hand(predictor: Predictor) -> None:
    crops = random_crops(3, 48, 48)
    expected, expected_features = by_hand(crops)
    probabilities, features = predictor.predict_with_features(crops)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(features, expected_features, atol=1e-3)
    np.testing.assert_allclose(predictor.predict(crops), expected, atol=1e-5)
    assert probabilities.dtype == features.dtype == np.float32


@pytest.mark.parametrize("temperature", [0.1, 1.0, 20.0])
def test_softmax(temperature: float) -> None:
    logits = np.array([[1000.0, 1001.0], [-3.0, 3.0]], np.float32)
    first = 1 / (1 + np.exp(np.array([1.0, 6.0]) / temperature))
    np.testing.assert_allclose(softmax(logits, temperature=temperature)[:, 0], first, rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize("n", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_the_number_of_crops_changes_no_result(predictor: Predictor, n: int) -> None:
    crops = random_crops(n, 48, 48)
    one_by_one = np.concatenate([predictor.predict(crop[None]) for crop in crops])
    np.testing.assert_allclose(predictor.predict(crops), one_by_one, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 48, 48), (0, 48, 48, 3), (0, 10, 20)])
def test_no_crops(predictor: Predictor, shape: tuple[int, ...]) -> None:
    assert predictor.predict(np.empty(shape, np.uint8)).shape == (0, 7)
    with pytest.raises(ValueError, match="at least one"):
        predictor.predict_with_features(np.empty(shape, np.uint8))


def test_grey_as_rgb_is_the_same(predictor: Predictor) -> None:
    crops = random_crops(4, 48, 48)
    rgb = np.repeat(crops[..., None], 3, axis=3)
    np.testing.assert_allclose(predictor.predict(rgb), predictor.predict(crops), atol=1e-6)


@pytest.mark.parametrize(
    "crops",
    [
        pytest.param(np.zeros((2, 48, 48), np.float32), id="floats"),
        pytest.param(np.zeros((48, 48), np.uint8), id="no batch axis"),
        pytest.param(np.zeros((2, 48, 48, 4), np.uint8), id="RGBA"),
        pytest.param(np.zeros((0, 48, 48, 4), np.uint8), id="empty, but RGBA"),
    ],
)
def test_wrong_crops(predictor: Predictor, crops: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="crops are uint8"):
        predictor.predict(crops)


def test_crops_without_pixels(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="no pixels"):
        predictor.predict(np.zeros((1, 0, 48), np.uint8))


def test_path_text_and_bytes_are_the_same_model(tiny_onnx: Path) -> None:
    crops = random_crops(2, 48, 48)
    predictors = [Predictor(source, threads=1) for source in (tiny_onnx, str(tiny_onnx), tiny_onnx.read_bytes())]
    for predictor in predictors:
        assert predictor.info.sha256 == hashlib.sha256(tiny_onnx.read_bytes()).hexdigest()
        np.testing.assert_array_equal(predictor.predict(crops), predictors[0].predict(crops))


def test_info(predictor: Predictor) -> None:
    assert predictor.info.to_dict() == {
        "name": "tiny",
        "sha256": predictor.info.sha256,
        "temperature": 1.5,
        "threshold": 0.4,
        "precision": "fp32",
        "licence": "Apache-2.0",
        "provider": "cpu",
    }
    assert predictor.spec.input == InputSpec(mean=(0.5,), std=(0.25,))


def test_threads_share_one_predictor(predictor: Predictor) -> None:
    batches = [random_crops(5, 48, 48, seed=seed) for seed in range(16)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(predictor.predict, batches))
    for batch, probabilities in zip(batches, together, strict=True):
        np.testing.assert_array_equal(probabilities, predictor.predict(batch))


def test_memory_stays_flat(tiny_onnx: Path) -> None:
    """20,000 crops (46 MB) as one float32 batch would be 184 MB, and their feature maps 368 MB."""
    code = (
        "import resource, sys, numpy as np\n"
        "from mien.runtime.predictor import Predictor\n"
        "predictor = Predictor(sys.argv[1], threads=1)\n"
        "crops = np.zeros((20_000, 48, 48), np.uint8)\n"
        "predictor.predict(crops[:100])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "predictor.predict(crops)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = int(subprocess.run([sys.executable, "-c", code, tiny_onnx], check=True, capture_output=True).stdout)
    unit = 1 if sys.platform == "darwin" else 1024
    assert grown * unit < 80e6


@pytest.mark.skipif(sys.platform != "linux", reason="looks where ONNX Runtime keeps its files on Linux")
@pytest.mark.parametrize("first", ["mien", "onnxruntime"])
def test_onnx_runtime_reports_nothing(first: str, tiny_onnx: Path, tmp_path: Path) -> None:
    """What it would report gathers in files of the home folder; with ONNX Runtime imported first they are there."""
    code = f"import {first}, mien, sys; mien.load(sys.argv[1], detector='none')"
    hidden = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, tiny_onnx], env=environment, check=True)
    kept = [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
    if first == "mien":
        assert not kept
    elif not kept:
        pytest.skip("this ONNX Runtime reports nothing anyway, so the other case shows nothing")


QUOTAS = {
    "none": ({"cpu.max": "max 100000\n"}, 8),
    "two CPUs": ({"cpu.max": "200000 100000\n"}, 2),
    "one and a half": ({"cpu.max": "150000 100000\n"}, 2),
    "a tenth": ({"cpu.max": "10000 100000\n"}, 1),
    "more than there are": ({"cpu.max": "6400000 100000\n"}, 8),
    "version 1": ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    "version 1, none": ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    "no control group": ({}, 8),
}


@pytest.mark.parametrize(("files", "cpus"), QUOTAS.values(), ids=QUOTAS)
def test_available_cpus(files: dict[str, str], cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may run on eight CPUs, in a container whose files say what it may use of them."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cpus(tmp_path) == cpus


# --- models that do not fit -------------------------------------------------------------------------------------------


def changed(path: Path, change: Any) -> bytes:
    """The bytes of the model after `change(model)`."""
    model = onnx.load(path)
    change(model)
    return bytes(model.SerializeToString())


def set_spec(**values: Any) -> Any:
    spec = replace(tiny_spec(tiny_weights()["classifier"]), **values)
    return lambda model: helper.set_model_props(model, {bundle.KEY: bundle.to_json(spec)})


def no_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def damaged_metadata(model: onnx.ModelProto) -> None:
    helper.set_model_props(model, {bundle.KEY: "{"})


def newer_metadata(model: onnx.ModelProto) -> None:
    helper.set_model_props(model, {bundle.KEY: '{"format": 99}'})


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = model.graph.node[-1].output[0] = "scores"


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 16


def nan_weights(model: onnx.ModelProto) -> None:
    bias = next(entry for entry in model.graph.initializer if entry.name == "classifier_bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(7, np.nan, np.float32), "classifier_bias"))


UNFIT = {
    "no metadata": (no_metadata, "no mien metadata.*mien export"),
    "damaged metadata": (damaged_metadata, "damaged mien metadata"),
    "newer metadata": (newer_metadata, "newer mien"),
    "other input size": (set_spec(input=InputSpec(size_hw=(64, 64))), r"\[1, 48, 48\], its metadata say \[1, 64, 64\]"),
    "other channels": (set_spec(input=InputSpec(channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)), r"say \[3, 48, 48\]"),
    "other number of labels": (set_spec(labels=("happy", "sad")), "7 classes, its metadata name 2"),
    "other output": (rename_output, "`images` and `logits`"),
    "fixed batch of 16": (fixed_batch, "exactly 16 images"),
}


@pytest.mark.parametrize(("change", "words"), UNFIT.values(), ids=UNFIT)
def test_unfit_models(tiny_onnx: Path, tmp_path: Path, change: Any, words: str) -> None:
    path = tmp_path / "unfit.onnx"
    path.write_bytes(changed(tiny_onnx, change))
    with pytest.raises(ModelError, match=words) as refusal:
        Predictor(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_values_that_are_not_finite(tiny_onnx: Path) -> None:
    predictor = Predictor(changed(tiny_onnx, nan_weights), threads=1)
    with pytest.raises(ModelError, match="not finite"):
        predictor.predict(random_crops(1, 48, 48))


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07\x12"], ids=["empty", "text", "cut short"])
def test_corrupt_files(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "corrupt.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"corrupt\.onnx is no ONNX model.*mien export") as refusal:
        Predictor(path)
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr().err == ""


def test_a_model_cut_in_half(tiny_onnx: Path) -> None:
    data = tiny_onnx.read_bytes()
    with pytest.raises(ModelError):
        Predictor(data[: len(data) // 2])


@pytest.mark.parametrize(("name", "words"), [("missing.onnx", "no such model file"), (".", "is a folder")])
def test_paths(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Predictor(tmp_path / name)


def test_a_batch_axis_of_one_is_served_one_by_one(tmp_path: Path) -> None:
    def one(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        for output in model.graph.output:
            output.type.tensor_type.shape.dim[0].dim_value = 1

    path = write_tiny_model(tmp_path / "tiny.onnx")
    crops = random_crops(3, 48, 48)
    np.testing.assert_allclose(Predictor(changed(path, one)).predict(crops), Predictor(path).predict(crops), atol=1e-6)


def test_no_features(tiny_onnx: Path) -> None:
    predictor = Predictor(changed(tiny_onnx, lambda model: model.graph.output.pop()), threads=1)
    assert not predictor.has_features
    with pytest.raises(ModelError, match="no feature maps"):
        predictor.predict_with_features(random_crops(1, 48, 48))
