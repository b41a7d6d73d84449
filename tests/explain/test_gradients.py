from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mien import errors
from mien.bundle import ModelSpec
from mien.datasets.packed import Split
from mien.errors import MissingExtraError, ModelError
from mien.explain.cam import class_evidence
from mien.explain.gradients import (
    GRADIENT_METHODS,
    TorchPredictor,
    gradcam_map,
    integrated_gradients_map,
    last_spatial_layer,
    saliency_map,
    smoothgrad_map,
)
from mien.explain.heatmap import METHODS, from_raw
from mien.labels import FER7
from mien.preprocess import InputSpec, network_input
from mien.runtime.predictor import Predictor

HAPPY = FER7.index("happy")


def score(predictor: TorchPredictor, images: torch.Tensor) -> float:
    with torch.no_grad():
        return float(predictor.network(images)[0, HAPPY])


def test_saliency_is_the_slope_of_the_score(tiny_predictor: TorchPredictor, crop: NDArray[np.uint8]) -> None:
    """Against central differences, pixel by pixel, in double precision."""
    found = saliency_map(tiny_predictor, crop, "happy")
    tiny_predictor.network.double()
    images = torch.from_numpy(network_input(crop[None], tiny_predictor.spec.input)).double()
    for y, x in np.random.default_rng(0).integers(1, 47, (12, 2)):
        up, down = images.clone(), images.clone()
        up[0, 0, y, x] += 1e-5
        down[0, 0, y, x] -= 1e-5
        slope = (score(tiny_predictor, up) - score(tiny_predictor, down)) / 2e-5
        assert found.values[y, x] * found.scale == pytest.approx(abs(slope), rel=1e-3, abs=1e-5)


def test_saliency_takes_the_largest_channel(crop: NDArray[np.uint8]) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 48, 7))
    spec = ModelSpec(name="rgb", labels=FER7, input=InputSpec(channels=3, mean=(0.5,) * 3, std=(0.5,) * 3))
    found = saliency_map(TorchPredictor(net, spec), crop, "happy")
    weights = net[1].weight[HAPPY].detach().abs().reshape(3, 48, 48).amax(0).numpy()
    assert np.allclose(found.values * found.scale, weights, rtol=1e-5)


def test_smoothgrad_without_noise_is_saliency(tiny_predictor: TorchPredictor, crop: NDArray[np.uint8]) -> None:
    smooth = smoothgrad_map(tiny_predictor, crop, "happy", samples=2, noise_ratio=0.0)
    assert np.allclose(smooth.values, saliency_map(tiny_predictor, crop, "happy").values, atol=1e-5)


def test_smoothgrad_repeats_and_leaves_the_random_state(
    tiny_predictor: TorchPredictor, crop: NDArray[np.uint8]
) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (smoothgrad_map(tiny_predictor, crop, "happy", samples=8, seed=seed) for seed in (0, 0, 1))
    assert (torch.random.get_rng_state() == state).all()
    assert (first.values == again.values).all()
    assert (first.values != other.values).any()


def test_gradcam_is_the_positive_cam_under_global_pooling(
    tiny_predictor: TorchPredictor, crop: NDArray[np.uint8]
) -> None:
    _, features = tiny_predictor.predict_with_features(crop[None])
    evidence = class_evidence(features, tiny_predictor.spec.classifier_weights())[0]
    for index, label in enumerate(FER7):
        found = gradcam_map(tiny_predictor, crop, label)
        positive = np.clip(evidence[index], 0, None) / (24 * 24)  # the mean's gradient spreads over the positions
        expected = from_raw(positive, crop_hw=(48, 48), label=label, method="gradcam", probability=None)
        assert found.scale == pytest.approx(expected.scale, rel=1e-4)
        assert np.allclose(found.values, expected.values, atol=1e-4)


def test_integrated_gradients_are_complete(tiny_predictor: TorchPredictor, crop: NDArray[np.uint8]) -> None:
    found = integrated_gradients_map(tiny_predictor, crop, "happy", steps=200)
    spec = tiny_predictor.spec.input
    images = [torch.from_numpy(network_input(c[None], spec)) for c in (crop, np.full_like(crop, 128))]
    difference = score(tiny_predictor, images[0]) - score(tiny_predictor, images[1])
    assert float((found.values * found.scale).sum()) == pytest.approx(difference, rel=0.02, abs=0.02)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_every_method_leaves_the_network_as_it_was(
    method: str, dense_predictor: TorchPredictor, crop: NDArray[np.uint8]
) -> None:
    before = {name: tensor.clone() for name, tensor in dense_predictor.network.state_dict().items()}
    rgb = np.repeat(crop[..., None], 3, axis=2)
    grey, colour = (dense_predictor.gradient_map(c, "sad", method=method) for c in (crop, rgb))
    assert grey.values.shape == (48, 48)
    assert np.allclose(grey.values, colour.values, atol=1e-6)
    assert (grey.method, grey.label) == (method, "sad")
    assert all(p.requires_grad and p.grad is None for p in dense_predictor.network.parameters())
    assert all((before[name] == tensor).all() for name, tensor in dense_predictor.network.state_dict().items())


def test_methods_that_need_a_run_are_these() -> None:
    assert set(GRADIENT_METHODS) == {name for name, method in METHODS.items() if method.needs_run}


@pytest.mark.parametrize("explain", GRADIENT_METHODS.values(), ids=GRADIENT_METHODS)
def test_unknown_label(explain: Callable[..., object], tiny_predictor: TorchPredictor, crop: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="'bored' is no label"):
        explain(tiny_predictor, crop, "bored")


def test_predicts_as_the_exported_model(tiny_predictor: TorchPredictor, tiny_onnx: Path, cartoon_faces: Split) -> None:
    images = cartoon_faces.images
    served = Predictor(tiny_onnx)
    assert np.allclose(tiny_predictor.predict(images), served.predict(images), atol=1e-5)
    ours, theirs = tiny_predictor.predict_with_features(images), served.predict_with_features(images)
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))


def test_last_spatial_layer_counts_the_skip_connection() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.relu(images + self.inner(images))

    block = Residual()
    net = nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 7))
    assert last_spatial_layer(net, torch.zeros(1, 1, 8, 8)) is block


def test_gradcam_needs_a_map(crop: NDArray[np.uint8]) -> None:
    predictor = TorchPredictor(nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, 7)), ModelSpec(name="flat", labels=FER7))
    with pytest.raises(ModelError, match=r"no spatial feature map.*use occlusion"):
        gradcam_map(predictor, crop, "happy")


def test_missing_captum_names_the_extra(
    tiny_predictor: TorchPredictor, crop: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(errors, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[train\]'"):
        saliency_map(tiny_predictor, crop, "happy")
