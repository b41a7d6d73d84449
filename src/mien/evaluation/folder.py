"""Anyone's own labelled pictures: a folder of class sub-folders, as crops to evaluate on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.datasets.layout import Item, list_items
from mien.datasets.packed import Split
from mien.datasets.trees import open_tree
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


def list_folder(root: Path, labels: Sequence[str], split: str) -> list[Item]:
    """The labelled images below `root`; where folders or file names tell splits apart, those of `split` only.

    Raises:
        DataError: there is no such folder, a class folder is unknown, or no image belongs to `split`.
    """
    items = list_items(open_tree(root).entries(), str(root), labels=labels).items
    if any(item.usage or item.folder_split for item in items):
        items = tuple(item for item in items if item.split("icml") == split)
        if not items:
            raise DataError(f"{root} has no images of the {split} split: choose another --split")
    if not items:
        raise DataError(f"{root} has no images in class folders: make one folder a class, {', '.join(labels)}")
    return list(items)


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
