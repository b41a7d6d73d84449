"""Small data sets of drawn faces in the forms that FER-2013 comes in."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from mien.datasets.ferplus import HEADER
from mien.datasets.packed import Split
from mien.labels import FER7, FER2013_CSV

USAGES = ("Training", "Training", "Training", "PublicTest", "PublicTest", "PrivateTest")
PER_CLASS = {"train": 3, "validation": 2, "test": 1}


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def kaggle_files(cartoon_faces: Split) -> dict[str, bytes]:
    """Path inside Kaggle's folder -> PNG: of each class 3 Training, 2 PublicTest, 1 PrivateTest."""
    files = {}
    for label, name in enumerate(FER7):
        rows = np.flatnonzero(cartoon_faces.labels == label)
        for number, (row, usage) in enumerate(zip(rows, USAGES, strict=False)):
            folder = "train" if usage == "Training" else "test"
            files[f"{folder}/{name}/{usage}_{label}{number}.png"] = png(cartoon_faces.images[row])
    return files


@pytest.fixture
def kaggle(kaggle_files: dict[str, bytes], tmp_path: Path) -> Path:
    """Kaggle's folder, free to be changed."""
    return write_tree(tmp_path / "fer2013", kaggle_files)


@pytest.fixture
def archive(kaggle_files: dict[str, bytes], tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes an archive by its ending, with a folder in front of every path."""

    def make(ending: str, prefix: str = "") -> Path:
        path = tmp_path / f"fer2013{ending}"
        if ending == ".zip":
            with zipfile.ZipFile(path, "w") as zipped:
                for name, data in kaggle_files.items():
                    zipped.writestr(prefix + name, data)
            return path
        mode: Any = f"w:{ending.removeprefix('.tar').removeprefix('.')}"
        with tarfile.open(path, mode) as tar:
            for name, data in kaggle_files.items():
                info = tarfile.TarInfo(prefix + name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    return make


@pytest.fixture(scope="session")
def csv_text(cartoon_faces: Split) -> str:
    """The same faces as `fer2013.csv`: all Training first, then PublicTest, then PrivateTest."""
    lines = ["emotion,pixels,Usage"]
    for usage in dict.fromkeys(USAGES):
        for label, name in enumerate(FER7):
            rows = np.flatnonzero(cartoon_faces.labels == label)
            for row, of in zip(rows, USAGES, strict=False):
                if of == usage:
                    pixels = " ".join(map(str, cartoon_faces.images[row].ravel()))
                    lines.append(f"{FER2013_CSV.index(name)},{pixels},{usage}")
    return "\n".join(lines) + "\n"


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def ferplus_csv(path: Path, usages: list[str], nameless: set[int]) -> Path:
    """Ten votes a row: the row's number, over all columns in turn; rows in `nameless` are no faces."""
    lines = [",".join(HEADER)]
    for row, usage in enumerate(usages):
        votes = [str((row + column) % 11) for column in range(10)]
        lines.append(",".join([usage, "" if row in nameless else f"fer{row:07d}.png", *votes]))
    path.write_text("\n".join(lines) + "\n")
    return path
