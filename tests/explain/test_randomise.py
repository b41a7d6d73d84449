from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from mien.errors import ModelError
from mien.explain.cam import cam_map
from mien.explain.checks import similarity
from mien.explain.gradients import TorchPredictor
from mien.explain.randomise import shuffled_networks, shuffled_onnx
from mien.runtime.predictor import Predictor
from tests.tiny_model import tiny_weights


def test_layers_from_the_logits_down(dense_predictor: TorchPredictor) -> None:
    original = {name: tensor.clone() for name, tensor in dense_predictor.network.state_dict().items()}
    stages = list(shuffled_networks(dense_predictor))
    assert [layer for layer, _ in stages] == ["4", "0"]  # the linear layer, then the convolution
    for name, changed in (("4.weight", (True, True)), ("0.weight", (False, True))):
        for (_, predictor), expected in zip(stages, changed, strict=True):
            found = predictor.network.state_dict()[name]
            assert bool((found != original[name]).any()) is expected
            assert sorted(found.flatten().tolist()) == sorted(original[name].flatten().tolist())
    assert all((dense_predictor.network.state_dict()[name] == tensor).all() for name, tensor in original.items())


def test_stages_gather_layers_and_the_seed_repeats(dense_predictor: TorchPredictor, crop: NDArray[np.uint8]) -> None:
    runs = [list(shuffled_networks(dense_predictor, stages=1, seed=seed)) for seed in (0, 0, 1)]
    assert [[layer for layer, _ in run] for run in runs] == [["0"]] * 3
    answers = [run[0][1].predict(crop[None]) for run in runs]
    assert (answers[0] == answers[1]).all()
    assert (answers[0] != answers[2]).any()


def test_onnx_cascade_is_that_of_torch(
    tiny_onnx: Path, tiny_predictor: TorchPredictor, crop: NDArray[np.uint8]
) -> None:
    """The same layers in the same order; and the class activation map follows the shuffled classifier."""
    stages = list(shuffled_onnx(tiny_onnx))
    assert [layer for layer, _ in stages] == ["classifier", "kernel"]
    assert [layer for layer, _ in shuffled_networks(tiny_predictor)] == ["classifier", "features.0"]
    original = Predictor(tiny_onnx)
    for _, predictor in stages:
        weights = predictor.spec.classifier_weights()
        assert (weights != original.spec.classifier_weights()).any()
        assert np.allclose(np.sort(weights, axis=None), np.sort(tiny_weights()["classifier"], axis=None))
        assert (predictor.predict(crop[None]) != original.predict(crop[None])).any()
    assert similarity(cam_map(original, crop, "happy"), cam_map(stages[-1][1], crop, "happy")) < 0.9


def test_quantised_weights_are_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_onnx)
    for entry in model.graph.initializer:
        entry.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(entry).astype(np.int8), entry.name))
    onnx.save(model, tmp_path / "int8.onnx")
    with pytest.raises(ModelError, match="no floating-point weights to shuffle: check the unquantised model"):
        next(shuffled_onnx(tmp_path / "int8.onnx"))
