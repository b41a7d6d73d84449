"""Shared fixtures: drawn faces, two real portraits, FER-2013 where it is at hand, a tiny model; and no network."""

import hashlib
import ipaddress
import os
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.datasets import packed
from mien.labels import FER7
from tests import drawing
from tests.command import mien_command  # noqa: F401 - a fixture

# the same help texts, tables and pictures on every machine; before anything imports Rich or matplotlib
os.environ.update(NO_COLOR="1", COLUMNS="120", MPLBACKEND="Agg")
for variable in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):  # each makes Typer write escape codes
    os.environ.pop(variable, None)

REPOSITORY = Path(__file__).parents[1]


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] in ("localhost", "")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that leave this machine fail as they do without a network."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def refuse(self: socket.socket, address: Any) -> None:
        if not _is_local(address):
            raise OSError(101, f"tests have no network: {address} is not this machine")
        connect(self, address)

    def refuse_ex(self: socket.socket, address: Any) -> int:
        return connect_ex(self, address) if _is_local(address) else 101  # ENETUNREACH

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse_ex)


@pytest.fixture(autouse=True)
def mien_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty `$MIEN_HOME`: no test sees, or leaves, files in the user's cache."""
    home = tmp_path / "mien-home"
    monkeypatch.setenv("MIEN_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def cartoon_faces() -> packed.Split:
    """70 drawn faces of 48 x 48, the seven emotions in turn; read-only."""
    split = drawing.draw_split(10, seed=0)
    split.images.flags.writeable = False
    split.labels.flags.writeable = False
    return split


@pytest.fixture(scope="session")
def cartoon_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed data set of drawn faces with FER+ votes: 140 to train, 70 to validate, an empty test split."""
    empty = drawing.draw_split(1, seed=0, votes=True).take(np.empty(0, np.int64))
    splits = {
        "train": drawing.draw_split(20, seed=1, votes=True),
        "validation": drawing.draw_split(10, seed=2, votes=True),
        "test": empty,
    }
    root = tmp_path_factory.mktemp("cartoons") / "packed"
    packed.save(packed.Dataset(FER7, splits, {"source": "drawn", "protocol": "icml"}), root)
    return root


@pytest.fixture(scope="session")
def drawn_photo() -> NDArray[np.uint8]:
    """A picture (480, 640, 3) RGB with one drawn face; read-only."""
    photo = drawing.draw_photo()
    photo.flags.writeable = False
    return photo


def _package_file(package: str, *parts: str) -> Path:
    """A file of an installed package, without importing the package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed: pip install -e '.[dev]'")
    return Path(spec.origin).parent.joinpath(*parts)


@pytest.fixture(scope="session")
def grace_hopper() -> Path:
    """A portrait photograph, 512 x 600 JPEG (public domain, in matplotlib's wheel)."""
    return _package_file("matplotlib", "mpl-data", "sample_data", "grace_hopper.jpg")


@pytest.fixture(scope="session")
def astronaut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portrait photograph, 512 x 512 PNG (NASA, public domain, in scikit-image's wheel)."""
    source = _package_file("skimage", "data", "astronaut.png")
    return Path(shutil.copy(source, tmp_path_factory.mktemp("portrait") / "astronaut.png"))


@pytest.fixture(scope="session")
def fer2013_archive() -> Path:
    """The archive of FER-2013 in Kaggle's layout, or a skip."""
    path = Path(os.environ.get("MIEN_FER2013", REPOSITORY.parent / "shared" / "data" / "fer2013.tar.xz"))
    if not path.exists():
        pytest.skip(f"FER-2013 is not at {path}: set MIEN_FER2013")
    return path


@pytest.fixture(scope="session")
def fer2013_packed(fer2013_archive: Path, pytestconfig: pytest.Config) -> Path:
    """FER-2013 as `mien data prepare` packs it (icml; with FER+ votes where their CSV lies beside the archive).

    Kept in pytest's cache until the archive or the code that packs it changes.
    """
    from mien.datasets import prepare  # noqa: PLC0415 - only where FER-2013 is at hand

    about = fer2013_archive.stat()
    key = hashlib.sha256(f"{fer2013_archive} {about.st_size} {about.st_mtime_ns}".encode())
    for source in sorted((REPOSITORY / "src" / "mien" / "datasets").glob("*.py")):
        key.update(source.read_bytes())
    assert pytestconfig.cache, "run pytest with its cache provider"
    cache = pytestconfig.cache.mkdir("fer2013")
    root = cache / key.hexdigest()[:16]
    if not (root / "dataset.json").exists():
        for stale in cache.iterdir():
            shutil.rmtree(stale)
        votes = fer2013_archive.with_name("fer2013new.csv")
        options = prepare.PrepareOptions(ferplus=votes if votes.exists() else None)
        prepare.prepare([fer2013_archive], root, options=options)
    return root


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid mien model of 8 filters with logits, features and CAM weights; its weights are random."""
    from tests.tiny_model import write_tiny_model  # noqa: PLC0415 - onnx is slow to import

    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
