"""Crops cropped once more: on a portrait, tilted and off centre, and where there is no face."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.bundle import FER2013_LANDMARKS
from mien.faces import align, detect
from mien.faces.detections import Detections, Detector
from mien.faces.recrop import BORDER_RATIOS, ENLARGED_PX, Recrop
from mien.images import read_image
from mien.results import Image

SIZE_HW = (48, 48)
FINER = 6  # sampled first, so that a face of 250 px becomes 48 px without aliasing


@pytest.fixture(scope="module")
def detector() -> Detector:
    return detect.create("centerface")


def _grey(image: Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


@pytest.fixture(scope="module")
def upright(detector: Detector, grace_hopper: Path) -> NDArray[np.uint8]:
    """The portrait's crop as serving makes it, straight from the photograph."""
    photo = read_image(grace_hopper)
    (found,) = detector.detect([photo])
    assert found.landmarks is not None
    return _grey(align.align_crops(photo, found.landmarks[:1], FER2013_LANDMARKS, SIZE_HW)[0])


def _sloppy(detector: Detector, photo: Image, *, tilt_deg: float, shift: float) -> NDArray[np.uint8]:
    """A crop of 48 px from the photograph, turned and moved against serving's."""
    (found,) = detector.detect([photo])
    assert found.landmarks is not None
    (matrix,) = align.similarities(found.landmarks[:1], FER2013_LANDMARKS, SIZE_HW)
    turn = cv2.getRotationMatrix2D((24, 24), tilt_deg, 1.0)
    turn[:, 2] += shift * 48
    joined = np.vstack([turn, [0, 0, 1]]) @ np.vstack([matrix, [0, 0, 1]])
    fine = cv2.warpAffine(photo, joined[:2] * FINER, (48 * FINER, 48 * FINER), borderMode=cv2.BORDER_REPLICATE)
    return _grey(cv2.resize(fine, SIZE_HW, interpolation=cv2.INTER_AREA))


def _correlation(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    middle = np.s_[6:42, 6:42]  # what lies outside the crop is made up
    soft_a, soft_b = (cv2.GaussianBlur(image, (0, 0), 2)[middle].ravel() for image in (a, b))
    return float(np.corrcoef(soft_a, soft_b)[0, 1])  # of 48 px, landmarks are found to about two


@pytest.mark.parametrize(("tilt_deg", "shift"), [
    pytest.param(0, 0.0, id="as it should be"),
    pytest.param(15, 0.0, id="tilted"),
    pytest.param(-12, 0.06, id="tilted and off centre"),
])  # fmt: skip
def test_a_portrait_comes_back_upright(
    detector: Detector, grace_hopper: Path, upright: NDArray[np.uint8], tilt_deg: float, shift: float
) -> None:
    sloppy = _sloppy(detector, read_image(grace_hopper), tilt_deg=tilt_deg, shift=shift)
    found = Recrop(detector)(sloppy, SIZE_HW)
    assert found is not None
    assert found.shape == SIZE_HW
    assert found.dtype == np.uint8
    assert _correlation(found, upright) > 0.9
    if tilt_deg:
        assert _correlation(found, upright) > _correlation(sloppy, upright) + 0.05


def test_no_face_is_none(detector: Detector) -> None:
    assert Recrop(detector)(np.full((48, 48), 90, np.uint8), SIZE_HW) is None


class _Finds:
    """A detector that finds a face of a given size in the middle of every picture."""

    name = "fake"

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def detect(self, images: object) -> list[Detections]:
        (image,) = images  # type: ignore[misc]
        points = (np.array(FER2013_LANDMARKS) - 0.5) * ENLARGED_PX * self.ratio + image.shape[0] / 2
        box = np.array([[10, 10, 50, 50]], np.float32)
        return [Detections(box, points[None].astype(np.float32), np.array([0.9], np.float32))]


@pytest.mark.parametrize(("ratio", "found"), [
    pytest.param(1.0, True, id="fills the crop"),
    pytest.param(0.6, True, id="smaller"),
    pytest.param(0.4, False, id="a face in the background"),
    pytest.param(2.2, False, id="larger than the picture"),
])  # fmt: skip
def test_only_the_crops_own_face_counts(ratio: float, found: bool) -> None:
    image = np.tile(np.arange(0, 192, 4, dtype=np.uint8), (48, 1))
    crop = Recrop(_Finds(ratio))(image, SIZE_HW)
    assert (crop is not None) == found
    if ratio == 1.0:
        assert crop is not None
        assert np.abs(crop[:, 4:-4].astype(int) - image[:, 4:-4]).max() <= 2  # where it was


@pytest.mark.parametrize("shape", [(48, 48), (300, 200), (20, 30)])
def test_enlarged_enough(shape: tuple[int, int]) -> None:
    seen: list[tuple[int, ...]] = []

    class Looks(_Finds):
        def detect(self, images: object) -> list[Detections]:
            seen.append(images[0].shape)  # type: ignore[index]
            return [Detections.empty()]

    assert Recrop(Looks(1.0))(np.zeros(shape, np.uint8), SIZE_HW) is None
    assert min(seen[0][:2]) >= ENLARGED_PX
    assert [sides[2] for sides in seen] == [3] * len(BORDER_RATIOS)
    assert seen[1][0] == pytest.approx(seen[0][0] * (1 + 2 * BORDER_RATIOS[1]), abs=1)


def test_about_names_detector_and_geometry() -> None:
    assert Recrop(_Finds(1.0)).about == {"detector": "fake", "landmarks": [list(point) for point in FER2013_LANDMARKS]}
