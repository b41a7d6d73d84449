"""Where prepared images go: packed arrays, or a tree of image files. Both land in one rename."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from mien.datasets import packed
from mien.datasets.ferplus import FerPlus
from mien.datasets.layout import Item
from mien.datasets.sources import Loaded
from mien.errors import DataError
from mien.labels import FER7, FERPLUS_COLUMNS
from mien.preprocess import fit

TREE_MARKER = "provenance.json"
"""Stands in the root of a tree of folders, so that a later run knows it may replace it."""


@dataclass(frozen=True, slots=True)
class Planned:
    """An image of a source and its place in a split."""

    item: Item
    source: int  # index into the sources
    split: str
    row: int  # inside the split


class Writer(Protocol):
    """Takes readable images one by one, then puts them all in place."""

    def add(self, planned: Planned, loaded: Loaded) -> None:
        """Take one image."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What the provenance should say about this way of writing."""
        ...

    def finish(self, out: Path, provenance: Mapping[str, Any]) -> None:
        """Write to `out`, at once."""
        ...

    def discard(self) -> None:
        """Drop what was taken."""
        ...


class Align(Protocol):
    """Crops faces once more, upright (`mien.faces.recrop`)."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What the provenance should say of it."""
        ...

    def __call__(self, pixels: NDArray[np.uint8], size_hw: tuple[int, int], /) -> NDArray[np.uint8] | None:
        """Grey (H, W) to grey (h, w); None where it shows no face."""
        ...


class PackedWriter:
    """One uint8 array a split (see `packed`); where `align` finds no face, the image stays as it is.

    With `add_aligned`, all images stay as they are, and the aligned crops of the training images come behind them.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        sources: Sequence[str],
        size_hw: tuple[int, int],
        *,
        ferplus: FerPlus | None = None,
        align: Align | None = None,
        add_aligned: bool = False,
    ) -> None:
        rows = {split: sizes.get(split, 0) for split in packed.SPLITS}
        self._first_added = rows["train"] if add_aligned else None  # row of the first crop that is added
        if add_aligned:
            rows["train"] *= 2
        self._splits = {split: _Arrays(n, size_hw, ferplus is not None) for split, n in rows.items()}
        self._sources, self._size_hw, self._ferplus = sources, size_hw, ferplus
        self._align, self._aligned, self._taken = align, Counter[str](), Counter[str]()
        self._resized = 0
        self._joined: Counter[str] = Counter()

    def add(self, planned: Planned, loaded: Loaded) -> None:
        """See `Writer`."""
        assert loaded.pixels is not None, "only readable images are added"
        crop, added = self._crop(loaded.pixels, planned.split), self._first_added
        self._put(planned, planned.row, self._fit(loaded.pixels) if crop is None or added is not None else crop)
        if crop is not None and added is not None:
            self._put(planned, added + planned.row, crop, mark=packed.ALIGNED)

    def describe(self) -> Mapping[str, Any]:
        """See `Writer`.

        Raises:
            DataError: votes were asked for, and no image has any.
        """
        about: dict[str, Any] = {"size_hw": list(self._size_hw), "resized": self._resized, "ferplus": None}
        if self._ferplus:
            if not self._joined:
                raise DataError("no image is known to FER+: leave out --ferplus, or give FER-2013 itself as a source")
            joined = {split: self._joined[split] for split in packed.SPLITS}
            about["ferplus"] = {"sha256": self._ferplus.sha256, "images_with_votes": joined}
        if self._align is not None:
            found = {split: self._aligned[split] for split in packed.SPLITS}
            without = {split: self._taken[split] - self._aligned[split] for split in packed.SPLITS}
            about["aligned"] = {**self._align.about, "images": found, "images_without_a_face": without}
            if self._first_added is not None:
                about["aligned"]["added"] = True
        return about

    def finish(self, out: Path, provenance: Mapping[str, Any]) -> None:
        """See `Writer`."""
        splits = {name: arrays.split() for name, arrays in self._splits.items()}
        out.parent.mkdir(parents=True, exist_ok=True)
        packed.save(packed.Dataset(FER7, splits, provenance), out)

    def discard(self) -> None:
        """See `Writer`."""
        self._splits.clear()

    def _crop(self, pixels: NDArray[np.uint8], split: str) -> NDArray[np.uint8] | None:
        """The aligned crop; None where none is wanted, or no face is found."""
        if self._align is None or (self._first_added is not None and split != "train"):
            return None
        self._taken[split] += 1
        crop = self._align(pixels, self._size_hw)
        self._aligned[split] += crop is not None
        return crop

    def _put(self, planned: Planned, row: int, image: NDArray[np.uint8], *, mark: str = "") -> None:
        arrays = self._splits[planned.split]
        prefix = f"{self._sources[planned.source]}:" if planned.source else ""
        arrays.images[row] = image
        arrays.labels[row] = planned.item.label
        arrays.sources[row] = planned.source
        arrays.names[row] = f"{mark}{prefix}{planned.item.path}"
        if self._ferplus and arrays.votes is not None and (votes := self._ferplus.of(planned.item)) is not None:
            arrays.votes[row] = votes
            self._joined[planned.split] += bool(votes.any()) and not mark

    def _fit(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if pixels.shape == self._size_hw:
            return pixels
        self._resized += 1
        return fit(pixels, self._size_hw)


class TreeWriter:
    """`<split>/<class>/<file>`: the files as they were, PNG where the source was a CSV."""

    def __init__(self, out: Path, sources: Sequence[str]) -> None:
        self._partial = out.with_name(out.name + ".partial")
        self._sources = sources
        self._taken: set[str] = set()

    def add(self, planned: Planned, loaded: Loaded) -> None:
        """See `Writer`."""
        if not self._taken:
            self._make_folders()
        folder = f"{planned.split}/{FER7[planned.item.label]}"
        path = self._partial / folder / self._free_name(folder, planned)
        if loaded.data is not None:
            path.write_bytes(loaded.data)
        elif loaded.pixels is not None:
            PIL.Image.fromarray(loaded.pixels).save(path)

    def describe(self) -> Mapping[str, Any]:
        """See `Writer`."""
        return {"layout": "folders"}

    def finish(self, out: Path, provenance: Mapping[str, Any]) -> None:
        """See `Writer`."""
        text = json.dumps(provenance, indent=1, ensure_ascii=False)
        (self._partial / TREE_MARKER).write_text(text, encoding="utf-8")
        packed.replace_folder(self._partial, out)

    def discard(self) -> None:
        """See `Writer`."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def _make_folders(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)
        for split in packed.SPLITS:
            for label in FER7:
                (self._partial / split / label).mkdir(parents=True)

    def _free_name(self, folder: str, planned: Planned) -> str:
        """The file's own name; where it is taken, with the source's name behind it, then with a number."""
        path = PurePosixPath(planned.item.name)
        name, number = path.name, 1
        while f"{folder}/{name}".casefold() in self._taken:
            mark = self._sources[planned.source] + (f"-{number}" if number > 1 else "")
            name, number = f"{path.stem}-{mark}{path.suffix}", number + 1
        self._taken.add(f"{folder}/{name}".casefold())
        return name


class _Arrays:
    """Rows of one split, filled in any order; rows that stay empty are dropped."""

    def __init__(self, rows: int, size_hw: tuple[int, int], voted: bool) -> None:
        self.images = np.zeros((rows, *size_hw), np.uint8)
        self.labels = np.zeros(rows, np.int64)
        self.sources = np.zeros(rows, np.int64)
        self.names: list[str | None] = [None] * rows
        self.votes = np.zeros((rows, len(FERPLUS_COLUMNS)), np.uint8) if voted else None

    def split(self) -> packed.Split:
        filled = [row for row, name in enumerate(self.names) if name is not None]
        names = tuple(name for name in self.names if name is not None)

        def kept(array: NDArray[Any]) -> NDArray[Any]:
            for to, row in enumerate(filled):  # in place: indexing would hold the images twice
                if to < row:
                    array[to] = array[row]
            return array[: len(filled)]

        votes = None if self.votes is None else kept(self.votes)
        return packed.Split(kept(self.images), kept(self.labels), names, votes, kept(self.sources))
