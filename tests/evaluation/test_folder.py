"""Which images of a folder a model is measured on, and what they are called."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from mien import bundle
from mien.bundle import ModelSpec
from mien.datasets.folder import pack_class_folder
from mien.datasets.packed import Dataset
from mien.errors import DataError
from mien.evaluation.folder import list_folder

SPEC = ModelSpec(name="mine", labels=("cat", "dog"))


def write(root: Path, paths: list[str]) -> Path:
    """Noise pictures at `paths`, each another."""
    for seed, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
        PIL.Image.fromarray(coarse).resize((48, 48), PIL.Image.Resampling.BICUBIC).save(root / path)
    return root


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return write(tmp_path / "pets", [f"{name}/{i}.png" for name in SPEC.labels for i in range(10)])


def trained_on(dataset: Dataset, digests: Mapping[str, str]) -> ModelSpec:
    """A model that says so, as it comes out of an exported file."""
    data: dict[str, Any] = {"provenance": dict(dataset.provenance), "digests": dict(digests)}
    spec = ModelSpec(name="mine", labels=SPEC.labels, training={"data": data})
    return bundle.from_json(bundle.to_json(spec), source="test")


def test_a_folder_without_splits_is_all_of_it(pets: Path) -> None:
    items, split = list_folder(pets, SPEC, "validation")
    assert (len(items), split) == (20, "all")


@pytest.mark.parametrize("digests", [
    pytest.param(True, id="by its digests"),
    pytest.param(False, id="some names were left out of training"),
])  # fmt: skip
def test_of_the_folder_it_was_trained_on_only_what_validated(pets: Path, digests: bool) -> None:
    dataset = pack_class_folder(pets, seed=3)
    known = {name: split.digest for name, split in dataset.splits.items()} if digests else {"train": "0"}
    items, split = list_folder(pets, spec := trained_on(dataset, known), "validation")
    assert split == "validation"
    assert {item.path for item in items} == set(dataset.split("validation").names)
    assert len(items) == 4
    with pytest.raises(DataError, match="trained and validated on, without a test split"):
        list_folder(pets, spec, "test")


def test_of_another_folder_everything(pets: Path, tmp_path: Path) -> None:
    spec = trained_on(dataset := pack_class_folder(pets, seed=3), {"train": dataset.split("train").digest})
    others = write(tmp_path / "others", ["dog/a.png", "cat/b.png", "cat/c.png"])
    items, split = list_folder(others, spec, "validation")
    assert (len(items), split) == (3, "all")


@pytest.mark.parametrize("folder", ["test", "PrivateTest", "Testing"])
def test_a_folder_named_for_the_test_split_needs_its_name(tmp_path: Path, folder: str) -> None:
    root = write(tmp_path / folder, ["cat/a.png", "dog/b.png"])
    with pytest.raises(DataError, match="no images of the validation split, but of test"):
        list_folder(root, SPEC, "validation")
    assert list_folder(root, SPEC, "test")[1] == "test"
