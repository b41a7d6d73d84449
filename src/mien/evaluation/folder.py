"""Anyone's own labelled pictures: a folder of class sub-folders, as crops to evaluate on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mien.bundle import ModelSpec
from mien.datasets.exclusions import DRAWN
from mien.datasets.folder import pack_class_folder
from mien.datasets.layout import Item, list_items
from mien.datasets.packed import Dataset, Split
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


@dataclass(frozen=True, slots=True)
class Drawn:
    """The images of a folder that a model, or a member of an ensemble, was trained and validated on."""

    name: str  # of the model
    seed: int  # that the split was drawn by
    trained: frozenset[str]  # paths inside the folder
    validated: frozenset[str]


def together(models: Mapping[str, ModelSpec]) -> ModelSpec:
    """The first of `models`, by the names to call them, as if it were all of them to what it may be measured on."""
    members = [
        {"name": name, "size_hw": spec.input.size_hw, "training": spec.training} for name, spec in models.items()
    ]
    return replace(next(iter(models.values())), training={"members": members})


def list_folder(root: Path, spec: ModelSpec, split: str) -> tuple[list[Item], str]:
    """The labelled images below `root` to measure a model on, and the split that they are.

    Of a folder that the model itself was trained on, those that it was validated on, and of an ensemble those that
    every member trained there was validated on. Of another one, where names of folders (that of `root` too) or files
    tell splits apart, those of `split`; else "all".

    Raises:
        DataError: there is no such folder, a class folder is unknown, no image belongs to `split`, or members of an
            ensemble were validated on images of which they share none.
    """
    tree = open_tree(root)
    name = root.resolve().name if isinstance(tree, FolderTree) else ""
    items = list_items(tree.entries(), str(root), labels=spec.labels, root_name=name).items
    if not items:
        raise DataError(f"{root} has no images in class folders: make one folder a class, {', '.join(spec.labels)}")
    parts = drawn_from(root, spec)
    known = frozenset[str]().union(*(part.trained | part.validated for part in parts))
    if any(item.path in known for item in items):  # folders of splits are in other paths, and kept apart by training
        if split != "validation":
            raise DataError(
                f"{root} is what {_names(parts)} was trained and validated on, without a {split} split: "
                "leave out --split"
            )
        fair = shared(root, parts)
        # training drew from all of them, whatever split a name means
        return [replace(item, usage=None, folder_split=None) for item in items if item.path in fair], split
    if not any(item.usage or item.folder_split for item in items):
        return list(items), "all"
    chosen = [item for item in items if item.split("icml") == split]
    if not chosen:
        there = sorted({item.split("icml") for item in items})
        measurable = [one for one in there if one != "train"]
        cure = (
            f"choose --split {measurable[0]}"
            if measurable
            else "no model is measured on images to train on, so name others with --data"
        )
        raise DataError(f"{root} has no images of the {split} split, but of {', '.join(there)}: {cure}")
    return chosen, split


def split_seed(about: Mapping[str, Any]) -> int:
    """The seed that a run split anyone's folder by: of a run of a sweep it is the sweep's, not its own.

    `about` is what the run says of itself, or the `training` of its `ModelSpec`.
    """
    provenance = (about.get("data") or {}).get("provenance") or {}
    return int(provenance.get("seed", (about.get("recipe") or {}).get("seed", 0)))


def drawn_from(root: Path, spec: ModelSpec) -> tuple[Drawn, ...]:
    """What the model, or each member of the ensemble, was trained and validated on in `root`; none: it was not.

    Whether it was is told by its digests; where names were left out of training (`--exclude`), by the name of the
    folder and the number of its images. Of ensembles that do not know what their members were trained on, nothing is.
    """
    if not root.is_dir() or (root / "dataset.json").exists():  # a prepared data set keeps its splits
        return ()
    packs: dict[tuple[Any, ...], Dataset | None] = {}  # members are often alike, and packing reads every image
    parts = []
    for name, size_hw, trained in origins(spec):
        provenance, digests = trained.get("provenance") or {}, trained.get("digests") or {}
        if "validation_ratio" not in provenance:
            continue
        key = (size_hw, provenance["validation_ratio"], provenance["seed"])
        if key not in packs:
            packs[key] = _pack(root, *key)
        if (dataset := packs[key]) is None:
            continue
        same = any(split.digest == digests.get(one) for one, split in dataset.splits.items())
        if same or list(provenance["sources"]) == dataset.provenance["sources"]:
            seen, judged = (frozenset(dataset.split(one).names) for one in DRAWN)
            parts.append(Drawn(name, provenance["seed"], seen, judged))
    return tuple(parts)


def shared(root: Path, parts: Sequence[Drawn]) -> frozenset[str]:
    """Paths of the images in `root` that all of `parts` were validated on, so that none of them was trained on one.

    Raises:
        DataError: there is none.
    """
    fair = frozenset.intersection(*(part.validated for part in parts))
    if not fair:
        raise DataError(
            f"{_names(parts)} were trained on {root} with different splits, and each of its images trained one of "
            "them: name other images with --data, or measure them apart"
        )
    return fair


def narrowed(root: Path, spec: ModelSpec) -> str:
    """The models, with their seeds, that were validated on different images of `root`; empty: all on the same ones."""
    drawn = {(data.get("provenance") or {}).get("seed") for _, _, data in origins(spec)}
    if len(drawn - {None}) < 2:
        return ""  # the answer without reading an image
    parts = drawn_from(root, spec)
    return _names(parts) if len({part.validated for part in parts}) > 1 else ""


def origins(spec: ModelSpec) -> list[tuple[str, tuple[int, int], Mapping[str, Any]]]:
    """Name, size of the images (height, width) and data of the model's training, or of each member's."""

    def walk(
        name: str, size_hw: Sequence[int], training: Mapping[str, Any]
    ) -> Iterator[tuple[str, tuple[int, int], Mapping[str, Any]]]:
        if data := training.get("data"):
            yield name, (size_hw[0], size_hw[1]), data
        for one in training.get("members", ()):
            if "training" in one:  # files joined before it was kept do not say
                inner = f"{one['name']} of {name}" if name else one["name"]
                yield from walk(inner, one["size_hw"], one["training"])

    return list(walk(spec.name if spec.training.get("data") else "", spec.input.size_hw, spec.training))


def _pack(root: Path, size_hw: tuple[int, int], ratio: float, seed: int) -> Dataset | None:
    """The folder as training would split it; None where it has images to validate on, or cannot be trained on."""
    try:
        dataset = pack_class_folder(root, size_hw, validation_ratio=ratio, seed=seed, only=DRAWN)
    except DataError:
        return None
    return dataset if "validation_ratio" in dataset.provenance else None


def _names(parts: Sequence[Drawn]) -> str:
    if len({part.seed for part in parts}) == 1:
        return ", ".join(dict.fromkeys(part.name for part in parts))
    return ", ".join(dict.fromkeys(f"{part.name} (seed {part.seed})" for part in parts))


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
