"""Tables: the same rows in every form, whole whenever they are closed, one line for pandas and polars."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mien.errors import MissingExtraError, VideoError
from mien.labels import FER7
from mien.video import table
from mien.video.frames import Frame
from tests.video.conftest import coded, tracked

EXPECTED = [
    *("time_s", "frame", "track", "left", "top", "right", "bottom", "score", "detected"),
    *("emotion", "confidence", "uncertain", *FER7, *(f"raw_{label}" for label in FER7)),
    *("size_px", "blur", "tilt_deg", "turn_ratio"),
    *("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y", "nose_x", "nose_y"),
    *("left_mouth_x", "left_mouth_y", "right_mouth_x", "right_mouth_y"),
]


def rows() -> list[table.Row]:
    """Four faces of three frames."""
    frames = [Frame(coded(number), time_s, number) for number, time_s in enumerate((0.0, 0.04, 0.5))]
    return [
        table.row(frames[0], tracked("happy", raw=0.5)),
        table.row(frames[1], tracked("sad", uncertain=True)),
        table.row(frames[1], tracked("fear", track=2, landmarks=False)),
        table.row(frames[2], tracked("sad", confidence=0.9)),
    ]


def write(path: Path) -> Path:
    writer = table.open_table(path, FER7, about={"name": "tiny", "sha256": "0" * 64})
    writer.write(rows()[:1])
    writer.write(rows()[1:3])
    writer.write(rows()[3:])
    writer.close()
    return path


def test_a_row() -> None:
    first, *_ = rows()
    assert list(first) == EXPECTED == list(table.columns(FER7))
    assert (first["time_s"], first["frame"], first["track"]) == (0.0, 0, 1)
    assert (first["left"], first["bottom"], first["emotion"]) == (30, 80, "happy")
    assert (first["confidence"], first["happy"], first["raw_happy"]) == (0.7, 0.7, 0.5)
    assert (first["nose_x"], first["right_mouth_y"]) == (60, 66)
    assert sum(first[label] for label in FER7) == pytest.approx(1, abs=1e-4)
    assert rows()[2]["nose_x"] is None
    json.dumps(first)  # native numbers throughout


def test_json_lines(tmp_path: Path) -> None:
    lines = write(tmp_path / "made" / "faces.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows()


def test_csv(tmp_path: Path) -> None:
    with write(tmp_path / "faces.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [list(one) for one in read] == [EXPECTED] * 4
    assert [one["emotion"] for one in read] == ["happy", "sad", "fear", "sad"]
    assert (read[1]["uncertain"], read[2]["nose_x"], read[0]["happy"]) == ("true", "", "0.7")


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet  # noqa: PLC0415

    monkeypatch.setattr(table, "ROWS_A_GROUP", 2)
    file = parquet.ParquetFile(write(tmp_path / "faces.parquet"))
    assert file.num_row_groups == 2  # in pieces: the first two calls, then the rest
    assert json.loads(file.schema_arrow.metadata[b"mien"]) == {"name": "tiny", "sha256": "0" * 64}
    read = file.read().to_pylist()
    for one, expected in zip(read, rows(), strict=True):
        assert one == {k: pytest.approx(v) if isinstance(v, float) else v for k, v in expected.items()}


@pytest.mark.parametrize("package", ["pandas", "polars"])
@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_one_line_reads_it(tmp_path: Path, package: str, ending: str) -> None:
    library = pytest.importorskip(package)
    path = write(tmp_path / f"faces.{ending}")
    readers = {
        ("pandas", "parquet"): lambda: library.read_parquet(path),
        ("pandas", "csv"): lambda: library.read_csv(path),
        ("pandas", "jsonl"): lambda: library.read_json(path, lines=True),
        ("polars", "parquet"): lambda: library.read_parquet(path),
        ("polars", "csv"): lambda: library.read_csv(path),
        ("polars", "jsonl"): lambda: library.read_ndjson(path),
    }
    frame = readers[package, ending]()
    assert sorted(frame.columns) == sorted(EXPECTED)  # polars 2 shuffles the keys of JSON
    assert list(frame["track"]) == [1, 1, 2, 1]
    assert list(frame["emotion"]) == ["happy", "sad", "fear", "sad"]
    assert list(frame["uncertain"]) == [False, True, False, False]
    assert np.allclose(frame[list(FER7)].to_numpy().sum(axis=1), 1, atol=1e-3)


def test_text_is_there_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FLUSH_S", 0.0)
    writer = table.open_table(tmp_path / "faces.csv", FER7, about={})
    writer.write(rows()[:2])
    assert len((tmp_path / "faces.csv").read_text().splitlines()) == 3
    writer.close()


@pytest.mark.parametrize("name", ["faces", "faces.xlsx"])
def test_endings_that_are_no_table(tmp_path: Path, name: str) -> None:
    with pytest.raises(VideoError, match=r"end it with \.parquet, \.csv, \.jsonl"):
        table.open_table(tmp_path / name, FER7, about={})


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[video\]'"):
        table.open_table(tmp_path / "faces.parquet", FER7, about={})
