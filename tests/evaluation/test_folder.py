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
from mien.evaluation.folder import drawn_from, list_folder, narrowed, split_seed, together
from mien.models.ensemble import joint_spec
from mien.preprocess import InputSpec

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


def trained_on(dataset: Dataset, digests: Mapping[str, str] | None = None, *, side: int = 48) -> ModelSpec:
    """A model that says so, as it comes out of an exported file."""
    known = {name: split.digest for name, split in dataset.splits.items()} if digests is None else dict(digests)
    data: dict[str, Any] = {"provenance": dict(dataset.provenance), "digests": known}
    spec = ModelSpec(name="mine", labels=SPEC.labels, input=InputSpec(size_hw=(side, side)), training={"data": data})
    return bundle.from_json(bundle.to_json(spec), source="test")


def joined(*specs: ModelSpec) -> ModelSpec:
    """Their ensemble, as it comes out of a file."""
    return bundle.from_json(bundle.to_json(joint_spec(specs)), source="test")


def test_a_folder_without_splits_is_all_of_it(pets: Path) -> None:
    items, split = list_folder(pets, SPEC, "validation")
    assert (len(items), split) == (20, "all")


@pytest.mark.parametrize("digests", [
    pytest.param(True, id="by its digests"),
    pytest.param(False, id="some names were left out of training"),
])  # fmt: skip
def test_of_the_folder_it_was_trained_on_only_what_validated(pets: Path, digests: bool) -> None:
    dataset = pack_class_folder(pets, seed=3)
    items, split = list_folder(pets, spec := trained_on(dataset, None if digests else {"train": "0"}), "validation")
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
    with pytest.raises(DataError, match="no images of the validation split, but of test: choose --split test"):
        list_folder(root, SPEC, "validation")
    assert list_folder(root, SPEC, "test")[1] == "test"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_images_to_train_on_alone_are_no_split_to_choose(tmp_path: Path, split: str) -> None:
    root = write(tmp_path / "pets", ["train/cat/a.png", "train/dog/b.png"])
    with pytest.raises(DataError, match=f"no images of the {split} split, but of train: .* name others with --data"):
        list_folder(root, SPEC, split)


@pytest.mark.parametrize("side", [48, 32])
@pytest.mark.parametrize("order", [1, -1])
def test_several_models_on_what_none_of_them_trained_on(pets: Path, side: int, order: int) -> None:
    """As an ensemble or side by side, in any order, with a model that was not trained there."""
    seeds, sides = (0, 2), (48, side)
    sets = [pack_class_folder(pets, (s, s), seed=seed) for seed, s in zip(seeds, sides, strict=True)]
    trained = [trained_on(dataset, side=s) for dataset, s in zip(sets, sides, strict=True)]
    shared = set.intersection(*(set(dataset.split("validation").names) for dataset in sets))
    assert 0 < len(shared) < 4
    specs = [SPEC, *trained][::order]
    renamed = pets.rename(pets.with_name("moved"))  # their digests alone tell
    for spec in (joined(*specs), together({str(i): spec for i, spec in enumerate(specs)}), joined(joined(*specs))):
        items, split = list_folder(renamed, spec, "validation")
        assert ({item.path for item in items}, split) == (shared, "validation")
        assert "(seed 0)" in narrowed(renamed, spec)
        with pytest.raises(DataError, match="without a test split"):
            list_folder(renamed, spec, "test")


def test_members_of_one_split_are_measured_on_all_of_it(pets: Path) -> None:
    spec = trained_on(dataset := pack_class_folder(pets, seed=3))
    items, _ = list_folder(pets, joined(spec, spec), "validation")
    assert {item.path for item in items} == set(dataset.split("validation").names)
    assert not narrowed(pets, joined(spec, spec))


def test_nothing_is_left_where_each_image_trained_one(pets: Path) -> None:
    specs = {f"of {seed}": trained_on(pack_class_folder(pets, seed=seed)) for seed in range(4)}
    with pytest.raises(DataError, match=r"of 0 \(seed 0\), of 1 \(seed 1\), .* each of its images trained one"):
        list_folder(pets, together(specs), "validation")


def test_ensembles_that_do_not_say_what_trained_them(pets: Path) -> None:
    """As they were written before members kept it."""
    spec = ModelSpec(name="old", labels=SPEC.labels, training={"members": [{"name": "mine", "share": 1.0}]})
    assert drawn_from(pets, spec) == ()
    assert list_folder(pets, spec, "validation")[1] == "all"


@pytest.mark.parametrize("paths", [
    pytest.param([f"{name}/PublicTest_{i}.png" for name in SPEC.labels for i in range(10)], id="of files"),
    pytest.param([f"test/{name}/{i}.png" for name in SPEC.labels for i in range(10)], id="of the folder"),
])  # fmt: skip
def test_names_of_splits_do_not_hide_what_trained(tmp_path: Path, paths: list[str]) -> None:
    """Training drew from all of them, so names do not tell which are fair."""
    root = write(tmp_path, paths) / paths[0].rpartition("/")[0].rpartition("/")[0]
    spec = trained_on(dataset := pack_class_folder(root, seed=3))
    items, _ = list_folder(root, spec, "validation")
    assert {item.path for item in items} == set(dataset.split("validation").names)
    with pytest.raises(DataError, match="without a test split"):
        list_folder(root, spec, "test")


@pytest.mark.parametrize(("data", "expected"), [
    pytest.param({"provenance": {"seed": 0}}, 0, id="of a sweep: the base's"),
    pytest.param({"provenance": {}}, 1, id="of a run on prepared data: its own"),
    pytest.param({}, 1, id="of one that does not say"),
])  # fmt: skip
def test_the_seed_that_split_the_folder(data: dict[str, Any], expected: int) -> None:
    assert split_seed({"recipe": {"seed": 1}, "data": data}) == expected
