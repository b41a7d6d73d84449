"""Detectors and portraits for the tests of `mien.faces`."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mien import hub
from mien.faces import detect
from mien.results import Image

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Portrait:
    """A photograph of one face; the box of its head was read off by eye, in pixels."""

    image: Image
    face_xyxy: tuple[int, int, int, int]


@pytest.fixture(scope="session")
def portraits(astronaut: Path, grace_hopper: Path) -> dict[str, Portrait]:
    boxes = {astronaut: (178, 62, 270, 182), grace_hopper: (178, 118, 354, 338)}
    return {p.stem: Portrait(np.asarray(PIL.Image.open(p).convert("RGB")), box) for p, box in boxes.items()}


@pytest.fixture(scope="session")
def make_detector(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], detect.Detector]:
    """Detectors by name, each loaded once; a test is skipped where a detector's weights are not at hand."""
    made: dict[str, detect.Detector] = {}

    def make(name: str) -> detect.Detector:
        if name == "centerface" and not (hub.PACKAGED / "centerface.onnx").exists():
            pytest.skip("centerface.onnx is not in place: pip install -e .")
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MIEN_HOME", str(_home_with_yunet(tmp_path_factory.mktemp("home"), name)))
                made[name] = detect.create(name)
        return made[name]

    return make


def _home_with_yunet(home: Path, name: str) -> Path:
    if name == "yunet":
        file_name = hub.REMOTE["yunet"].file_name
        path = Path(os.environ.get("MIEN_YUNET", REPOSITORY.parent / "shared" / "models" / file_name))
        if not path.exists():
            pytest.skip(f"YuNet's weights are not at {path}: set MIEN_YUNET")
        shutil.copy(path, home / file_name)
    return home
