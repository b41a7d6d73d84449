"""Files of the layout that keras-vggface publishes, with random weights."""

from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

Arrays = dict[str, list[tuple[str, NDArray[np.float32]]]]


def _shapes(*, squeeze: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Convolutions of keras-vggface's ResNet-50 or SENet-50 and the shapes (h, w, in, out) of their kernels."""
    yield "conv1/7x7_s2", (7, 7, 3, 64)
    inputs = 64
    for stage, (blocks, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), 2):
        for block in range(1, blocks + 1):
            name = f"conv{stage}_{block}"
            yield f"{name}_1x1_reduce", (1, 1, inputs, width)
            yield f"{name}_3x3", (3, 3, width, width)
            yield f"{name}_1x1_increase", (1, 1, width, 4 * width)
            if squeeze:
                yield f"{name}_1x1_down", (1, 1, 4 * width, width // 4)
                yield f"{name}_1x1_up", (1, 1, width // 4, 4 * width)
            if block == 1:
                yield f"{name}_1x1_proj", (1, 1, inputs, 4 * width)
            inputs = 4 * width


def keras_arrays(*, squeeze: bool, seed: int = 0) -> Arrays:
    """Arrays of each layer by their names in the file; kernels keep the variance, so that no map dies out."""
    generator = np.random.default_rng(seed)
    layers: Arrays = {"input_1": []}
    for name, shape in _shapes(squeeze=squeeze):
        spread = np.sqrt(2 / np.prod(shape[:3]))
        kernel = (generator.standard_normal(shape, np.float32) * spread).astype(np.float32)
        layers[name] = [(f"{name}/kernel:0", kernel)]
        outputs = shape[3]
        if name.endswith(("_down", "_up")):
            layers[name].append((f"{name}/bias:0", generator.standard_normal(outputs).astype(np.float32)))
            continue
        parts = [
            ("gamma", generator.uniform(0.5, 1.5, outputs)),
            ("beta", generator.normal(0, 0.1, outputs)),
            ("moving_mean", generator.normal(0, 0.1, outputs)),
            ("moving_variance", generator.uniform(0.5, 1.5, outputs)),
        ]
        layers[f"{name}/bn"] = [(f"{name}/bn/{part}:0", value.astype(np.float32)) for part, value in parts]
    layers["avg_pool"] = []
    return layers


def write_keras(path: Path, layers: Arrays) -> Path:
    """As Keras' `save_weights`: a group for each layer with the list of its arrays."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        file.attrs["backend"] = b"tensorflow"
        for name, arrays in layers.items():
            group = file.require_group(name)
            group.attrs["weight_names"] = [weight.encode() for weight, _ in arrays]
            for weight, value in arrays:
                group[weight] = value
    return path


@pytest.fixture(scope="session")
def vggface2(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Arrays]]:
    """File and arrays for `resnet50` or `senet50`, made once each."""
    made: dict[str, tuple[Path, Arrays]] = {}

    def make(model: str) -> tuple[Path, Arrays]:
        if model not in made:
            layers = keras_arrays(squeeze=model == "senet50")
            made[model] = write_keras(tmp_path_factory.mktemp("keras") / f"{model}.h5", layers), layers
        return made[model]

    return make
