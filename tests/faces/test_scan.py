import numpy as np
import pytest

from mien.faces import scan
from mien.faces.detections import Detections


def bright_spot(image: np.ndarray) -> Detections:
    """A fake pass: the box of the pixels over 128, its corners and centre as landmarks; none if there are none."""
    rows, columns = np.nonzero(image[..., 0] > 128)
    if not len(rows):
        return Detections.empty()
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    points = [(x0, y0), (x1, y0), ((x0 + x1) / 2, (y0 + y1) / 2), (x0, y1), (x1, y1)]
    box = np.array([[x0, y0, x1, y1]], np.float32)
    return Detections(box, np.array([points], np.float32), np.array([0.9], np.float32))


@pytest.mark.parametrize(
    ("height", "width", "spot_xyxy"),
    [
        pytest.param(100, 80, (20, 30, 60, 70), id="smaller than the thumbnail"),
        pytest.param(480, 640, (100, 50, 300, 400), id="three views"),
        pytest.param(2000, 3000, (1000, 400, 2500, 1900), id="every view shrunk"),
        pytest.param(300, 200, (0, 0, 200, 300), id="the whole picture"),
    ],
)
def test_boxes_and_landmarks_come_back_in_pixels_of_the_picture(
    height: int, width: int, spot_xyxy: tuple[int, int, int, int]
) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = spot_xyxy
    picture[y0:y1, x0:x1] = 255
    found = scan.scan(picture, bright_spot, max_side_px=1000)
    assert len(found) == 1  # one spot, though several views saw it
    pixel = max(1.0, max(height, width) / scan.THUMBNAIL_PX)
    np.testing.assert_allclose(found.boxes_xyxy[0], spot_xyxy, atol=pixel)
    assert found.landmarks is not None
    np.testing.assert_allclose(found.landmarks[0, 0], (x0, y0), atol=pixel)
    np.testing.assert_allclose(found.landmarks[0, 4], (x1, y1), atol=pixel)
    assert found.boxes_xyxy.min() >= 0
    assert (found.boxes_xyxy[:, 2:] <= (width, height)).all()


def test_octaves_start_at_the_limit_and_end_with_the_thumbnail() -> None:
    seen: list[tuple[int, ...]] = []

    def note(image: np.ndarray) -> Detections:
        seen.append(image.shape)
        return Detections.empty()

    assert len(scan.scan(np.zeros((1000, 3000, 3), np.uint8), note, max_side_px=600)) == 0
    assert seen == [(75 + 96, 224 + 96, 3), (200, 600, 3), (100, 300, 3)]


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(np.zeros((5, 5), np.uint8), id="grey"),
        pytest.param(np.zeros((5, 5, 4), np.uint8), id="alpha"),
        pytest.param(np.zeros((5, 5, 3), np.float32), id="float"),
        pytest.param(np.zeros((0, 5, 3), np.uint8), id="no rows"),
    ],
)
def test_other_arrays_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a picture is \(H, W, 3\) uint8"):
        scan.scan(picture, bright_spot, max_side_px=600)
