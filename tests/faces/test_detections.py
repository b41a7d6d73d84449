import numpy as np
import pytest

from mien.faces.detections import Detections, suppress

POINTS = np.zeros((2, 5, 2), np.float32)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_empty_has_arrays_of_the_right_shape() -> None:
    none = Detections.empty()
    assert len(none) == 0
    assert none.boxes_xyxy.shape == (0, 4)
    assert none.landmarks is not None
    assert none.landmarks.shape == (0, 5, 2)


@pytest.mark.parametrize(
    ("box_rows", "points", "scores", "said"),
    [
        pytest.param(boxes((0, 0, 1, 1)), None, [0.5, 0.4], "boxes_xyxy have shape", id="one box, two scores"),
        pytest.param(boxes((0, 0, 1, 1)), POINTS, [0.5], "landmarks have shape", id="one box, two sets of points"),
        pytest.param(boxes((2, 0, 1, 1)), None, [0.5], "a box is empty", id="right of its right"),
        pytest.param(boxes((0, 0, 1, 1), (0, 0, 1, 1)), None, [0.4, 0.5], "scores must not rise", id="worse first"),
        pytest.param(boxes((0, 0, 1, 1)), None, [[0.5]], "scores have shape", id="scores of two dimensions"),
        pytest.param(boxes((0, 0, np.nan, 1)), None, [0.5], "not finite", id="not a number"),
    ],
)
def test_checks_itself(box_rows: np.ndarray, points: np.ndarray | None, scores: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Detections(box_rows, points, np.array(scores, np.float32))


def slow_suppression(rows: np.ndarray, scores: np.ndarray, limit: float) -> list[int]:
    """The textbook loop."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        for j in kept:
            low, high = np.maximum(rows[i, :2], rows[j, :2]), np.minimum(rows[i, 2:], rows[j, 2:])
            both = np.prod(np.maximum(high - low, 0))
            areas = [np.prod(rows[k, 2:] - rows[k, :2]) for k in (i, j)]
            if both / (sum(areas) - both) > limit:
                break
        else:
            kept.append(int(i))
    return kept


def test_suppress_equals_the_textbook_loop() -> None:
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 100, (80, 2))
    rows = np.hstack([corners, corners + rng.uniform(10, 50, (80, 2))]).astype(np.float32)
    scores = rng.permutation(np.linspace(0.1, 0.9, 80)).astype(np.float32)
    points = rng.uniform(0, 100, (80, 5, 2)).astype(np.float32)
    found = suppress(rows, points, scores)
    kept = slow_suppression(rows, scores, 0.3)
    assert 5 < len(kept) < 75
    np.testing.assert_array_equal(found.boxes_xyxy, rows[kept])
    np.testing.assert_array_equal(found.landmarks, points[kept])
    np.testing.assert_array_equal(found.scores, scores[kept])


def test_suppress_drops_boxes_without_area() -> None:
    assert len(suppress(boxes((5, 5, 5, 9), (1, 1, 4, 4)), POINTS, np.array([0.9, 0.8], np.float32))) == 1
    assert len(suppress(boxes(), POINTS[:0], np.empty(0, np.float32))) == 0
