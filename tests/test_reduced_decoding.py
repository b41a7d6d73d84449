"""Large JPEGs decoded at a fraction of their size: the same faces at the same places with the same probabilities."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

import mien
from mien.errors import ImageError
from mien.faces import detect
from mien.faces.detections import Detections
from mien.images import Limits, Photo, read_image, read_photo
from mien.pipeline import Analyzer
from mien.results import Image


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return mien.load(threads=1)


def composed(portrait: Path, *, side_px: int, face_px: int, count: int = 1) -> PIL.Image.Image:
    """Portraits of `face_px` height in a row on a grey picture of `side_px` x 3/4 `side_px`."""
    with PIL.Image.open(portrait) as opened:
        face = opened.convert("RGB").resize((round(face_px * opened.width / opened.height), face_px))
    whole = PIL.Image.new("RGB", (side_px, side_px * 3 // 4), (128, 128, 128))
    for i in range(count):
        whole.paste(face, ((2 * i + 1) * side_px // (2 * count) - face.width // 2, (whole.height - face_px) // 2))
    return whole


def encoded(picture: PIL.Image.Image, *, format: str = "JPEG", orientation: int = 1) -> bytes:  # noqa: A002
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    picture.save(buffer, format, quality=92, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("size", "side_px", "expected"),
    [
        pytest.param((4000, 3000), 1280, (2000, 1500), id="half: a quarter would be under the side"),
        pytest.param((4001, 3003), 1280, (4001, 3003), id="odd sizes stay whole"),
        pytest.param((4004, 3000), 320, (1001, 750), id="the largest step that divides both sides"),
        pytest.param((4000, 3000), 1000, (1000, 750), id="a quarter"),
        pytest.param((4000, 3000), 100, (500, 375), id="an eighth is the least"),
        pytest.param((2000, 1500), 1280, (2000, 1500), id="not twice as large"),
        pytest.param((800, 600), 1280, (800, 600), id="smaller"),
        pytest.param((4000, 3000), None, (4000, 3000), id="no detector's size"),
    ],
)
def test_sizes(size: tuple[int, int], side_px: int | None, expected: tuple[int, int]) -> None:
    photo = read_photo(encoded(PIL.Image.new("RGB", size)), side_px=side_px)
    assert photo.image.shape[1::-1] == expected
    assert (photo.width, photo.height) == size
    assert photo.is_reduced == (expected != size)
    np.testing.assert_allclose(photo.scale_xy, np.array(size) / expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(grace_hopper: Path, orientation: int) -> None:
    data = encoded(composed(grace_hopper, side_px=1600, face_px=900), orientation=orientation)
    photo, whole = read_photo(data, side_px=400), read_image(data)
    assert (photo.height, photo.width) == whole.shape[:2]
    shrunk = np.asarray(PIL.Image.fromarray(whole).resize(photo.image.shape[1::-1], PIL.Image.Resampling.BOX))
    assert np.abs(photo.image.astype(int) - shrunk).mean() < 2
    np.testing.assert_array_equal(photo.whole(), whole)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param(lambda picture: encoded(picture, format="PNG"), "PNG has no such decoding", id="png"),
        pytest.param(np.asarray, "already decoded", id="array"),
        pytest.param(lambda picture: picture, "the caller's object stays as it is", id="PIL image"),
    ],
)
def test_what_stays_whole(source: object, reason: str) -> None:
    picture = PIL.Image.new("RGB", (1600, 1200))
    photo = read_photo(source(picture), side_px=200)  # type: ignore[operator]
    assert not photo.is_reduced, reason
    assert photo.whole() is photo.image


@pytest.mark.parametrize(
    ("data", "limits", "words"),
    [
        pytest.param(b"text", Limits(), "no picture that mien knows", id="no picture"),
        pytest.param(None, Limits(max_pixels=1_000_000), "1,600 x 1,200 pixels", id="limits are the whole picture's"),
        pytest.param(None, Limits(min_side_px=1300), "too small", id="least side too"),
        pytest.param("cut", Limits(), "damaged or cut short", id="cut short"),
    ],
)
def test_refusals(data: bytes | str | None, limits: Limits, words: str) -> None:
    whole = encoded(PIL.Image.effect_noise((1600, 1200), 60).convert("RGB"))
    given = whole if data is None else whole[: len(whole) // 2] if isinstance(data, str) else data
    with pytest.raises(ImageError, match=words):
        read_photo(given, limits=limits, side_px=200)


@pytest.mark.parametrize(
    ("face_px", "count", "cut_from_whole"),
    [
        pytest.param(1800, 1, False, id="one large face: the reduced picture is enough"),
        pytest.param(300, 3, True, id="small faces: their crops come from the whole picture"),
    ],
)
def test_results_agree(
    analyzer: Analyzer,
    grace_hopper: Path,
    monkeypatch: pytest.MonkeyPatch,
    face_px: int,
    count: int,
    cut_from_whole: bool,
) -> None:
    data = encoded(composed(grace_hopper, side_px=2600, face_px=face_px, count=count))
    decoded: list[Photo] = []
    whole = Photo.whole

    def counted(self: Photo) -> Image:
        decoded.append(self)
        return whole(self)

    monkeypatch.setattr(Photo, "whole", counted)
    found = sorted(analyzer.analyze(data), key=lambda face: face.box_xyxy[0])
    assert bool(decoded) == cut_from_whole
    expected = sorted(analyzer.analyze(read_image(data)), key=lambda face: face.box_xyxy[0])
    assert len(found) == len(expected) == count
    for one, other in zip(found, expected, strict=True):
        side_px = float((other.box_xyxy[2:] - other.box_xyxy[:2]).max())
        near_px = max(0.03 * side_px, 2600 / detect.MAX_SIDE_PX)  # the latter is one pixel of what the detector sees
        assert np.abs(one.box_xyxy - other.box_xyxy).max() < near_px
        assert one.landmarks is not None
        assert other.landmarks is not None
        assert np.abs(one.landmarks - other.landmarks).max() < near_px
        assert np.abs(one.probabilities - other.probabilities).max() < 0.1
        assert one.emotion == other.emotion
        assert one.quality.size_px == pytest.approx(other.quality.size_px, rel=0.05)


class OwnDetector:
    """A detector that knows nothing of sizes, as a user may write it."""

    name = "own"

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        self.seen += [image.shape for image in images]
        return [Detections.empty() for _ in images]


def test_a_detector_without_a_size_sees_the_whole_picture(analyzer: Analyzer) -> None:
    own = OwnDetector()
    assert Analyzer(analyzer.predictor, own).analyze(encoded(PIL.Image.new("RGB", (1600, 1200)))) == []
    assert own.seen == [(1200, 1600, 3)]


def test_boxes_without_landmarks_are_scaled_and_cut(analyzer: Analyzer, grace_hopper: Path) -> None:
    class Boxes:
        name, max_side_px = "boxes", 400

        def detect(self, images: Sequence[Image]) -> list[Detections]:
            height, width = images[0].shape[:2]
            assert (width, height) == (400, 300)
            box: NDArray[np.float32] = np.array([[100, 50, 200, 150]], np.float32)
            return [Detections(box, None, np.ones(1, np.float32))]

    data = encoded(composed(grace_hopper, side_px=1600, face_px=800))
    (face,) = Analyzer(analyzer.predictor, Boxes()).analyze(data)
    np.testing.assert_array_equal(face.box_xyxy, [400, 200, 800, 600])
    whole = read_image(data)[200:600, 400:800]
    shrunk = np.asarray(PIL.Image.fromarray(whole).resize(face.crop.shape[1::-1], PIL.Image.Resampling.BOX))
    assert np.abs(face.crop.astype(int) - shrunk).mean() < 3
