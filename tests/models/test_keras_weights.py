"""VGGFace2's weights in Keras' files, checked against the same arithmetic written with plain NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.models.conftest import Arrays, write_keras

from mien import models
from mien.errors import ModelError
from mien.models import keras_weights

Maps = NDArray[np.float32]  # (H, W, C), as TensorFlow has them
EPS = {"resnet50": 1e-3, "senet50": 1e-4}  # Keras' default, and what keras-vggface's SENet sets
Files = Callable[[str], tuple[Path, Arrays]]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "same": the odd pixel goes to the end."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def conv(maps: Maps, kernel: Maps, *, stride: int = 1) -> Maps:
    """2-d convolution with "same" padding, one tap at a time."""
    side = kernel.shape[0]
    pad = [same_padding(n, side, stride) for n in maps.shape[:2]]
    padded = np.pad(maps, (*pad, (0, 0)))
    height, width = (-(-n // stride) for n in maps.shape[:2])
    out = np.zeros((height, width, kernel.shape[3]), np.float32)
    for i in range(side):
        for j in range(side):
            taken = padded[i : i + stride * height : stride, j : j + stride * width : stride][:height, :width]
            out += taken @ kernel[i, j]
    return out


def norm(maps: Maps, arrays: list[Any], eps: float) -> Maps:
    gamma, beta, mean, variance = (value for _, value in arrays)
    return (maps - mean) / np.sqrt(variance + eps) * gamma + beta


def relu(maps: Maps) -> Maps:
    return np.maximum(maps, 0)


def pool(maps: Maps) -> Maps:
    """3 x 3 maximum of stride 2, "valid"."""
    height, width = ((n - 3) // 2 + 1 for n in maps.shape[:2])
    return np.max(
        [maps[i : i + 2 * height : 2, j : j + 2 * width : 2][:height, :width] for i in range(3) for j in range(3)], 0
    )


def block(maps: Maps, layers: Arrays, name: str, *, stride: int, eps: float, squeeze: bool) -> Maps:
    """A projecting block: the stride is in the first 1 x 1 convolution."""

    def layer(x: Maps, part: str, step: int = 1) -> Maps:
        full = f"{name}_{part}"
        return norm(conv(x, layers[full][0][1], stride=step), layers[f"{full}/bn"], eps)

    x = relu(layer(maps, "1x1_reduce", stride))
    x = layer(relu(layer(x, "3x3")), "1x1_increase")
    if squeeze:
        (_, down), (_, down_bias) = layers[f"{name}_1x1_down"]
        (_, up), (_, up_bias) = layers[f"{name}_1x1_up"]
        gate = relu(x.mean((0, 1)) @ down[0, 0] + down_bias) @ up[0, 0] + up_bias
        x = x / (1 + np.exp(-gate))
    return relu(x + layer(maps, "1x1_proj", stride))


@pytest.mark.parametrize("model", ["resnet50", "senet50"])
@pytest.mark.parametrize("side", [pytest.param(33, id="odd"), pytest.param(64, id="even, as 224")])
def test_stem_and_strided_block_equal_numpy(vggface2: Files, model: str, side: int) -> None:
    path, layers = vggface2(model)
    network: Any = models.create(model, layout="keras").eval()
    keras_weights.load(network.backbone, path)
    backbone = network.backbone
    image = np.random.default_rng(1).uniform(-1, 1, (side, side, 3)).astype(np.float32)
    maps = relu(norm(conv(image, layers["conv1/7x7_s2"][0][1], stride=2), layers["conv1/7x7_s2/bn"], EPS[model]))
    squeeze = model == "senet50"
    expected = block(pool(maps), layers, "conv2_1", stride=1, eps=EPS[model], squeeze=squeeze)
    strided = block(expected, layers, "conv3_1", stride=2, eps=EPS[model], squeeze=squeeze)
    with torch.inference_mode():
        x = torch.from_numpy(image.transpose(2, 0, 1)[None])
        if model == "resnet50":
            x = backbone.maxpool(backbone.act1(backbone.bn1(backbone.conv1(x))))
        else:
            x = backbone.pool0(backbone.layer0(x))
        found = backbone.layer1[0](x)
        found_strided = backbone.layer2[0](found)
    for maps_found, maps_expected in ((found, expected), (found_strided, strided)):
        ours = maps_found[0].numpy().transpose(1, 2, 0)
        assert ours.shape == maps_expected.shape
        assert np.abs(ours - maps_expected).max() < 1e-3 * np.abs(maps_expected).max()


def test_whole_network_is_finite_and_reads_every_layer(vggface2: Files) -> None:
    path, layers = vggface2("senet50")
    assert keras_weights.read(path).keys() == {name for name, arrays in layers.items() if arrays}
    network: Any = models.create("senet50", layout="keras").eval()
    keras_weights.load(network.backbone, path)
    with torch.inference_mode():
        features = network.backbone(torch.zeros(1, 3, 197, 197))
    assert features.shape == (1, 2048, 7, 7)  # what keras-vggface's 7 x 7 average pooling needs
    assert features.isfinite().all()


@pytest.fixture(scope="module")
def empty() -> Any:
    return models.create("resnet50", layout="keras")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"conv5_3_3x3": None}, "no layer 'conv5_3_3x3'", id="layer missing"),
        pytest.param({"conv9": [("conv9/kernel:0", np.zeros((1, 1, 1, 1), np.float32))]}, "lacks", id="layer too many"),
        pytest.param(
            {"conv1/7x7_s2": [("k", np.zeros((3, 3, 3, 64), np.float32))]}, "not \\[\\(64, 3, 7, 7", id="shape"
        ),
    ],
)
def test_other_networks_are_refused(
    vggface2: Files, empty: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    _, layers = vggface2("resnet50")
    changed = {name: arrays for name, arrays in {**layers, **change}.items() if arrays is not None}
    with pytest.raises(ModelError, match=message):
        keras_weights.load(empty.backbone, write_keras(tmp_path / "changed.h5", changed))


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "no.h5").write_bytes(b"no HDF5")
    with pytest.raises(ModelError, match="damaged"):
        keras_weights.read(tmp_path / "no.h5")
    with pytest.raises(ModelError, match="releases/tag"):
        keras_weights.read(tmp_path / "absent.h5")
