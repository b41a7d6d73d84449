"""The images under audit, whichever split they are of, under one numbering."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.datasets import packed
from mien.datasets.duplicates import Thumbnails, group_ids, near_pairs, thumbnails
from mien.datasets.folder import pack_class_folder
from mien.datasets.layout import split_of_folder
from mien.datasets.packed import SPLITS, Dataset, Split
from mien.errors import DataError
from mien.preprocess import to_grey

AUDITED = ("train", "validation")  # the test split is audited when it is asked for, and not opened otherwise
WHOLE = "all"  # the split of a folder that has none


@dataclass(frozen=True, eq=False)
class Pool:
    """Images of several splits, one after the other; image `i` of the pool keeps that number everywhere."""

    dataset: Dataset

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.dataset.labels

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """(N,) name of each image's split."""
        return tuple(chain.from_iterable([name] * len(split) for name, split in self.dataset.splits.items()))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """(N,) names, unique in each split."""
        return tuple(chain.from_iterable(split.names for split in self.dataset.splits.values()))

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """(N,) indices into `labels`."""
        return np.concatenate([split.labels for split in self.dataset.splits.values()])

    @cached_property
    def votes(self) -> NDArray[np.uint8] | None:
        """(N, 10) FER+ votes, zeros where an image has none; None where no split has votes."""
        parts = list(self.dataset.splits.values())
        if all(split.votes is None for split in parts):
            return None
        return np.concatenate([np.zeros((len(s), 10), np.uint8) if s.votes is None else s.votes for s in parts])

    @cached_property
    def sources(self) -> NDArray[np.int64]:
        """(N,) source that each image came from."""
        parts = self.dataset.splits.values()
        return np.concatenate([np.zeros(len(s), np.int64) if s.sources is None else s.sources for s in parts])

    @cached_property
    def thumbs(self) -> Thumbnails:
        """(N, 32, 32) grey thumbnails."""
        return thumbnails(to_grey(image[None])[0] for image in self.images())

    @cached_property
    def near_pairs(self) -> NDArray[np.int64]:
        """(P, 2) pairs of images that are the same or nearly so."""
        return near_pairs(self.thumbs)

    @cached_property
    def near_groups(self) -> NDArray[np.int64]:
        """(N,) number of each image's group of copies and near copies: its smallest member."""
        return group_ids(len(self), self.near_pairs)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Image `(H, W)` grey or `(H, W, 3)` RGB."""
        for split in self.dataset.splits.values():
            if index < len(split):
                return np.asarray(split.images[index])
            index -= len(split)
        raise IndexError(index)

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """All images in turn; memory-mapped ones are read one by one."""
        return chain.from_iterable(split.images for split in self.dataset.splits.values())

    def grey_image(self, index: int) -> NDArray[np.uint8]:
        """Image `(H, W)` without colour."""
        return np.asarray(to_grey(self[index][None])[0])

    def grey(self) -> NDArray[np.uint8]:
        """(N, H, W): all images in memory, without colour."""
        return np.concatenate([to_grey(np.asarray(split.images)) for split in self.dataset.splits.values()])

    def whole(self) -> Split:
        """All images as one split; names of several splits tell them apart by the split in front."""
        several = len(self.dataset.splits) > 1
        names = [f"{split}/{name}" if several else name for split, name in zip(self.splits, self.names, strict=True)]
        return Split(self.grey(), self.classes, tuple(names), self.votes)


def open_pool(root: Path, *, with_test: bool = False, size_hw: tuple[int, int] = (48, 48)) -> Pool:
    """The images of a prepared data set, or of a folder of classes, which are made grey and resized to `size_hw`.

    Crops that were added to a data set (`packed.ALIGNED`) are none of its images.

    Raises:
        DataError: it is neither, or has no images.
    """
    wanted = SPLITS if with_test else AUDITED
    if (root / "dataset.json").exists():
        dataset = packed.load(root, only=wanted)
        dataset = replace(dataset, splits={name: split.without_added() for name, split in dataset.splits.items()})
    elif root.is_dir():
        dataset = pack_class_folder(root, size_hw, only=wanted)
        if "validation_ratio" in dataset.provenance:  # the folder has no splits: they were drawn just now
            dataset = _joined(dataset, "train" if _has_train(root) else WHOLE)
    else:
        raise DataError(f"{root} is no prepared data set and no folder of class sub-folders")
    splits = {name: dataset.splits[name] for name in (*SPLITS, WHOLE) if len(dataset.splits.get(name, ()))}
    if not splits:
        raise DataError(f"{root} has no images to audit")
    return Pool(replace(dataset, splits=splits))


def _has_train(root: Path) -> bool:
    return any(split_of_folder(path.name) == "train" for path in root.iterdir() if path.is_dir())


def _joined(dataset: Dataset, name: str) -> Dataset:
    """The drawn validation images back among those to train on, as split `name`."""
    parts = [dataset.splits[split] for split in AUDITED]
    names = tuple(chain.from_iterable(split.names for split in parts))
    whole = Split(
        np.concatenate([split.images for split in parts]), np.concatenate([split.labels for split in parts]), names
    )
    order = np.array(sorted(range(len(names)), key=lambda i: (whole.labels[i], names[i])), np.int64)
    others = {split: images for split, images in dataset.splits.items() if split not in AUDITED}
    return replace(dataset, splits={name: whole.take(order), **others})
