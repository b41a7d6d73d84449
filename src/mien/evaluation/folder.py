"""Anyone's own labelled pictures: a folder of class sub-folders, as crops to evaluate on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.bundle import ModelSpec
from mien.datasets.folder import pack_class_folder
from mien.datasets.layout import Item, list_items
from mien.datasets.packed import Split
from mien.datasets.trees import FolderTree, open_tree
from mien.errors import DataError, ImageError
from mien.images import read_image
from mien.results import Image

Cut = Callable[[Image], Image | None]
"""A picture to the crop (h, w, 3) of its main face, all of one size; None where it shows no face."""


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single ==
class FolderCrops:
    """The crops of a folder, and what became of its other files."""

    split: Split
    unreadable: tuple[str, ...]  # a sentence a file, which names it
    without_face: tuple[str, ...]  # paths inside the folder


def list_folder(root: Path, spec: ModelSpec, split: str) -> tuple[list[Item], str]:
    """The labelled images below `root` to measure a model on, and the split that they are.

    Where names of folders (that of `root` too) or files tell splits apart, they are those of `split`. Where they do
    not, they are "all"; but of a folder that the model itself was trained on, those that it was validated on.

    Raises:
        DataError: there is no such folder, a class folder is unknown, or no image belongs to `split`.
    """
    tree = open_tree(root)
    name = root.resolve().name if isinstance(tree, FolderTree) else ""
    items = list_items(tree.entries(), str(root), labels=spec.labels, root_name=name).items
    if not items:
        raise DataError(f"{root} has no images in class folders: make one folder a class, {', '.join(spec.labels)}")
    if any(item.usage or item.folder_split for item in items):
        chosen = [item for item in items if item.split("icml") == split]
        if not chosen:
            there = sorted({item.split("icml") for item in items})
            raise DataError(
                f"{root} has no images of the {split} split, but of {', '.join(there)}: choose another --split"
            )
        return chosen, split
    validated = validated_on(root, spec)
    if validated is None:
        return list(items), "all"
    if split != "validation":
        raise DataError(
            f"{root} is what {spec.name} was trained and validated on, without a {split} split: leave out --split"
        )
    return [item for item in items if item.path in validated], split


def validated_on(root: Path, spec: ModelSpec) -> frozenset[str] | None:
    """Paths of the images in the folder `root` that the model was validated on; None: it was not trained on `root`.

    Whether it was is told by its digests; where names were left out of training (`--exclude`), by the name of the
    folder and the number of its images.
    """
    trained = spec.training.get("data") or {}
    provenance, digests = trained.get("provenance", {}), trained.get("digests", {})
    if "validation_ratio" not in provenance or not root.is_dir():
        return None
    try:
        ratio, seed = provenance["validation_ratio"], provenance["seed"]
        dataset = pack_class_folder(root, spec.input.size_hw, validation_ratio=ratio, seed=seed)
    except DataError:  # training on it would have failed too
        return None
    same = any(split.digest == digests.get(name) for name, split in dataset.splits.items())
    if same or list(provenance["sources"]) == dataset.provenance["sources"]:
        return frozenset(dataset.split("validation").names)
    return None


def read_crops(
    root: Path, items: Sequence[Item], cut: Cut, *, progress: Callable[[int], None] | None = None
) -> FolderCrops:
    """Read the files of `items` below `root` and cut the face out of each.

    Raises:
        DataError: not one of them could be read and shows a face.
    """
    crops, kept, unreadable, without_face = [], [], [], []
    for item in items:
        try:
            crop = cut(read_image(root / item.path))
        except ImageError as error:
            unreadable.append(str(error))
        else:
            if crop is None:
                without_face.append(item.path)
            else:
                crops.append(crop)
                kept.append(item)
        if progress is not None:
            progress(1)
    if not crops:
        raise DataError(
            f"{root}: {len(unreadable)} unreadable pictures and {len(without_face)} without a face, so nothing to "
            "evaluate on; if the pictures are crops of faces, leave out --detector"
        )
    labels = np.array([item.label for item in kept], np.int64)
    split = Split(np.stack(crops), labels, tuple(item.path for item in kept))
    return FolderCrops(split, tuple(unreadable), tuple(without_face))
