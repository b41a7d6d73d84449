"""A source of images to prepare: a folder, an archive, or the original CSV, in either of them or alone."""

import hashlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mien.datasets.fer_csv import CSV_NAMES, CsvImage, looks_like_fer_csv, read_fer_csv
from mien.datasets.layout import Item, Listing, list_items
from mien.datasets.trees import FolderTree, Tree, folder_sha256, open_tree
from mien.errors import DataError, ImageError
from mien.hub import sha256_of
from mien.images import DEFAULT_LIMITS, read_image
from mien.preprocess import to_grey

_DAMAGED_MEMBER = (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """One image of a source after reading: its pixels, or what is wrong with it."""

    item: Item
    pixels: NDArray[np.uint8] | None  # (H, W) grey
    data: bytes | None = None  # the file as it was; None where the image was text in a CSV
    fault: str = ""


class Source(Protocol):
    """Images with names, classes and parts."""

    path: Path
    kind: str  # "folder", "zip", "tar" or "csv"

    def scan(self) -> Listing:
        """What is inside.

        Raises:
            DataError: a class folder, emotion code or usage is unknown, or the archive is damaged.
        """
        ...

    def read(self, items: Collection[Item]) -> Iterator[Loaded]:
        """The images of `items`, in any order; to be called once, after `scan`."""
        ...

    def sha256(self) -> str:
        """Hash of the archive or CSV; of a folder, over the images read (see `trees.folder_sha256`)."""
        ...


class TreeSource:
    """Class folders, on the disk or in an archive."""

    def __init__(self, tree: Tree, entries: list[str]) -> None:
        self.path, self.kind = tree.path, tree.kind
        self._tree, self._entries = tree, entries
        self._hashes: dict[str, str] = {}

    def scan(self) -> Listing:
        """See `Source`."""
        name = self.path.resolve().name if isinstance(self._tree, FolderTree) else ""
        return list_items(self._entries, str(self.path), root_name=name)

    def read(self, items: Collection[Item]) -> Iterator[Loaded]:
        """See `Source`."""
        by_path = {item.path: item for item in items}
        for path, open_file in self._tree.open_each(by_path):
            item = by_path[path]
            try:
                with open_file() as file:
                    data = file.read(DEFAULT_LIMITS.max_bytes + 1)
            except _DAMAGED_MEMBER as error:
                yield Loaded(item, None, fault=f"cannot be read: {error}")
                continue
            except tarfile.ReadError as error:
                raise DataError(f"{self.path} is cut short at {path} ({error}): download it again") from error
            self._hashes[path] = hashlib.sha256(data).hexdigest()
            yield _decode(item, data)

    def sha256(self) -> str:
        """See `Source`."""
        return self._tree.sha256() or folder_sha256(self._hashes)


class CsvSource:
    """The original CSV: a file of its own, or a member of a folder or archive."""

    kind = "csv"

    def __init__(self, path: Path, tree: Tree | None = None, member: str = "") -> None:
        self.path = path
        self._tree, self._member = tree, member
        self._images: dict[str, CsvImage] = {}  # by the path of the item

    def scan(self) -> Listing:
        """See `Source`; the rows are read here, in one pass."""
        for image in self._rows():
            self._images[image.item.path] = image
        return Listing(tuple(image.item for image in self._images.values()), {})

    def read(self, items: Collection[Item]) -> Iterator[Loaded]:
        """See `Source`."""
        for item in items:
            image = self._images.pop(item.path)
            yield Loaded(item, image.pixels, fault=image.fault)

    def sha256(self) -> str:
        """See `Source`."""
        whole = self._tree.sha256() if self._tree else None
        return whole or sha256_of(self.path / self._member)

    def _rows(self) -> Iterator[CsvImage]:
        source = f"{self.path}/{self._member}" if self._member else str(self.path)
        if self._tree is None:
            with self.path.open("rb") as file:
                yield from read_fer_csv(file, source)
            return
        for _, open_file in self._tree.open_each({self._member}):
            with open_file() as file:
                yield from read_fer_csv(file, source)


def open_source(path: Path) -> Source:
    """The source at `path`, told by its content.

    Raises:
        DataError: there is nothing at `path`, or nothing that mien can prepare.
    """
    if path.is_file():
        try:
            with path.open("rb") as file:
                start = file.read(4096)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if looks_like_fer_csv(start):
            return CsvSource(path)
        if path.suffix.lower() == ".csv":
            raise DataError(f"{path} has no columns emotion and pixels: give the original fer2013.csv")
    tree = open_tree(path)
    entries = tree.entries()
    members = [entry for entry in entries if entry.rpartition("/")[2].lower() in CSV_NAMES]
    source = TreeSource(tree, entries)
    if members and not source.scan().items:
        return CsvSource(path, tree, members[0])
    return source


def _decode(item: Item, data: bytes) -> Loaded:
    try:
        image = read_image(data)
    except ImageError as error:
        return Loaded(item, None, data, str(error).partition(": ")[2] or str(error))
    return Loaded(item, to_grey(image[None])[0], data)
