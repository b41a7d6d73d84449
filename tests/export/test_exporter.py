"""Exported files against the networks that they come from."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mien import bundle, hub
from mien.bundle import ModelSpec
from mien.datasets import packed
from mien.errors import ConfigError, DataError, ModelError
from mien.evaluation.evaluate import evaluate
from mien.export import exporter
from mien.export import onnx as graphs
from mien.export.exporter import Export, Faces
from mien.labels import FER7
from mien.preprocess import InputSpec, network_input
from mien.runtime.predictor import Predictor, softmax

Files = dict[str, Export]


@pytest.fixture(scope="session")
def files(pooled: nn.Module, pooled_spec: ModelSpec, faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The same network in the three precisions."""
    folder = tmp_path_factory.mktemp("exported")
    return {
        precision: exporter.export(pooled, pooled_spec, folder / f"{precision}.onnx", precision=precision, faces=faces)
        for precision in exporter.PRECISIONS
    }


def by_torch(model: nn.Module, spec: ModelSpec, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return model(torch.from_numpy(network_input(crops, spec.input))).numpy()


@pytest.mark.parametrize("n", [1, 5, 70])
def test_fp32_gives_the_networks_logits_at_any_batch(files: Files, pooled: nn.Module, faces: Faces, n: int) -> None:
    crops = np.ascontiguousarray(faces.validation.images[:n])
    predictor = Predictor(files["fp32"].path)
    expected = by_torch(pooled, predictor.spec, crops)
    np.testing.assert_allclose(predictor.logits(crops), expected, atol=1e-4)
    probabilities = softmax(expected, temperature=files["fp32"].spec.temperature)
    np.testing.assert_allclose(predictor.predict(crops), probabilities, atol=1e-5)


def test_the_file_carries_all_that_inference_needs(files: Files, pooled_spec: ModelSpec) -> None:
    spec = Predictor(files["fp32"].path).spec
    assert (spec.name, spec.labels, spec.input) == (pooled_spec.name, FER7, pooled_spec.input)
    assert spec.licence == "for tests only"
    assert spec.training == {"recipe": {"model": "taught"}}
    assert spec.temperature != 1.0
    assert spec.metrics["split"] == "validation"
    assert spec.metrics["parity"]["n"] == 70
    assert files["fp32"].sha256 == hub.sha256_of(files["fp32"].path)


def test_features_and_weights_rebuild_the_logits(files: Files, pooled: nn.Module, faces: Faces) -> None:
    crops = np.ascontiguousarray(faces.validation.images[:4])
    predictor = Predictor(files["fp32"].path)
    _, features = predictor.predict_with_features(crops)
    weights = predictor.spec.classifier_weights()
    assert features.shape == (4, 32, 6, 6)
    assert weights is not None
    bias = pooled.classifier.bias.detach().numpy()
    np.testing.assert_allclose(features.mean(axis=(2, 3)) @ weights.T + bias, predictor.logits(crops), atol=1e-4)


def test_batch_norm_is_folded_and_nothing_private_is_left(files: Files) -> None:
    graph = onnx.load(files["fp32"].path)
    assert {node.op_type for node in graph.graph.node} <= {"Conv", "Relu", "MaxPool", "ReduceMean", "Reshape", "Gemm"}
    assert [entry.key for entry in graph.metadata_props] == [bundle.KEY]
    assert graph.opset_import[0].version == graphs.OPSET
    content = files["fp32"].path.read_bytes()
    for private in (b"stack_trace", b"site-packages", str(Path.cwd()).encode()):
        assert private not in content


def test_temperature_and_threshold_are_the_validation_splits(files: Files, faces: Faces) -> None:
    spec = files["fp32"].spec
    predictor = Predictor(files["fp32"].path)
    found = evaluate(predictor.predict, faces.validation, labels=FER7).to_dict()
    assert spec.metrics["confusion"] == found["confusion"]
    for key in ("accuracy", "log_loss", "ece", "n"):
        assert spec.metrics[key] == pytest.approx(found[key], rel=1e-4)
    assert found["accuracy"] > 0.7  # the network has learnt something, so its decisions mean something
    confidence = predictor.predict(np.ascontiguousarray(faces.validation.images)).max(axis=1)
    assert (confidence >= spec.threshold - 1e-6).mean() == pytest.approx(0.8, abs=0.02)


def test_fp16_halves_the_weights_and_int8_quarters_them(files: Files) -> None:
    weights = {}
    for precision, done in files.items():
        tensors = onnx.load(done.path).graph.initializer
        weights[precision] = sum(len(tensor.raw_data) for tensor in tensors if np.prod(tensor.dims) > 64)
    assert weights["fp16"] == weights["fp32"] / 2
    assert weights["int8"] == pytest.approx(weights["fp32"] / 4, rel=0.15)  # its biases stay in 32 bits


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_small_precisions_decide_alike(files: Files, precision: str) -> None:
    done = files[precision]
    assert done.spec.precision == precision
    assert done.parity.equal_decisions >= 0.95
    assert done.fp32_accuracy == pytest.approx(files["fp32"].spec.metrics["accuracy"])
    assert done.spec.metrics["accuracy"] == pytest.approx(done.fp32_accuracy, abs=0.05)


def test_a_network_without_pooling_has_logits_only(flat: nn.Module, pooled_spec: ModelSpec, tmp_path: Path) -> None:
    done = exporter.export(flat, pooled_spec, tmp_path / "flat.onnx")
    predictor = Predictor(done.path)
    assert not predictor.has_features
    assert predictor.spec.cam_weights is None
    assert done.parity.crops == "random pictures"
    assert predictor.spec.temperature == 1.0  # no faces to fit it on


class Shifty(nn.Module):
    """Answers otherwise when it is traced: a network that ONNX cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48 * 48, 7)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.head(images.flatten(1))
        return 3 * logits if torch.compiler.is_compiling() else logits


def test_a_file_that_differs_is_not_written(pooled_spec: ModelSpec, tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match=r"differs from the network.*nothing was written"):
        exporter.export(Shifty().eval(), pooled_spec, tmp_path / "shifty.onnx")
    assert not list(tmp_path.iterdir())


class Unsayable(nn.Module):
    """Chooses its way by the pixels: no graph can hold that."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :7] if images.sum() > 0 else images.flatten(1)[:, 7:14]


def test_a_network_that_onnx_cannot_express_is_named(pooled_spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match="taught cannot be expressed in ONNX"):
        graphs.build(Unsayable(), pooled_spec)


def test_options_that_cannot_be_met(pooled: nn.Module, pooled_spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fp32, fp16, int8"):
        exporter.export(pooled, pooled_spec, tmp_path / "x.onnx", precision="int4")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--data"):
        exporter.export(pooled, pooled_spec, tmp_path / "x.onnx", precision="int8")


def test_nothing_is_calibrated_on_an_empty_split_and_the_test_split_stays_shut(cartoons: packed.Dataset) -> None:
    empty = packed.Dataset(FER7, {"train": cartoons.split("train"), "test": cartoons.split("train")})
    with pytest.raises(DataError, match="validation split is empty"):
        Faces.of(empty, FER7)


def test_rgb_networks_take_grey_crops(faces: Faces, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 7))
    rgb = InputSpec(size_hw=(64, 64), channels=3, mean=(0.5,) * 3, std=(0.2,) * 3)
    spec = ModelSpec(name="rgb", labels=FER7, input=rgb)
    done = exporter.export(model.eval(), spec, tmp_path / "rgb.onnx", faces=faces)
    assert done.parity.max_difference < 1e-5
