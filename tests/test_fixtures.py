"""The fixtures are what they say: drawn faces can be learnt, the tiny model runs, the network is off."""

import socket
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression

from mien import bundle
from mien.datasets import packed
from mien.labels import FER7
from mien.preprocess import network_input
from tests import drawing
from tests.tiny_model import tiny_weights


def test_drawing_repeats_from_its_seed() -> None:
    first, again, other = (drawing.draw_split(2, seed=seed).images for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 5


@pytest.mark.parametrize("size_px", [24, 48, 150])
@pytest.mark.parametrize("emotion", FER7)
def test_face_has_its_size_and_contrast(emotion: str, size_px: int) -> None:
    face = drawing.draw_face(emotion, np.random.default_rng(0), size_px)
    assert (face.shape, face.dtype) == ((size_px, size_px), np.uint8)
    assert face.std() > 15


def test_drawn_emotions_can_be_told_apart_from_other_seeds() -> None:
    train, validation = drawing.draw_split(60, seed=1), drawing.draw_split(30, seed=2)

    def flat(split: packed.Split) -> NDArray[np.float64]:
        pixels = split.images.reshape(len(split), -1).astype(np.float64)
        return (pixels - pixels.mean(1, keepdims=True)) / pixels.std(1, keepdims=True)

    linear = LogisticRegression(C=1e-3, max_iter=500).fit(flat(train), train.labels)
    assert linear.score(flat(validation), validation.labels) > 0.85


def test_cartoon_dataset_loads(cartoon_dataset: Path) -> None:
    dataset = packed.load(cartoon_dataset)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 140, "validation": 70, "test": 0}
    votes = dataset.split("train").votes
    assert votes is not None
    assert (votes.sum(1) == 10).all()


@pytest.mark.fer2013
def test_fer2013_is_packed(fer2013_packed: Path) -> None:
    splits = packed.load(fer2013_packed).splits
    assert (len(splits["train"]), len(splits["validation"])) == (28_709, 3_589)


def test_portraits_are_photographs(grace_hopper: Path, astronaut: Path) -> None:
    sizes = []
    for path in (grace_hopper, astronaut):
        with Image.open(path) as picture:
            sizes.append(picture.size)
    assert sizes == [(512, 600), (512, 512)]


def test_tiny_model_computes_what_numpy_computes(tiny_onnx: Path, cartoon_faces: packed.Split) -> None:
    session = onnxruntime.InferenceSession(tiny_onnx, providers=["CPUExecutionProvider"])
    spec = bundle.from_json(session.get_modelmeta().custom_metadata_map[bundle.KEY], source="tiny.onnx")
    images = network_input(cartoon_faces.images[:3], spec.input)
    logits, features = session.run(["logits", "features"], {"images": images})

    weights = tiny_weights()
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2))
    expected = np.maximum(np.einsum("nhwij,cij->nchw", windows[:, ::2, ::2], weights["kernel"][:, 0]), 0)
    np.testing.assert_allclose(features, expected, atol=1e-4)
    linear = expected.mean((2, 3)) @ weights["classifier"].T + weights["classifier_bias"]
    np.testing.assert_allclose(logits, linear, atol=1e-3)
    np.testing.assert_array_equal(spec.classifier_weights(), weights["classifier"])


def test_network_is_off_but_loopback_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
