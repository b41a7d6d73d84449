"""Aligned training images: what the option changes, what it leaves, and what the provenance says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.datasets.conftest import ferplus_csv, write_tree

from mien.datasets import packed
from mien.datasets.audit.pool import open_pool
from mien.datasets.prepare import PrepareOptions, prepare
from mien.errors import ConfigError


class Mirror:
    """Mirrors bright crops; sees no face in dark ones."""

    about: Mapping[str, Any] = {"detector": "mirror"}

    def __call__(self, pixels: NDArray[np.uint8], size_hw: tuple[int, int], /) -> NDArray[np.uint8] | None:
        assert size_hw == (48, 48)
        return np.ascontiguousarray(pixels[:, ::-1]) if pixels.mean() > 128 else None


def test_aligned_where_a_face_is_found(kaggle: Path, tmp_path: Path) -> None:
    plain = prepare([kaggle], tmp_path / "plain")
    report = prepare([kaggle], tmp_path / "aligned", options=PrepareOptions(align=Mirror()))
    before, after = packed.load(tmp_path / "plain"), packed.load(tmp_path / "aligned")
    expected, faceless = {}, {}
    for name in packed.SPLITS:
        old, new = before.split(name), after.split(name)
        found = old.images.mean((1, 2)) > 128
        assert np.array_equal(new.images, np.where(found[:, None, None], old.images[:, :, ::-1], old.images))
        assert np.array_equal(new.labels, old.labels)
        assert new.names == old.names
        expected[name], faceless[name] = int(found.sum()), int((~found).sum())
    assert 0 < expected["train"] < len(before.split("train"))
    about = {"detector": "mirror", "images": expected, "images_without_a_face": faceless}
    assert after.provenance["aligned"] == about
    assert report.without_face() == sum(faceless.values())
    assert "aligned" not in before.provenance
    assert plain.without_face() is None


def test_aligned_crops_are_added_behind_the_training_images(kaggle: Path, tmp_path: Path) -> None:
    prepare([kaggle], tmp_path / "plain")
    options = PrepareOptions(align=Mirror(), add_aligned=True)
    report = prepare([kaggle], tmp_path / "both", options=options)
    before, after = packed.load(tmp_path / "plain"), packed.load(tmp_path / "both")
    for name in ("validation", "test"):
        assert after.split(name).digest == before.split(name).digest
    old, new = before.split("train"), after.split("train")
    bright = np.flatnonzero(old.images.mean((1, 2)) > 128)
    assert 0 < len(bright) < len(old)
    assert new.take(np.arange(len(old))).digest == old.digest
    added, source = new.take(np.arange(len(old), len(new))), old.take(bright)
    assert np.array_equal(added.images, source.images[:, :, ::-1])
    assert added.names == tuple("/aligned:" + name for name in source.names)
    for each in ("labels", "sources"):
        assert np.array_equal(getattr(added, each), getattr(source, each))
    assert after.provenance["aligned"]["added"] is True
    assert report.without_face() == len(old) - len(bright)
    left = new.drop({source.names[0]})
    assert source.names[0] not in left.names
    assert added.names[0] not in left.names
    assert len(left) == len(new) - 2
    assert new.without_added().digest == old.digest
    assert len(open_pool(tmp_path / "both")) == len(open_pool(tmp_path / "plain"))


def test_added_crops_have_the_votes_of_their_images(csv_text: str, tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(csv_text)
    usages = [line.rpartition(",")[2] for line in csv_text.splitlines()[1:]]
    votes_csv = ferplus_csv(tmp_path / "votes.csv", usages, {5})
    options = PrepareOptions(align=Mirror(), add_aligned=True, ferplus=votes_csv)
    report = prepare([tmp_path / "fer2013.csv"], tmp_path / "both", options=options)
    train = packed.load(tmp_path / "both").split("train")
    assert train.votes is not None
    votes = {name: tuple(row) for name, row in zip(train.names, train.votes, strict=True)}
    added = [name for name in train.names if name.startswith(packed.ALIGNED)]
    assert added
    assert all(votes[name] == votes[name.removeprefix(packed.ALIGNED)] for name in added)
    assert any(any(votes[name]) for name in added)
    assert report.provenance["ferplus"]["images_with_votes"]["train"] == len(train) - len(added) - 1


def test_a_source_called_aligned_is_no_mark(kaggle_files: dict[str, bytes], tmp_path: Path) -> None:
    for name in ("first", "aligned"):
        write_tree(tmp_path / name, kaggle_files)
    prepare([tmp_path / "first", tmp_path / "aligned"], tmp_path / "out")
    train = packed.load(tmp_path / "out").split("train")
    assert len(train.drop({train.names[0]})) == len(train) - 1


def test_nothing_to_add_without_a_way_to_align() -> None:
    with pytest.raises(ConfigError, match="add_aligned needs"):
        PrepareOptions(add_aligned=True)


def test_a_tree_of_files_is_not_aligned(kaggle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use --layout packed with --align"):
        prepare([kaggle], tmp_path / "out", layout="folders", options=PrepareOptions(align=Mirror()))
