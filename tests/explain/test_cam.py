from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mien.datasets.packed import Split
from mien.errors import ModelError
from mien.explain.cam import cam_map, cam_maps, class_evidence
from mien.explain.gradients import TorchPredictor
from mien.preprocess import network_input
from mien.runtime.predictor import Predictor
from tests.tiny_model import tiny_weights


def test_mean_of_the_map_is_the_logit_minus_bias(tiny_onnx: Path, cartoon_faces: Split) -> None:
    predictor = Predictor(tiny_onnx)
    _, features = predictor.predict_with_features(cartoon_faces.images)
    evidence = class_evidence(features, predictor.spec.classifier_weights())
    expected = predictor.logits(cartoon_faces.images) - tiny_weights()["classifier_bias"]
    assert np.allclose(evidence.mean((2, 3)), expected, atol=1e-4)


def test_agrees_with_torch(tiny_onnx: Path, tiny_predictor: TorchPredictor, crop: NDArray[np.uint8]) -> None:
    """The map from the exported features is torch's: weights times features, position by position."""
    net = tiny_predictor.network
    with torch.no_grad():
        features = net.forward_features(torch.from_numpy(network_input(crop[None], tiny_predictor.spec.input)))
        direct = torch.stack([(w[:, None, None] * features[0]).sum(0) for w in net.classifier.weight])
        grown = torch.nn.functional.interpolate(direct[None], (48, 48), mode="bilinear", align_corners=False)[0]
    for heatmap, expected in zip(cam_maps(Predictor(tiny_onnx), crop), grown.numpy(), strict=True):
        assert np.allclose(heatmap.values * heatmap.scale, expected, atol=1e-4 * heatmap.scale)
    for served, ours in zip(cam_maps(Predictor(tiny_onnx), crop), cam_maps(tiny_predictor, crop), strict=True):
        assert np.allclose(served.values, ours.values, atol=1e-4)
        assert served.probability == pytest.approx(ours.probability, abs=1e-5)


def test_one_forward_pass(
    tiny_predictor: TorchPredictor, crop: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    forward = tiny_predictor.network.forward_features
    monkeypatch.setattr(tiny_predictor.network, "forward_features", lambda images: calls.append(1) or forward(images))
    cam_maps(tiny_predictor, crop)
    assert calls == [1]


def test_without_global_pooling_it_offers_occlusion(dense_predictor: TorchPredictor, crop: NDArray[np.uint8]) -> None:
    with pytest.raises(ModelError, match=r"CAM is not available for dense.*no global pooling.*use occlusion"):
        cam_map(dense_predictor, crop, "happy")


def test_unknown_label(tiny_predictor: TorchPredictor, crop: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="'bored' is no label of the model: use one of angry"):
        cam_map(tiny_predictor, crop, "bored")


def test_features_and_weights_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(N, C, h, w\) and \(K, C\)"):
        class_evidence(np.zeros((1, 8, 3, 3), np.float32), np.zeros((7, 9), np.float32))
