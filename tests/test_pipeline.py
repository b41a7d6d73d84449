"""The Analyzer with a detector that knows the answer, then with the real one on portraits."""

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

import mien
from mien.bundle import FER2013_LANDMARKS
from mien.errors import ConfigError, ImageError, ModelError
from mien.faces import detect
from mien.faces.detections import Detections
from mien.images import Limits, read_image
from mien.labels import FER7
from mien.pipeline import Analyzer
from mien.results import Image
from mien.runtime.predictor import Predictor
from tests.tiny_model import tiny_spec, tiny_weights, write_tiny_model

GEOMETRY = np.array(FER2013_LANDMARKS, np.float32)


class Planted:
    """A detector that finds faces of 48 px, upright, at the places it is told, by the width of the picture."""

    name = "planted"

    def __init__(self, corners: dict[int, list[tuple[int, int]]]) -> None:
        self.corners = corners

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [self._detect(self.corners[image.shape[1]]) for image in images]

    def _detect(self, corners: list[tuple[int, int]]) -> Detections:
        starts = np.array(corners, np.float32).reshape(-1, 1, 2)
        boxes = np.concatenate([starts[:, 0], starts[:, 0] + 48], axis=1)
        landmarks = (starts + GEOMETRY * 48).astype(np.float32)
        return Detections(boxes, landmarks, np.linspace(0.9, 0.8, len(boxes)).astype(np.float32))


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)


@pytest.fixture
def predictor(tiny_onnx: Path) -> Predictor:
    return Predictor(tiny_onnx, threads=1)


def test_what_is_in_the_crop_is_what_is_predicted(picture: NDArray[np.uint8], predictor: Predictor) -> None:
    corners = [(10, 20), (100, 40)]
    faces = Analyzer(predictor, Planted({200: corners})).analyze(picture)
    assert len(faces) == 2
    for face, (x, y) in zip(faces, corners, strict=True):
        np.testing.assert_allclose(face.crop.astype(int), picture[y : y + 48, x : x + 48], atol=2)
        np.testing.assert_allclose(face.probabilities, predictor.predict(face.crop[None])[0], atol=1e-5)
        np.testing.assert_array_equal(face.box_xyxy, (x, y, x + 48, y + 48))
        assert face.labels == FER7
        assert face.emotion == FER7[int(face.probabilities.argmax())]
        assert face.quality.size_px == 48
    assert [face.score for face in faces] == pytest.approx([0.9, 0.8])


def test_pictures_share_one_call_and_keep_their_faces(
    picture: NDArray[np.uint8], predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [picture[:, :width].copy() for width in (200, 150, 100)]
    analyzer = Analyzer(predictor, Planted({200: [(0, 0), (60, 20)], 150: [], 100: [(30, 30)]}))
    one_by_one = [analyzer.analyze(each) for each in pictures]
    calls: list[int] = []
    predict = predictor.predict
    monkeypatch.setattr(predictor, "predict", lambda crops: calls.append(len(crops)) or predict(crops))
    together = analyzer.analyze_many(pictures)
    assert calls == [3]
    assert [len(faces) for faces in together] == [2, 0, 1]
    for a, b in zip(chain(*together), chain(*one_by_one), strict=True):
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-6)
        np.testing.assert_array_equal(a.box_xyxy, b.box_xyxy)


def test_an_array_of_pictures(predictor: Predictor) -> None:
    analyzer = Analyzer(predictor, detect.create("none"))
    assert len(analyzer.analyze_many(np.zeros((2, 64, 64, 3), np.uint8))) == 2
    assert analyzer.analyze_many(np.array([])) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"detector": None}, "detector is None: give a name, or an object", id="no detector"),
        pytest.param({"threads": 0}, "threads is 0: give 1 or more", id="no threads"),
    ],
)
def test_what_cannot_be_loaded(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mien.load(**options)


def test_nothing_to_analyse(predictor: Predictor) -> None:
    assert Analyzer(predictor, Planted({})).analyze_many([]) == []


ONE_PICTURE = {
    "str": "photo.png",
    "bytes": b"photo",
    "bytearray": bytearray(b"photo"),
    "Path": Path("photo.png"),
    "file": io.BytesIO(b"photo"),
    "Pillow": PIL.Image.new("RGB", (64, 64)),
    "colour": np.zeros((64, 64, 3), np.uint8),
    "grey": np.zeros((64, 64), np.uint8),
}


@pytest.mark.parametrize("image", ONE_PICTURE.values(), ids=ONE_PICTURE)
def test_one_picture_is_no_list_of_pictures(predictor: Predictor, image: Any) -> None:
    with pytest.raises(TypeError, match=r"pass a list of pictures, or use analyze\(\)"):
        Analyzer(predictor, Planted({})).analyze_many(image)


@pytest.mark.parametrize(("threshold", "uncertain"), [(0.0, False), (1.0, True)])
def test_uncertain_is_under_the_models_threshold(
    picture: NDArray[np.uint8], tmp_path: Path, threshold: float, uncertain: bool
) -> None:
    spec = replace(tiny_spec(tiny_weights()["classifier"]), threshold=threshold)
    predictor = Predictor(write_tiny_model(tmp_path / "tiny.onnx", spec=spec), threads=1)
    (face,) = Analyzer(predictor, Planted({200: [(5, 5)]})).analyze(picture)
    assert face.uncertain is uncertain


def test_the_whole_picture_as_one_crop(picture: NDArray[np.uint8], tiny_onnx: Path, predictor: Predictor) -> None:
    crop = picture[:48, :48].copy()
    (face,) = mien.load(tiny_onnx, detector="none").analyze(crop)
    np.testing.assert_array_equal(face.crop, crop)
    np.testing.assert_allclose(face.probabilities, predictor.predict(crop[None])[0], atol=1e-6)
    assert face.landmarks is None
    assert face.quality.tilt_deg is None


def test_provenance_and_json(picture: NDArray[np.uint8], predictor: Predictor) -> None:
    analyzer = Analyzer(predictor, Planted({200: [(5, 5)]}))
    described = analyzer.describe("a.png", analyzer.analyze(picture), width=200, height=100).to_dict()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described["model"] == {
        **predictor.info.to_dict(),
        "detector": "planted",
        "version": mien.__version__,
    }
    assert list(described) == ["source", "width", "height", "faces", "model"]
    assert sum(described["faces"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-3)


def test_limits_hold(picture: NDArray[np.uint8], predictor: Predictor) -> None:
    analyzer = Analyzer(predictor, Planted({200: []}), limits=Limits(max_pixels=100))
    with pytest.raises(ImageError, match="million pixels"):
        analyzer.analyze(picture)


def test_real_portraits(tiny_onnx: Path, grace_hopper: Path, astronaut: Path) -> None:
    """Boxes as a person would draw them, with 15 px to spare."""
    by_hand = {grace_hopper: (175, 110, 355, 330), astronaut: (180, 60, 270, 180)}
    analyzer = mien.load(tiny_onnx)
    found = analyzer.analyze_many(list(by_hand))
    for faces, box in zip(found, by_hand.values(), strict=True):
        assert len(faces) == 1
        np.testing.assert_allclose(faces[0].box_xyxy, box, atol=15)
        assert faces[0].landmarks is not None
        assert faces[0].crop.shape == (48, 48, 3)
    assert analyzer.analyze(np.full((300, 400, 3), 127, np.uint8)) == []


def test_a_grey_array_and_a_file_agree(tiny_onnx: Path, grace_hopper: Path) -> None:
    analyzer = mien.load(tiny_onnx)
    (from_file,) = analyzer.analyze(grace_hopper)
    (from_array,) = analyzer.analyze(read_image(grace_hopper))
    np.testing.assert_array_equal(from_file.probabilities, from_array.probabilities)


UNKNOWN = {
    "no such model": (("nothing",), {}, ModelError, "nothing"),
    "no such file": (("missing.onnx",), {}, ModelError, r"missing\.onnx"),
    "a folder": ((".",), {}, ModelError, "is a folder"),
    "no such detector": ((), {"detector": "haar"}, ConfigError, "centerface, yunet, none"),
}


@pytest.mark.parametrize(("arguments", "options", "kind", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_names(
    tiny_onnx: Path,
    arguments: tuple[str, ...],
    options: dict[str, str],
    kind: type[Exception],
    words: str,
) -> None:
    with pytest.raises(kind, match=words):
        mien.load(*(arguments or (tiny_onnx,)), **options)


# --- `import mien` ----------------------------------------------------------------------------------------------------


def test_public_names() -> None:
    assert set(mien.__all__) <= set(dir(mien))
    for name in set(mien.__all__) - {"models"}:  # which waits for torch
        assert getattr(mien, name) is not None
    assert mien.Analyzer is Analyzer
    assert mien.labels.FER7 == FER7
    with pytest.raises(AttributeError, match="no attribute 'analyse'"):
        mien.analyse  # noqa: B018


def test_importing_mien_loads_nothing_heavy() -> None:
    code = (
        "import sys, mien; print(sorted({'numpy', 'cv2', 'PIL', 'onnxruntime', 'torch', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_analysis_never_loads_torch_or_plotting(tiny_onnx: Path) -> None:
    code = (
        "import sys, numpy as np, mien\n"
        "mien.load(sys.argv[1]).analyze(np.zeros((64, 64, 3), np.uint8))\n"
        "print(sorted({'torch', 'timm', 'scipy', 'pandas', 'matplotlib', 'av', 'rich'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tiny_onnx], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
