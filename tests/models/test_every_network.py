"""Every registered network: builds, learns, freezes, is saved and comes back, exports to the same function."""

import copy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mien import models
from mien.bundle import ModelSpec
from mien.errors import ModelError
from mien.export import exporter
from mien.labels import FER7
from mien.models import pretrained
from mien.models.counts import count_parameters
from mien.preprocess import InputSpec
from mien.training import checkpoint, run
from mien.training.checkpoint import Checkpoint
from mien.training.recipe import Recipe

PARAMETERS = {
    "baseline": 1_199_495,
    "cbam": 2_819_079,
    "lhc": 3_687_721,
    "lite0": 3_379_399,
    "resnet18-narrow": 2_796_263,
    "resnet18-se": 11_260_351,
    "resnet34-se": 21_440_627,
    "resnet50": 36_103_239,
    "resnet9-narrow": 1_626_439,
    "resnet9-tiny": 407_719,
    "senet50": 38_634_231,
    "timm:resnet18": 11_180_103,
    "vgg": 23_595_207,
    "vgg-modern": 4_689_735,
    "vgg-narrow": 1_174_439,
}
SMALL = {"resnet50": 64, "senet50": 64, "lite0": 64, "timm:resnet18": 64}  # what keeps this quick
SIZES = {"baseline": 48, "vgg": 48, "lhc": 48, **SMALL}  # others pool globally, and take 32


def test_the_table_is_complete() -> None:
    assert {name for name in PARAMETERS if ":" not in name} == set(models.names())


@pytest.mark.parametrize(("option", "message"), [
    ({"channels": 3}, "vgg-narrow: channels is for networks of timm: leave it out"),
    ({"keras": True}, "vgg-narrow: keras is for other networks: leave it out"),
    ({"dropout": -1.0}, "vgg-narrow: dropout"),
])  # fmt: skip
def test_options_that_a_network_has_not(option: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        models.create("vgg-narrow", **option)


@pytest.fixture(scope="module", params=PARAMETERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def spec(name: str) -> InputSpec:
    side = SIZES.get(name, 32)
    return replace(models.info(name).input, size_hw=(side, side))


@pytest.fixture(scope="module")
def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    made = models.create(name)
    for layer in made.modules():  # blocks that start as their shortcut would hide their weights from these tests
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
    return made


def images(spec: InputSpec, n: int = 4) -> torch.Tensor:
    return torch.randn(n, spec.channels, *spec.size_hw, generator=torch.Generator().manual_seed(1))


def test_parameters(name: str, network: nn.Module) -> None:
    assert count_parameters(network) == PARAMETERS[name]


def test_forward_and_backward(network: nn.Module, spec: InputSpec) -> None:
    network.train()
    logits = network(images(spec))
    assert logits.shape == (4, 7)
    nn.functional.cross_entropy(logits, torch.tensor([0, 3, 5, 6])).backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    network.zero_grad()
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values() if gradient.ndim > 1)


def test_last_map_and_classifier(network: nn.Module, spec: InputSpec) -> None:
    if not getattr(network, "global_pooling", False):
        pytest.skip("its head is more than one dense layer")
    network.eval()
    with torch.inference_mode():
        features = network.forward_features(images(spec))
        by_hand = features.mean((2, 3)) @ network.classifier.weight.T + network.classifier.bias
        assert torch.allclose(network(images(spec)), by_hand, atol=1e-4)


def test_freezing(network: nn.Module, spec: InputSpec) -> None:
    frozen = copy.deepcopy(network).train()
    pretrained.freeze(frozen, 6)
    norms = {id(p) for m in frozen.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    still = {name for name, p in frozen.named_parameters() if not p.requires_grad}
    first = next(iter(dict(frozen.named_parameters())))
    assert first in still
    assert not any(id(p) in norms for p in frozen.parameters() if not p.requires_grad)
    assert not still & {f"{head}weight" for head in pretrained.head_names(frozen)}
    before = {name: p.detach().clone() for name, p in frozen.named_parameters()}
    optimizer = torch.optim.SGD([p for p in frozen.parameters() if p.requires_grad], 0.1)
    frozen(images(spec)).square().sum().backward()
    optimizer.step()
    moved = {name for name, p in frozen.named_parameters() if not torch.equal(p, before[name])}
    assert not moved & still
    assert moved


def test_checkpoint_round_trip(network: nn.Module, name: str, spec: InputSpec, tmp_path: Path) -> None:
    about = {
        "name": name,
        "recipe": Recipe(model=name).to_dict(),
        "labels": list(FER7),
        "input": asdict(spec),
        "data": {"provenance": {"protocol": "icml"}},
        "versions": {},
        "device": "cpu",
    }
    state = network.state_dict()
    whole = Checkpoint(about, state, None, {}, {}, {}, epoch=1, step=1, sums={}, best=0.5, history=[])
    checkpoint.save(whole, tmp_path / "last.pt")
    loaded, found = run.load_model(tmp_path / "last.pt")
    (tmp_path / "last.pt").unlink()  # up to 155 MB
    assert found.input == spec
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


def test_export_gives_the_same_probabilities(network: nn.Module, name: str, spec: InputSpec, tmp_path: Path) -> None:
    exported = exporter.export(network.eval(), ModelSpec(name=name, labels=FER7, input=spec), tmp_path / "m.onnx")
    (tmp_path / "m.onnx").unlink()
    assert exported.parity.max_difference < 1e-4
    weights = exported.spec.classifier_weights()
    if getattr(network, "global_pooling", False):
        assert weights is not None
        assert np.array_equal(weights, network.classifier.weight.detach().numpy())
    else:
        assert weights is None
