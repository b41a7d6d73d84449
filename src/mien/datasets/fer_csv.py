"""The original `fer2013.csv`: one row an image, with its emotion code, its pixels as text, and its part."""

import csv
import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mien.datasets.layout import USAGES, Item
from mien.errors import DataError
from mien.labels import FER7, FER2013_CSV

CSV_NAMES = frozenset({"fer2013.csv", "icml_face_data.csv"})
"""What the file is called where it stands among others."""

_HEADER_BYTES = 4096


@dataclass(frozen=True, slots=True, eq=False)
class CsvImage:
    """One row: its item, and its pixels or what is wrong with them."""

    item: Item
    pixels: NDArray[np.uint8] | None  # (H, W)
    fault: str = ""


def looks_like_fer_csv(start: bytes) -> bool:
    """Whether a file's first bytes are a header with the columns `emotion` and `pixels`."""
    line = start[:_HEADER_BYTES].decode("utf-8-sig", "replace").partition("\n")[0]
    return {"emotion", "pixels"} <= set(_column_names(line.split(",")))


def read_fer_csv(file: IO[bytes], source: str) -> Iterator[CsvImage]:
    """The rows of the CSV in file order; images are named as FER+ names them, `fer0000000.png` and up.

    Column names may have spaces around them, any case and any order. Without a `Usage` column, as in Kaggle's
    `train.csv`, every row is of Training.

    Raises:
        DataError: a column is missing, or an emotion code or usage is unknown.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    rows = csv.reader(text)
    try:
        columns = _column_names(next(rows, []))
        if missing := {"emotion", "pixels"} - set(columns):
            raise DataError(f"{source}: no column {' and '.join(sorted(missing))}: is it fer2013.csv?")
        emotion, pixels = columns.index("emotion"), columns.index("pixels")
        usage = columns.index("usage") if "usage" in columns else None
        for number, row in enumerate(row for row in rows if row):
            where = f"{source}, row {number}"
            if len(row) < len(columns):
                raise DataError(f"{where}: {len(row)} of {len(columns)} columns: the file is cut short, fetch it again")
            part = USAGES[0] if usage is None else _usage(row[usage], where)
            item = Item(f"fer{number:07d}.png", _label(row[emotion], where), part, None, number)
            image, fault = parse_pixels(row[pixels])
            yield CsvImage(item, image, fault)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read as CSV ({error}): fetch it again") from error
    finally:
        text.detach()  # the caller closes the file


def parse_pixels(text: str) -> tuple[NDArray[np.uint8] | None, str]:
    """A square image (H, H) from numbers 0-255 with spaces between, and an empty string; or None, and the fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how NumPy before 2.3 reports what is no number
        try:
            values = np.fromstring(text, np.int32, sep=" ")
        except (ValueError, DeprecationWarning):
            return None, "pixels that are no numbers"
    side = math.isqrt(values.size)
    if values.size == 0 or side * side != values.size:
        return None, f"{values.size} pixels, which is no square"
    if values.min() < 0 or values.max() > 255:
        return None, "pixels outside 0 to 255"
    return values.astype(np.uint8).reshape(side, side), ""


def _column_names(header: list[str]) -> list[str]:
    return [name.strip().strip('"').strip().lower() for name in header]


def _label(code: str, where: str) -> int:
    try:
        number = int(code)
    except ValueError:
        number = -1
    if not 0 <= number < len(FER2013_CSV):
        raise DataError(f"{where}: emotion {code!r} is no known class: the codes are 0 to {len(FER2013_CSV) - 1}")
    return FER7.index(FER2013_CSV[number])


def _usage(text: str, where: str) -> str:
    if (usage := text.strip()) not in USAGES:
        raise DataError(f"{where}: usage {text!r} is unknown: use one of {', '.join(USAGES)}")
    return usage
