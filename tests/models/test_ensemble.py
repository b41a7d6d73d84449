"""Ensembles: in torch and as one .onnx, against the members' probabilities averaged by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from mien import bundle
from mien.bundle import ModelSpec
from mien.errors import ModelError
from mien.export import onnx as graphs
from mien.labels import FER7
from mien.models import ensemble_onnx
from mien.models.ensemble import Ensemble, joint_spec
from mien.models.vgg import PooledConvNet
from mien.preprocess import InputSpec
from mien.runtime.predictor import Predictor

LARGER = InputSpec(size_hw=(64, 64), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), bgr=True)
SMALLER = InputSpec(size_hw=(32, 32), mean=(0.5,), std=(0.25,))

Members = list[tuple[Any, ModelSpec]]


def tiny(channels: int) -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(channels, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    return PooledConvNet(layers, 8, num_classes=7, dropout=0.0)


@pytest.fixture(scope="module")
def members() -> Members:
    """Networks of three sizes, one of them for BGR, with temperatures of their own."""
    torch.manual_seed(0)
    made = [
        (tiny(1), ModelSpec(name="own", labels=FER7, temperature=0.1)),
        (tiny(3), ModelSpec(name="larger", labels=FER7, input=LARGER, temperature=0.7)),
        (tiny(1), ModelSpec(name="smaller", labels=FER7, input=SMALLER, licence="other")),
    ]
    return [(network.eval(), spec) for network, spec in made]


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(5, 1, 48, 48, generator=torch.Generator().manual_seed(1))


def by_hand(members: Members, pixels: torch.Tensor, weights: list[float]) -> np.ndarray[Any, Any]:
    """One picture after the other through OpenCV (which antialiases by area where a size halves or not at all)."""
    rows = []
    for picture in pixels[:, 0].numpy():
        total = np.zeros(7)
        for (network, spec), weight in zip(members, weights, strict=True):
            size = spec.input.size_hw
            resized = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)
            channels = np.repeat(resized[None], spec.input.channels, 0)
            mean, std = (np.array(v, np.float32)[:, None, None] for v in (spec.input.mean, spec.input.std))
            with torch.inference_mode():
                logits = network(torch.from_numpy((channels - mean) / std)[None]).numpy()[0] / spec.temperature
            powers = np.exp(logits - logits.max())
            total += weight * powers / powers.sum()
        rows.append(total / sum(weights))
    return np.array(rows)


def test_mean_of_probabilities(members: Members, pixels: torch.Tensor) -> None:
    """Without the shrinking member, whose antialiasing OpenCV has no like of."""
    with torch.inference_mode():
        found = Ensemble(members[:2], [1, 3])(pixels).softmax(1).numpy()
    assert np.abs(found - by_hand(members[:2], pixels, [1, 3])).max() < 1e-4


def test_one_file_gives_the_same(members: Members, pixels: torch.Tensor, tmp_path: Path) -> None:
    built = [graphs.build(network, spec) for network, spec in members]
    merged = ensemble_onnx.merge(built, [1, 2, 1])
    onnx.checker.check_model(merged, full_check=True)
    spec = joint_spec([spec for _, spec in members], [1, 2, 1], name="three")
    predictor = Predictor(graphs.with_spec(merged, spec).SerializeToString())
    crops = (pixels[:, 0].numpy() * 255).astype(np.uint8)
    with torch.inference_mode():
        expected = Ensemble(members, [1, 2, 1])(torch.from_numpy(crops[:, None] / np.float32(255))).softmax(1).numpy()
    assert np.abs(predictor.predict(crops) - expected).max() < 1e-4
    assert predictor.predict(crops[:1]).shape == (1, 7)
    assert predictor.spec.licence == "unknown; other"
    assert [one["share"] for one in predictor.spec.training["members"]] == [0.25, 0.5, 0.25]


def test_int8_and_older_opsets_join(tiny_onnx: Path) -> None:
    """A member of another opset is brought to the common one."""
    tiny = onnx.load(tiny_onnx)
    spec = bundle.from_json({entry.key: entry.value for entry in tiny.metadata_props}[bundle.KEY], source="tiny")
    newer = onnx.version_converter.convert_version(tiny, 20)
    merged = ensemble_onnx.merge([(tiny, spec), (newer, spec)])
    joined = Predictor(graphs.with_spec(merged, joint_spec([spec, spec])).SerializeToString())
    crops = np.random.default_rng(0).integers(0, 256, (3, 48, 48)).astype(np.uint8)
    assert np.abs(joined.predict(crops) - Predictor(tiny_onnx).predict(crops)).max() < 1e-5


@pytest.mark.parametrize(
    ("change", "weights", "message"),
    [
        pytest.param({"labels": ("a", "b")}, None, "same labels", id="labels"),
        pytest.param({}, [1.0], "each of the 2", id="a weight too few"),
        pytest.param({}, [1.0, -1.0], "not negative", id="negative"),
        pytest.param({}, [0.0, 0.0], "not negative", id="nothing left"),
        pytest.param({}, [np.inf, 1.0], "a finite one", id="infinite"),
        pytest.param({}, [np.nan, 1.0], "a finite one", id="no number"),
        pytest.param({}, [1e308, 1e308], "a finite one", id="an infinite sum"),
    ],
)
def test_refusals(members: Members, change: dict[str, Any], weights: list[float] | None, message: str) -> None:
    first, spec = members[0]
    with pytest.raises(ModelError, match=message):
        Ensemble([(first, spec), (first, replace(spec, **change))], weights)


def test_no_members() -> None:
    with pytest.raises(ModelError, match="needs members"):
        Ensemble([])
