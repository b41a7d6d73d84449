"""A network that by construction looks at one corner only must light up that corner, for every method."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mien import bundle
from mien.bundle import ModelSpec
from mien.explain.checks import faithfulness
from mien.explain.explainer import ExplainablePredictor, explain
from mien.explain.gradients import TorchPredictor
from mien.explain.heatmap import METHODS, Heatmap
from mien.labels import FER7
from mien.preprocess import InputSpec
from mien.runtime.predictor import Predictor
from tests.explain.conftest import CORNER_PX

REACH_PX = 8  # of an occluding patch, and more than that of a 3 x 3 kernel and the enlargement


@pytest.fixture
def corner_onnx(tmp_path: Path) -> Predictor:
    """The corner network as a file that serving reads: mask, convolution, ReLU, mean, linear."""
    mask = np.zeros((1, 1, 48, 48), np.float32)
    mask[..., :CORNER_PX, :CORNER_PX] = 1
    classifier = np.zeros((len(FER7), 4), np.float32)
    classifier[FER7.index("happy")], classifier[FER7.index("angry")] = 12, -12
    kernel = np.random.default_rng(0).random((4, 1, 3, 3)).astype(np.float32) / 3
    weights = {"mask": mask, "kernel": kernel, "classifier": classifier, "bias": np.zeros(len(FER7), np.float32)}
    nodes = [
        helper.make_node("Mul", ["images", "mask"], ["masked"]),
        helper.make_node("Conv", ["masked", "kernel"], ["maps"], strides=[2, 2], pads=[1] * 4, kernel_shape=[3, 3]),
        helper.make_node("Relu", ["maps"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "classifier", "bias"], ["logits"], transB=1),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(FER7)]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 4, 24, 24]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 48, 48])
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "corner", [images], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    spec = ModelSpec(name="corner", labels=FER7, input=InputSpec(), cam_weights=bundle.encode_weights(classifier))
    helper.set_model_props(model, {bundle.KEY: bundle.to_json(spec)})
    path = tmp_path / "corner.onnx"
    onnx.save(model, path)
    return Predictor(path)


@pytest.fixture
def bright() -> NDArray[np.uint8]:
    """A crop lighter than occlusion's grey everywhere, so that every pixel of the corner speaks for happy."""
    return np.random.default_rng(0).integers(200, 256, (48, 48), np.uint8)


def assert_lights_the_corner(heatmap: Heatmap) -> None:
    strength = np.abs(heatmap.values)
    peak = np.unravel_index(heatmap.values.argmax(), heatmap.values.shape)
    assert max(peak) < CORNER_PX
    assert strength.max() > 0
    assert strength[CORNER_PX + REACH_PX :].max() == 0
    assert strength[:, CORNER_PX + REACH_PX :].max() == 0
    assert strength[:CORNER_PX, :CORNER_PX].sum() > 0.75 * strength.sum()


@pytest.mark.parametrize("method", METHODS)
def test_of_a_run(method: str, corner_predictor: TorchPredictor, bright: NDArray[np.uint8]) -> None:
    (heatmap,) = explain(corner_predictor, bright, ["happy"], method=method)
    assert_lights_the_corner(heatmap)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.needs_run])
def test_of_an_onnx_file(method: str, corner_onnx: Predictor, bright: NDArray[np.uint8]) -> None:
    (heatmap,) = explain(corner_onnx, bright, ["happy"], method=method)
    assert_lights_the_corner(heatmap)


@pytest.mark.parametrize("method", ["occlusion", "cam"])
def test_what_speaks_against_a_label_is_negative(
    method: str, corner_predictor: TorchPredictor, bright: NDArray[np.uint8]
) -> None:
    happy, angry = explain(corner_predictor, bright, ["happy", "angry"], method=method)
    for heatmap in (happy, angry):
        sign = 1 if heatmap.label == "happy" else -1
        assert sign * heatmap.values[:CORNER_PX, :CORNER_PX].sum() > 0


@pytest.mark.parametrize("method", METHODS)
def test_checks_find_it_better_than_chance(
    method: str, corner_predictor: TorchPredictor, bright: NDArray[np.uint8]
) -> None:
    """The corner is a ninth of the crop: once it is gone, the rest changes nothing."""
    predictor: ExplainablePredictor = corner_predictor
    (heatmap,) = explain(predictor, bright, ["happy"], method=method)
    deletion = faithfulness(predictor.predict, bright, heatmap).deletion
    drift = deletion.curve.probabilities
    assert drift[0] - drift[-1] > 0.05
    assert drift[8:] == pytest.approx(drift[-1], abs=0.01)  # after a third of the pixels it is over
    assert deletion.curve.auc < deletion.random_auc_mean - 2 * deletion.random_auc_sd
    assert deletion.curve.auc < deletion.centre.auc
