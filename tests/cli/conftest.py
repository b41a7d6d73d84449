"""A folder of one's own, and models that say that they were trained on it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest
from tests.drawing import draw_split
from tests.tiny_model import tiny_spec, tiny_weights, write_tiny_model

from mien.datasets.folder import pack_class_folder

TrainedThere = Callable[[Path, int], Path]


@pytest.fixture(scope="session")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 drawn faces in class folders."""
    root = tmp_path_factory.mktemp("own") / "faces"
    faces = draw_split(10, seed=7)
    for image, name in zip(faces.images, faces.names, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(root / name)
    return root


@pytest.fixture
def trained_there(own_folder: Path) -> TrainedThere:
    """`trained_there(path, seed)`: a file that says that it was trained on `own_folder`, split by `seed`."""

    def write(path: Path, seed: int) -> Path:
        dataset = pack_class_folder(own_folder, seed=seed)
        digests = {name: split.digest for name, split in dataset.splits.items()}
        training = {"data": {"provenance": dict(dataset.provenance), "digests": digests}}
        spec = replace(tiny_spec(tiny_weights(seed)["classifier"]), training=training)
        return write_tiny_model(path, seed=seed, spec=spec)

    return write
