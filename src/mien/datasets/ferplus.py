"""FER+: ten taggers' votes for each image of FER-2013 (Barsoum et al. 2016, https://github.com/microsoft/FERPlus).

The votes stand in the row order of the original `fer2013.csv`, and are joined by row to that file alone. Kaggle's
folders lost that order; the table
`kaggle_to_ferplus.csv.gz` gives it back, made by matching pixels (docs/data.md).
"""

import csv
import gzip
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.datasets.layout import Item, Listing
from mien.datasets.packed import Split
from mien.errors import DataError
from mien.hub import sha256_of
from mien.labels import FER7, FERPLUS8, FERPLUS_COLUMNS

HEADER = (
    "usage", "image name",
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "nf",
)  # fmt: skip
_EMOTIONS = [FERPLUS_COLUMNS.index(label) for label in FERPLUS8]


@dataclass(frozen=True, slots=True, eq=False)
class FerPlus:
    """The votes, by row of the original `fer2013.csv`."""

    votes: NDArray[np.uint8]  # (R, 10), in the order of `FERPLUS_COLUMNS`; zeros where FER+ leaves the image out
    usages: tuple[str, ...]
    sha256: str

    def joinable(self, listing: Listing) -> Listing:
        """`listing` with rows where it is `fer2013.csv`; without, so that no votes are joined, where it is another CSV.

        It is where its rows are of the parts that FER+'s rows are of, one by one, up to the end of a part: Training
        (28,709), then PublicTest (3,589), then PrivateTest (3,589), or the first one or two of them.
        """
        usages = tuple(item.usage for item in listing.items)
        ends_a_part = self.usages[len(usages) : len(usages) + 1] != usages[-1:]
        if usages == self.usages[: len(usages)] and ends_a_part:
            return listing
        return replace(listing, items=tuple(replace(item, row=None) for item in listing.items))

    def of(self, item: Item) -> NDArray[np.uint8] | None:
        """The ten counts of an image, by its row (see `joinable`) or its Kaggle path; None: it is not of FER-2013.

        Raises:
            DataError: the row is of another part than the image, so the two files are not of the same order.
        """
        row = item.row if item.row is not None else _kaggle_row(item)
        if row is None:
            return None
        if row >= len(self.votes) or self.usages[row] != item.usage:
            raise DataError(
                f"{item.path} is of {item.usage}, but row {row} of the FER+ file is not: "
                "take fer2013new.csv and fer2013.csv as they were published, in their row order"
            )
        return np.asarray(self.votes[row])


def read_ferplus(path: Path) -> FerPlus:
    """Read `fer2013new.csv`. Rows without an image name, which FER+ leaves out as no faces, have no votes.

    Raises:
        DataError: the file is missing, or not of that form.
    """
    votes: list[list[int]] = []
    usages: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = tuple(name.strip().lower() for name in next(rows, []))
            if header != HEADER:
                raise DataError(f"{path} is not FER+'s fer2013new.csv: its columns are {', '.join(header)[:200]}")
            for usage, name, *counts in rows:
                usages.append(usage)
                votes.append([int(count) if name.strip() else 0 for count in counts])
        table = np.array(votes, np.uint8).reshape(len(usages), len(FERPLUS_COLUMNS))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): `mien data download` fetches it") from error
    except (ValueError, OverflowError, csv.Error) as error:
        raise DataError(f"{path} is damaged near row {len(usages)} ({error}): fetch it again") from error
    return FerPlus(table, tuple(usages), sha256_of(path))


def _kaggle_row(item: Item) -> int | None:
    """Row of a Kaggle file, whatever its folders are called now: the part, class and file name tell it."""
    if item.usage is None:
        return None
    folder = "train" if item.usage == "Training" else "test"
    return kaggle_rows().get(f"{folder}/{FER7[item.label]}/{item.name}")


@cache
def kaggle_rows() -> Mapping[str, int]:
    """Kaggle path, such as `train/angry/Training_10118481.jpg`, to row of `fer2013.csv`, where FER+ has one."""
    packed = files("mien.datasets").joinpath("kaggle_to_ferplus.csv.gz").read_bytes()
    rows = csv.reader(gzip.decompress(packed).decode().splitlines()[1:])
    return {path: int(row) for path, row in rows if row}


def vote_shares(split: Split) -> NDArray[np.float32]:
    """(N, 8) share of the taggers' votes for each class of `FERPLUS8`; a row of zeros where none voted for a class."""
    assert split.votes is not None
    votes = split.votes[:, _EMOTIONS].astype(np.float32)
    return np.asarray(votes / np.maximum(votes.sum(1, keepdims=True), 1), np.float32)


def voted_faces(split: Split) -> NDArray[np.int64]:
    """Rows with a majority emotion: "unknown" and "not a face" did not win (Barsoum et al. 2016)."""
    assert split.votes is not None
    emotions = split.votes[:, _EMOTIONS]
    other = np.delete(split.votes, _EMOTIONS, axis=1)
    return np.flatnonzero((emotions.max(1) > other.max(1)) & (emotions.sum(1) > 0))
