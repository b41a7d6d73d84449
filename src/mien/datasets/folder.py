"""Anyone's own images: a folder of class sub-folders, any label set, any sizes."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import __version__
from mien.datasets.duplicates import Thumbnails, group_ids, near_pairs, thumbnail
from mien.datasets.layout import list_items, skip_reason, split_of_folder
from mien.datasets.packed import SPLITS, Dataset, Split
from mien.datasets.trees import FolderTree
from mien.errors import DataError, ImageError
from mien.images import read_image
from mien.labels import FER7, canonical
from mien.preprocess import fit, to_grey


@dataclass(frozen=True, slots=True, eq=False)
class ClassFolder:
    """The images of a folder, not yet read; parallel `paths` and `indices`, in the order of class and path."""

    root: Path
    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    indices: NDArray[np.int64]  # (N,), into the labels
    skipped: Mapping[str, int]  # reason -> files that are no images of a class

    def __len__(self) -> int:
        return len(self.paths)


def read_class_folder(root: Path, labels: Sequence[str] | None = None) -> ClassFolder:
    """List the images in the class sub-folders of `root`.

    With `labels`, sub-folders are spellings of these, and some may be absent. Without, the sub-folders are the
    labels: FER-2013's seven in their own order where they are all there, in any spelling; else by name.

    Raises:
        DataError: `root` is no folder, holds splits, has no class folders with images or one alone, or a sub-folder is
            no known or an empty class.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder: give one with a sub-folder of images for each class")
    if labels is None and "train" in (parts := _split_folders(root)):
        raise DataError(f"{root} holds splits, not classes: give one of {', '.join(map(str, parts.values()))}")
    entries = FolderTree(root).entries()
    names = tuple(labels) if labels is not None else _own_labels(entries, root)
    listing = list_items(entries, str(root), labels=names)
    if not listing.items:
        raise DataError(f"{root} has no images in class folders: expected {root}/<class>/<image>")
    if len(names) < 2:
        raise DataError(f"{root} has one class only, {names[0]}: a model needs two or more to tell apart, add a folder")
    items = sorted(listing.items, key=lambda item: (item.label, item.path))
    return ClassFolder(
        root,
        names,
        tuple(root / item.path for item in items),
        np.array([item.label for item in items], np.int64),
        listing.skipped,
    )


def split_groups(
    label_indices: NDArray[np.int64],
    groups: NDArray[np.int64],
    labels: Sequence[str],
    *,
    validation_ratio: float = 0.2,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """(N,) which images validate: whole groups, drawn class by class until the ratio is reached.

    `label_indices` (N,) into `labels`, `groups` (N,) equal for images that must stay together. A group with
    conflicting labels counts for the class of its first image.

    Raises:
        DataError: a class that has images has fewer than two groups.
        ValueError: the ratio is not between 0 and 1.
    """
    if not 0 < validation_ratio < 1:
        raise ValueError(f"validation_ratio is {validation_ratio}, not between 0 and 1")
    members: defaultdict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups.tolist()):
        members[group].append(row)
    of_class: defaultdict[int, list[int]] = defaultdict(list)
    for group, rows in members.items():
        of_class[int(label_indices[rows[0]])].append(group)
    generator = np.random.default_rng(seed)
    validates = np.zeros(len(groups), np.bool_)
    for label, class_groups in sorted(of_class.items()):
        if len(class_groups) < 2:
            raise DataError(f"the class {labels[label]} needs two or more images that are not copies: add some")
        wanted = validation_ratio * sum(len(members[group]) for group in class_groups)
        taken = 0
        for group in generator.permutation(class_groups)[:-1].tolist():  # one group is left to train
            if taken >= max(wanted - len(members[group]) / 2, 0.5):
                break
            validates[members[group]] = True
            taken += len(members[group])
    return validates


def pack_class_folder(
    root: Path,
    size_hw: tuple[int, int] = (48, 48),
    *,
    labels: Sequence[str] | None = None,
    validation_ratio: float = 0.2,
    seed: int = 0,
    only: Sequence[str] = SPLITS,
) -> Dataset:
    """Read a folder of classes into train and validation splits of grey images, resized to `size_hw`.

    A folder that holds `train` and other splits, each of classes, keeps them; those outside `only` are never opened.
    Where it has no `validation`, a part of its training images validates. The data set names the unreadable images,
    which are left out.

    Raises:
        DataError: see `read_class_folder` and `split_groups`; or no image can be read.
    """
    parts = {split: folder for split, folder in _split_folders(root).items() if split in only}
    if "train" not in parts:
        parts = {"train": root}
    labels = labels or read_class_folder(parts["train"]).labels
    reads = {split: _ReadFolder.of(read_class_folder(folder, labels), size_hw) for split, folder in parts.items()}
    splits = {split: read.split() for split, read in reads.items()}
    provenance = _provenance(root, list(reads.values()))
    if "validation" not in parts:
        validates = reads["train"].validates(validation_ratio, seed)
        whole = splits["train"]
        splits["train"] = whole.take(np.flatnonzero(~validates))
        splits["validation"] = whole.take(np.flatnonzero(validates))
        provenance = {"validation_ratio": validation_ratio, "seed": seed, **provenance}
    return Dataset(tuple(labels), splits, provenance, tuple(provenance["unreadable"]))


@dataclass(frozen=True, slots=True, eq=False)
class _ReadFolder:
    """The readable images of a class folder; parallel arrays."""

    folder: ClassFolder
    rows: NDArray[np.int64]  # (M,) rows of the folder that could be read
    images: NDArray[np.uint8]  # (M, h, w)
    thumbs: Thumbnails
    unreadable: tuple[str, ...]

    @classmethod
    def of(cls, folder: ClassFolder, size_hw: tuple[int, int]) -> "_ReadFolder":
        """Read every image once, keeping it at `size_hw` and as a thumbnail only: photos may be large."""
        rows, images, thumbs, unreadable = [], [], [], []
        for row, path in enumerate(folder.paths):
            try:
                image = read_image(path)
            except ImageError as error:
                unreadable.append(str(error))
                continue
            rows.append(row)
            images.append(to_grey(fit(image, size_hw)[None])[0])
            thumbs.append(thumbnail(to_grey(image[None])[0]))
        if not rows:
            raise DataError(f"{folder.root}: none of its {len(folder):,} images can be read")
        return cls(folder, np.array(rows, np.int64), np.stack(images), np.stack(thumbs), tuple(unreadable))

    def validates(self, ratio: float, seed: int) -> NDArray[np.bool_]:
        """(M,) which of the readable images validate."""
        groups = group_ids(len(self.rows), near_pairs(self.thumbs))
        labels = self.folder.indices[self.rows]
        return split_groups(labels, groups, self.folder.labels, validation_ratio=ratio, seed=seed)

    def split(self) -> Split:
        """All readable images as one split."""
        names = [self.folder.paths[row].relative_to(self.folder.root).as_posix() for row in self.rows.tolist()]
        return Split(self.images, self.folder.indices[self.rows], tuple(names))


def _provenance(root: Path, reads: Sequence[_ReadFolder]) -> dict[str, Any]:
    skipped: Counter[str] = sum((Counter(read.folder.skipped) for read in reads), Counter())
    images = sum(len(read.rows) for read in reads)
    return {
        "mien": __version__,
        "sources": [{"name": root.resolve().name, "kind": "folder", "images": images, "skipped": dict(skipped)}],
        "unreadable": [fault for read in reads for fault in read.unreadable],
        "fills": {split: f"images in {root.name}/{split}/<class>" for split in SPLITS},
    }


def _split_folders(root: Path) -> dict[str, Path]:
    """The folders in `root` that are named for splits, by split; empty for a folder of classes.

    Raises:
        DataError: two folders are named for one split, or folders of splits stand there without one to train on.
    """
    if not root.is_dir():
        return {}
    parts: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if (split := split_of_folder(path.name)) is None or not path.is_dir():
            continue
        if split in parts:
            raise DataError(
                f"{root} has two folders of the {split} split, {parts[split].name} and {path.name}: join them"
            )
        parts[split] = path
    if "train" not in parts and any(_has_folders(path) for path in parts.values()):  # else they are classes
        raise DataError(
            f"{root} has folders of splits, {', '.join(path.name for path in parts.values())}, and none called train: "
            "add the images to train on as train/<class>/<image>"
        )
    return parts


def _has_folders(path: Path) -> bool:
    return any(inside.is_dir() and skip_reason(inside.name) != "system file" for inside in path.iterdir())


def _own_labels(entries: Sequence[str], root: Path) -> tuple[str, ...]:
    """Labels from the sub-folders of the root."""
    visible = [entry for entry in entries if "/" in entry and skip_reason(entry.rstrip("/")) != "system file"]
    images: Counter[str] = Counter({entry.split("/")[0]: 0 for entry in visible})
    images.update(entry.split("/")[0] for entry in visible if not entry.endswith("/") and skip_reason(entry) is None)
    for name, number in images.items():
        if not number:
            raise DataError(f"{root}: the class folder {name} has no images: add some, or take the folder out")
    spelt = [_fer_label(name) for name in images]
    if None not in spelt and set(spelt) == set(FER7):
        return FER7
    return tuple(sorted(images))


def _fer_label(name: str) -> str | None:
    try:
        return canonical(name)
    except DataError:
        return None
