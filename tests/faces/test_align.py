import cv2
import numpy as np
import pytest
from skimage.transform import SimilarityTransform

from mien.bundle import FER2013_LANDMARKS
from mien.faces import align
from mien.preprocess import crop_box

SIZE_HW = (48, 48)
TARGET = np.array(FER2013_LANDMARKS) * 48


def similar(points: np.ndarray, *, degrees: float, scale: float, shift_xy: tuple[float, float]) -> np.ndarray:
    turn = np.radians(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return points @ (scale * rotation).T + shift_xy


def test_similarities_equal_scikit_image_on_noisy_points() -> None:
    rng = np.random.default_rng(0)
    faces = [
        similar(TARGET, degrees=d, scale=s, shift_xy=(200, 100)) + rng.normal(0, 2 * s, (5, 2))
        for d, s in [(0, 1), (25, 3), (-90, 0.4), (170, 6)]
    ]
    matrices = align.similarities(np.array(faces, np.float32), FER2013_LANDMARKS, SIZE_HW)
    for face, matrix in zip(faces, matrices, strict=True):
        expected = SimilarityTransform.from_estimate(face, TARGET).params[:2]
        # Umeyama's scale is the least squares one, so the two agree to the precision of float32 input
        np.testing.assert_allclose(matrix, expected, rtol=1e-4, atol=1e-3)


def test_similarities_are_least_squares() -> None:
    face = TARGET + np.random.default_rng(1).normal(0, 3, (5, 2))
    x, y, one, zero = face[:, 0], face[:, 1], np.ones(5), np.zeros(5)
    system = np.vstack([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    (cos, sin, shift_x, shift_y), *_ = np.linalg.lstsq(system, TARGET.T.ravel(), rcond=None)
    (matrix,) = align.similarities(face[None], FER2013_LANDMARKS, SIZE_HW)
    np.testing.assert_allclose(matrix, [[cos, -sin, shift_x], [sin, cos, shift_y]], atol=1e-9)


def face_chart(side_px: int) -> np.ndarray:
    """A smooth coloured pattern without symmetry, `(side, side, 3)`."""
    y, x = (np.mgrid[:side_px, :side_px] + 0.5) / side_px
    waves = [np.sin(6 * x + 2), np.cos(5 * y * x), np.sin(4 * y - 3 * x)]
    return np.rint(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.mark.parametrize("degrees", [0, 20, -75, 180])
@pytest.mark.parametrize("scale", [0.5, 1, 1.7, 8])
def test_a_turned_and_scaled_face_comes_back_upright(degrees: float, scale: float) -> None:
    chart = face_chart(48)
    middle = np.array([24.0, 24.0])
    canvas_px = int(48 * scale * 1.5) + 20
    shift = canvas_px / 2 - similar(middle[None], degrees=degrees, scale=scale, shift_xy=(0, 0))[0]
    matrix = np.hstack([similar(np.eye(2), degrees=degrees, scale=scale, shift_xy=(0, 0)).T, shift[:, None]])
    # the picture is evaluated from the formula's own pixels at high resolution, then shrunk by area
    fine = cv2.resize(chart, None, fx=16, fy=16, interpolation=cv2.INTER_CUBIC)
    to_fine = matrix @ np.diag([1 / 16, 1 / 16, 1])
    to_fine[:, 2] += to_fine[:, :2] @ (0.5, 0.5) - 0.5
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = cv2.warpAffine(fine, to_fine, (canvas_px, canvas_px), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    landmarks = similar(TARGET, degrees=degrees, scale=scale, shift_xy=tuple(shift)).astype(np.float32)
    crop = align.align_crops(picture, landmarks[None], FER2013_LANDMARKS, SIZE_HW)[0]
    inside = np.s_[2:-2, 2:-2]
    difference = np.abs(crop[inside].astype(int) - chart[inside])
    assert difference.mean() < 2
    assert difference.max() < 14


def test_a_face_at_the_crop_s_own_size_and_place_is_copied_exactly() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
    landmarks = (TARGET + np.array([30, 20])).astype(np.float32)
    crop = align.align_crops(picture, landmarks[None], FER2013_LANDMARKS, SIZE_HW)[0]
    np.testing.assert_array_equal(crop, picture[20:68, 30:78])


def test_fine_stripes_of_a_large_face_become_grey_and_not_moire() -> None:
    picture = np.zeros((960, 960, 3), np.uint8)
    picture[:, ::2] = 255
    landmarks = (np.array(FER2013_LANDMARKS) * 950 + 5).astype(np.float32)
    crop = align.align_crops(picture, landmarks[None], FER2013_LANDMARKS, SIZE_HW)[0]
    assert np.abs(crop.astype(int) - 127).max() < 12
    matrix = align.similarities(landmarks[None], FER2013_LANDMARKS, SIZE_HW)[0]
    assert cv2.warpAffine(picture, matrix, (48, 48)).std() > 40  # what plain sampling makes of it


def test_no_face_and_other_sizes() -> None:
    picture = np.zeros((50, 50, 3), np.uint8)
    assert align.align_crops(picture, np.empty((0, 5, 2), np.float32), FER2013_LANDMARKS, (48, 48)).shape == (
        0,
        48,
        48,
        3,
    )
    two = np.stack([TARGET, TARGET + 3]).astype(np.float32)
    assert align.align_crops(picture, two, FER2013_LANDMARKS, (64, 40)).shape == (2, 64, 40, 3)


@pytest.mark.parametrize(
    ("landmarks", "said"),
    [
        pytest.param(np.zeros((5, 2)), "not \\(F, 5, 2\\)", id="one face without its axis"),
        pytest.param(np.zeros((1, 4, 2)), "not \\(F, 5, 2\\)", id="four points"),
        pytest.param(np.ones((1, 5, 2)), "not all in one point", id="one point"),
        pytest.param(np.full((1, 5, 2), np.nan), "must be finite", id="not a number"),
    ],
)
def test_bad_landmarks(landmarks: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        align.align_crops(np.zeros((9, 9, 3), np.uint8), landmarks, FER2013_LANDMARKS, SIZE_HW)


@pytest.mark.parametrize(
    ("box_xyxy", "size_hw", "expected"),
    [
        pytest.param((0, 0, 48, 48), (48, 48), np.s_[0:48, 0:48], id="as it is"),
        pytest.param((10, 20, 58, 40), (48, 48), np.s_[6:54, 10:58], id="wide box grows up and down"),
        pytest.param((20, 10, 30, 58), (48, 48), np.s_[10:58, 1:49], id="tall box grows sideways"),
    ],
)
def test_crop_box(box_xyxy: tuple[int, ...], size_hw: tuple[int, int], expected: tuple[slice, slice]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 100, 3), np.uint8)
    crop = crop_box(picture, np.array(box_xyxy, np.float32), size_hw)
    np.testing.assert_array_equal(crop, picture[expected])


def test_crop_box_repeats_the_edge_and_shrinks_by_area() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 96, 3), np.uint8)
    crop = crop_box(picture, np.array([0, 0, 96, 40], np.float32), (48, 48))
    np.testing.assert_array_equal(crop[0], crop[10])
    blocks = picture.reshape(20, 2, 48, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(crop[14:34], blocks, atol=1)


@pytest.mark.parametrize("box", [np.array([1, 1, 1, 5]), np.array([0, 0, 5]), np.full(4, np.nan)])
def test_bad_boxes(box: np.ndarray) -> None:
    with pytest.raises(ValueError, match="box_xyxy"):
        crop_box(np.zeros((9, 9, 3), np.uint8), box, SIZE_HW)
