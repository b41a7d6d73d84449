"""The packed form of a data set: one uint8 array a split, its labels, votes, names and provenance.

DATA/dataset.json           labels, provenance, and a digest and counts for each split
DATA/<split>/images.npy     (N, H, W) uint8 grey, or (N, H, W, 3) RGB
DATA/<split>/labels.npy     (N,) int64, indices into the labels
DATA/<split>/votes.npy      (N, 10) uint8, optional: FER+ taggers, in the order of `FERPLUS_COLUMNS`
DATA/<split>/names.json     N names: path inside the source, unique in the split; ALIGNED may stand before it
DATA/<split>/sources.json   N numbers: which source of the provenance each image came from
"""

import hashlib
import json
import shlex
import shutil
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError

SPLITS = ("train", "validation", "test")
FORMAT = 1
ALIGNED = "/aligned:"
"""Stands before the name of an image of which this one is the aligned crop, added for training; no path begins so."""


def pixel_digest(image: NDArray[np.uint8]) -> bytes:
    """The same for images of the same shape and pixels, and for no others."""
    sha = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
    sha.update(np.ascontiguousarray(image).data)
    return sha.digest()


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single ==
class Split:
    """Images of one split; parallel arrays of the same length."""

    images: NDArray[np.uint8]  # (N, H, W) grey or (N, H, W, 3) RGB; may be memory-mapped
    labels: NDArray[np.int64]  # (N,)
    names: tuple[str, ...]
    votes: NDArray[np.uint8] | None = None  # (N, 10), zeros where FER+ has none
    sources: NDArray[np.int64] | None = None  # (N,), zeros when there is one source

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim not in (3, 4):
            raise ValueError(f"images are uint8 (N, H, W) or (N, H, W, 3), not {self.images.dtype} {self.images.shape}")
        for name, length in (("labels", len(self.labels)), ("names", len(self.names))):
            if length != len(self.images):
                raise ValueError(f"{len(self.images)} images but {length} {name}")
        if self.votes is not None and self.votes.shape != (len(self.images), 10):
            raise ValueError(f"votes are {self.votes.shape}, not ({len(self.images)}, 10)")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def digest(self) -> str:
        """sha256 over images, labels and votes: equal digests are equal data, whatever the files."""
        sha = hashlib.sha256()
        for array in (self.images, self.labels, self.votes):
            if array is not None:
                sha.update(f"{array.dtype}{array.shape}".encode())
                sha.update(np.ascontiguousarray(array).data if array.size else b"")
        return sha.hexdigest()

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """The split reduced to (or reordered by) `indices`."""
        return replace(
            self,
            images=self.images[indices],
            labels=self.labels[indices],
            names=tuple(self.names[i] for i in indices),
            votes=None if self.votes is None else self.votes[indices],
            sources=None if self.sources is None else self.sources[indices],
        )

    def drop(self, names: Set[str]) -> "Split":
        """The split without the images called `names` and the aligned crops that were added of them."""
        images = ((i, name, name.removeprefix(ALIGNED)) for i, name in enumerate(self.names))
        return self.take(np.array([i for i, name, of in images if name not in names and of not in names], np.int64))

    def without_added(self) -> "Split":
        """The split without the aligned crops that were added."""
        kept = [i for i, name in enumerate(self.names) if not name.startswith(ALIGNED)]
        return self if len(kept) == len(self) else self.take(np.array(kept, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Splits by name, with the labels that their numbers mean and where they came from."""

    labels: tuple[str, ...]
    splits: Mapping[str, Split]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()  # "path: fault" of what was left out just now; a prepared data set has none

    def split(self, name: str) -> Split:
        """The split called `name`.

        Raises:
            DataError: there is no such split, or it has no images; the message says which files would fill it.
        """
        if name not in SPLITS:
            raise DataError(f"{name!r} is no split: use one of {', '.join(SPLITS)}")
        split = self.splits.get(name)
        if split is None or not len(split):
            missing = self.provenance.get("fills", {}).get(name, f"images of the {name} split")
            raise DataError(
                f"the {name} split is empty: it needs {missing}; add them and run `mien data prepare` again"
            )
        return split


def save(dataset: Dataset, root: Path) -> None:
    """Write `dataset` to `root`; a killed write leaves an old data set, or none, never half of one.

    A write that fails, as on a full disk, leaves nothing of its own behind.

    Raises:
        DataError: `root` exists and is no packed data set, so it is not replaced.
    """
    check_target(root, "dataset.json")
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(dataset, partial)
        replace_folder(partial, root)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write(dataset: Dataset, root: Path) -> None:
    for name, split in dataset.splits.items():
        folder = root / name
        folder.mkdir(parents=True)
        np.save(folder / "images.npy", split.images)
        np.save(folder / "labels.npy", split.labels)
        if split.votes is not None:
            np.save(folder / "votes.npy", split.votes)
        (folder / "names.json").write_text(json.dumps(split.names, ensure_ascii=False), encoding="utf-8")
        if split.sources is not None:
            (folder / "sources.json").write_text(json.dumps(split.sources.tolist()), encoding="utf-8")
    described = {
        name: {
            "digest": split.digest,
            "n": len(split),
            "counts": dict(zip(dataset.labels, _counts(split, dataset), strict=True)),
        }
        for name, split in dataset.splits.items()
    }
    about = {"format": FORMAT, "labels": dataset.labels, "provenance": dataset.provenance, "splits": described}
    (root / "dataset.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")


def check_target(root: Path, marker: str) -> None:
    """See that `root` may be written: it is new, empty, or an earlier result, which holds the file `marker`.

    Raises:
        DataError: it is something else, which must not be replaced.
    """
    if root.is_dir():
        if any(root.iterdir()) and not (root / marker).exists():
            raise DataError(f"{root} is not empty and holds no data set that mien wrote there: choose another folder")
    elif root.exists():
        raise DataError(f"{root} is a file: choose another name for the folder")


def replace_folder(partial: Path, root: Path) -> None:
    """Put the finished folder `partial` in the place of `root`, old content and all, by renaming.

    Where that fails, `root` is as it was.
    """
    old = root.with_name(root.name + ".old.partial")
    shutil.rmtree(old, ignore_errors=True)
    if root.exists():
        root.rename(old)
    try:
        partial.rename(root)
    except OSError:
        if old.exists():
            old.rename(root)
        raise
    shutil.rmtree(old, ignore_errors=True)


def load(root: Path, *, only: tuple[str, ...] = SPLITS) -> Dataset:
    """Read a packed data set; images are memory-mapped. Splits outside `only` are never opened.

    Raises:
        DataError: `root` is no packed data set, or was written by a newer mien.
    """
    try:
        about = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        prepare = shlex.join(["mien", "data", "prepare", "SRC", str(root)])
        raise DataError(f"{root} is no prepared data set: make one with `{prepare}`") from error
    found = about.get("format") if isinstance(about, dict) else None
    if found != FORMAT:
        raise DataError(f"{root} has format {found}, this mien reads {FORMAT}: prepare it again")
    try:
        splits = {name: _load_split(root / name) for name in about["splits"] if name in only}
        return Dataset(tuple(about["labels"]), splits, about["provenance"])
    except KeyError as error:
        raise DataError(f"{root} is damaged (dataset.json has no {error.args[0]}): prepare it again") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{root} is damaged ({error}): prepare it again") from error


def _load_split(folder: Path) -> Split:
    def optional(name: str) -> Path | None:
        return folder / name if (folder / name).exists() else None

    votes, sources = optional("votes.npy"), optional("sources.json")
    images_path = folder / "images.npy"
    return Split(
        images=np.load(images_path, mmap_mode="r", allow_pickle=False),
        labels=np.load(folder / "labels.npy", allow_pickle=False),
        names=tuple(json.loads((folder / "names.json").read_text(encoding="utf-8"))),
        votes=None if votes is None else np.load(votes, allow_pickle=False),
        sources=None if sources is None else np.array(json.loads(sources.read_text()), np.int64),
    )


def _counts(split: Split, dataset: Dataset) -> list[int]:
    return [int(n) for n in np.bincount(split.labels, minlength=len(dataset.labels))]
