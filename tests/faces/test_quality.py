from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from mien.bundle import FER2013_LANDMARKS
from mien.faces import quality

FRONTAL = np.array(FER2013_LANDMARKS) * 100
FRONTAL[2, 0] = FRONTAL[:2, 0].mean()  # the nose exactly between the eyes


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """Clockwise as seen, since y points down."""
    angle = np.radians(degrees)
    return points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def head(yaw_deg: float) -> np.ndarray:
    """Five points of a head of 10 units across, turned about its vertical axis and seen from far, `(5, 2)`."""
    points = np.array([(-3, -3, 8), (3, -3, 8), (0, 0, 11), (-2, 3, 8), (2, 3, 8)], float)
    yaw = np.radians(yaw_deg)
    x = points[:, 0] * np.cos(yaw) + points[:, 2] * np.sin(yaw)
    return np.stack([x, points[:, 1]], axis=1)


@pytest.mark.parametrize("degrees", [-170, -90, -20, 0, 5, 45, 120])
def test_tilt_is_the_turn_in_the_picture(degrees: float) -> None:
    assert quality.tilt_deg(turned(FRONTAL, degrees)) - quality.tilt_deg(FRONTAL) == pytest.approx(degrees, abs=1e-6)


def test_a_head_whose_right_side_is_lower_is_tilted_clockwise() -> None:
    lower_right = FRONTAL + np.array([(0, 0), (0, 10), (0, 0), (0, 0), (0, 10)])
    assert quality.tilt_deg(lower_right) > 5


def test_turn_grows_with_the_yaw_and_is_odd() -> None:
    turns = [quality.turn_ratio(head(yaw)) for yaw in (-60, -40, -20, -5, 0, 5, 20, 40, 60)]
    assert turns == sorted(turns)
    assert turns[4] == pytest.approx(0)
    assert turns[:4] == pytest.approx([-t for t in turns[:4:-1]])
    assert turns[0] == -1
    assert turns[-1] == 1


def test_turn_ignores_tilt_and_is_one_with_the_nose_at_the_right_eye() -> None:
    at_right_eye = FRONTAL.copy()
    at_right_eye[2, 0] = FRONTAL[1, 0]
    assert quality.turn_ratio(at_right_eye) == pytest.approx(1, abs=1e-2)
    assert quality.turn_ratio(turned(head(15), 30)) == pytest.approx(quality.turn_ratio(head(15)))


def test_points_that_say_nothing() -> None:
    assert quality.turn_ratio(np.ones((5, 2))) == 0
    assert quality.tilt_deg(np.ones((5, 2))) == 0


@pytest.fixture(scope="module")
def crop(astronaut: Path) -> np.ndarray:
    face = np.asarray(PIL.Image.open(astronaut).convert("RGB"))[58:188, 160:290]
    return cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA)


def test_blur_grows_with_the_blur_and_ends_at_one(crop: np.ndarray) -> None:
    blurred = [quality.blur(cv2.GaussianBlur(crop, (0, 0), sigma)) for sigma in (0.5, 1, 1.5, 2, 3, 4)]
    values = [quality.blur(crop), *blurred, quality.blur(np.full_like(crop, 90))]
    assert values == sorted(values)
    assert values[0] < 0.55
    assert values[-1] == 1
    assert values[-2] > 0.9


def test_blur_ignores_contrast_and_is_zero_for_a_checkerboard(crop: np.ndarray) -> None:
    # 5 px wide stripes of one pixel: the mean over 5 keeps a fifth of the variation
    flat = (crop / 4 + 90).astype(np.uint8)
    assert quality.blur(flat) == pytest.approx(quality.blur(crop), abs=0.03)
    board = np.repeat((np.indices((48, 48)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    assert quality.blur(board) == pytest.approx(0.2, abs=0.02)


def test_blur_does_not_depend_on_the_crop_s_resolution(crop: np.ndarray) -> None:
    large = cv2.resize(crop, (192, 192), interpolation=cv2.INTER_NEAREST)
    assert quality.blur(large) == pytest.approx(quality.blur(crop), abs=1e-6)


def test_blur_equals_the_formula_of_the_paper(crop: np.ndarray) -> None:
    """Crete et al. 2007, equations 1-6, pixel by pixel."""
    grey = np.rint(crop @ (0.299, 0.587, 0.114))
    height, width = grey.shape
    variation = kept = 0.0
    for y in range(height):
        means = {x: grey[y, x - 2 : x + 3].mean() for x in range(2, width - 2)}
        for x in range(3, width - 2):
            sharp, soft = abs(grey[y, x] - grey[y, x - 1]), abs(means[x] - means[x - 1])
            variation += sharp
            kept += max(0.0, sharp - soft)
    along_rows = (variation - kept) / variation
    assert quality._blur_along(grey.astype(np.float32)) == pytest.approx(along_rows, abs=1e-4)


def test_assess_joins_them(crop: np.ndarray) -> None:
    box = np.array([10, 20, 70, 100], np.float32)
    with_points = quality.assess(box, FRONTAL.astype(np.float32), crop)
    assert with_points.size_px == 60
    assert with_points.blur == quality.blur(crop)
    assert with_points.turn_ratio == pytest.approx(0, abs=1e-3)
    without = quality.assess(box, None, crop)
    assert (without.tilt_deg, without.turn_ratio) == (None, None)
