"""What was seen as data: one flat row a face and frame, written in pieces as it goes."""

import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mien.errors import VideoError, require

if TYPE_CHECKING:
    from mien.video.frames import Frame
    from mien.video.track import TrackedFace

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")  # left and right as seen
ROWS_A_GROUP = 1024  # of Parquet: one face for 40 seconds, a MB or two while they wait
FLUSH_S = 1.0  # CSV and JSON Lines: no more than this is lost when the process is killed

Row = dict[str, Any]


def columns(labels: Sequence[str]) -> dict[str, str]:
    """Name and type of each column: `float` has 64 bits, `real` 32."""
    return {
        "time_s": "float",
        "frame": "int",
        "track": "int",
        **dict.fromkeys(("left", "top", "right", "bottom"), "real"),
        "score": "real",
        "detected": "bool",
        "emotion": "text",
        "confidence": "real",
        "uncertain": "bool",
        **dict.fromkeys(labels, "real"),
        **dict.fromkeys((f"raw_{label}" for label in labels), "real"),
        **dict.fromkeys(("size_px", "blur", "tilt_deg", "turn_ratio"), "real"),
        **dict.fromkeys((f"{point}_{axis}" for point in POINTS for axis in "xy"), "real"),
    }


def row(frame: "Frame", face: "TrackedFace") -> Row:
    """One face of one frame, as native numbers; None where the detector gives no landmarks."""
    seen = face.face
    box = zip(("left", "top", "right", "bottom"), seen.box_xyxy, strict=True)
    flat = [None] * 10 if seen.landmarks is None else [round(float(value), 2) for value in seen.landmarks.reshape(-1)]
    return {
        "time_s": round(frame.time_s, 6),
        "frame": frame.index,
        "track": face.track,
        **{side: round(float(value), 2) for side, value in box},
        "score": round(seen.score, 4),
        "detected": face.detected,
        "emotion": face.emotion,
        "confidence": round(face.confidence, 5),
        "uncertain": face.uncertain,
        **{label: round(float(p), 5) for label, p in zip(seen.labels, face.probabilities, strict=True)},
        **{f"raw_{label}": round(float(p), 5) for label, p in zip(seen.labels, seen.probabilities, strict=True)},
        **seen.quality.to_dict(),
        **dict(zip((f"{point}_{axis}" for point in POINTS for axis in "xy"), flat, strict=True)),
    }


class TableWriter(Protocol):
    """Takes rows; closing it at any moment leaves a valid file of what came."""

    def write(self, rows: Sequence[Row]) -> None:
        """Rows of one frame."""

    def close(self) -> None:
        """Write what is held back."""


def open_table(path: Path, labels: Sequence[str], *, about: Mapping[str, Any]) -> TableWriter:
    """A table by the ending of `path`; `about` goes into a Parquet file as metadata `mien`. Folders are made.

    Raises:
        VideoError: the ending is unknown.
        MissingExtraError: Parquet, and pyarrow is not installed.
        OSError: the file cannot be made.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise VideoError(f"{path}: no table that mien writes: end it with {', '.join(TABLES)}")
    if suffix == ".parquet":
        require("pyarrow.parquet", "video")
    path.parent.mkdir(parents=True, exist_ok=True)
    return TABLES[suffix](path, labels, about)


class _Text:
    """A text file that is flushed about once a second."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", encoding="utf-8", newline="")
        self._flushed_s = time.monotonic()

    def flush_sometimes(self) -> None:
        if time.monotonic() - self._flushed_s > FLUSH_S:
            self.file.flush()
            self._flushed_s = time.monotonic()


class CsvTable:
    """One line a row; true and false in lower case, nothing where a value is missing."""

    def __init__(self, path: Path, labels: Sequence[str], about: Mapping[str, Any]) -> None:
        """`about` has no place in CSV."""
        self._text = _Text(path)
        self._csv = csv.writer(self._text.file, lineterminator="\n")
        self._csv.writerow(columns(labels))

    def write(self, rows: Sequence[Row]) -> None:
        """Rows of one frame."""
        for one in rows:
            self._csv.writerow(str(v).lower() if isinstance(v, bool) else v for v in one.values())
        self._text.flush_sometimes()

    def close(self) -> None:
        """Close the file."""
        self._text.file.close()


class JsonLines:
    """One JSON object a line."""

    def __init__(self, path: Path, labels: Sequence[str], about: Mapping[str, Any]) -> None:
        """Each line names its own keys."""
        self._text = _Text(path)

    def write(self, rows: Sequence[Row]) -> None:
        """Rows of one frame."""
        for one in rows:
            self._text.file.write(json.dumps(one, allow_nan=False) + "\n")
        self._text.flush_sometimes()

    def close(self) -> None:
        """Close the file."""
        self._text.file.close()


class ParquetTable:
    """Row groups of some thousand rows; `emotion` is a dictionary column, a category in pandas and polars."""

    def __init__(self, path: Path, labels: Sequence[str], about: Mapping[str, Any]) -> None:
        """Write the header."""
        self._arrow: Any = require("pyarrow", "video")
        parquet: Any = require("pyarrow.parquet", "video")
        types = {
            "float": self._arrow.float64(),
            "real": self._arrow.float32(),
            "int": self._arrow.int32(),
            "bool": self._arrow.bool_(),
            "text": self._arrow.dictionary(self._arrow.int32(), self._arrow.string()),
        }
        fields = [self._arrow.field(name, types[kind]) for name, kind in columns(labels).items()]
        self._schema = self._arrow.schema(fields, metadata={"mien": json.dumps(dict(about))})
        self._file = parquet.ParquetWriter(str(path), self._schema, compression="zstd")
        self._rows: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        """Rows of one frame, kept until a group is full."""
        self._rows += rows
        if len(self._rows) >= ROWS_A_GROUP:
            self._write_group()

    def close(self) -> None:
        """Write the last group and the index, without which the file cannot be read."""
        if self._rows:
            self._write_group()
        self._file.close()

    def _write_group(self) -> None:
        self._file.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


TABLES: dict[str, Callable[[Path, Sequence[str], Mapping[str, Any]], TableWriter]] = {
    ".parquet": ParquetTable,
    ".csv": CsvTable,
    ".jsonl": JsonLines,
}
