"""Association against SciPy's solver and cases worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mien.video.associate import (
    Candidates,
    Observations,
    assign,
    covered_ratio,
    iou_matrix,
    match,
    within_reach,
)
from tests.video.scores import iou


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (7, 4), (12, 9), (0, 3), (3, 0)])
def test_assign_is_as_good_as_scipys(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    for _ in range(40):
        scores = rng.normal(0.2, 1, shape)
        if rng.random() < 0.5:
            scores = np.rint(scores)  # ties
        pairs = assign(scores)
        rows, columns = linear_sum_assignment(np.clip(scores, 0, None), maximize=True)
        assert sum(scores[pair] for pair in pairs) == pytest.approx(np.clip(scores, 0, None)[rows, columns].sum())
        assert all(scores[pair] > 0 for pair in pairs)
        for used in zip(*pairs, strict=True):
            assert len(set(used)) == len(used)


def test_iou_matrix_is_the_one_by_hand() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (12, 2)).astype(np.float32)
    boxes = np.hstack([corners, corners + rng.uniform(5, 40, (12, 2))]).astype(np.float32)
    expected = [[iou(a.tolist(), b.tolist()) for b in boxes[5:]] for a in boxes[:5]]
    assert iou_matrix(boxes[:5], boxes[5:]) == pytest.approx(np.array(expected), abs=1e-6)


def test_covered_ratio() -> None:
    box, half, other = (np.array(b, np.float32) for b in ([0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]))
    assert covered_ratio(box, [half, other]) == pytest.approx(0.5)
    assert covered_ratio(box, []) == 0


def look(*values: float) -> NDArray[np.float32]:
    vector = np.array(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))


ANNE, BERT = look(1, 0), look(0.3, 1)


def tracks(
    *rows: tuple[list[float], list[float], float, NDArray[np.float32]],
) -> Candidates:
    """Box, velocity, seconds away, looks."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return Candidates(
        boxes_xyxy=boxes,
        seen_xyxy=boxes,
        velocities=np.array([row[1] for row in rows], np.float32).reshape(-1, 2),
        away_s=np.array([row[2] for row in rows], np.float32),
        looks=np.array([row[3] for row in rows], np.float32).reshape(-1, 2),
    )


def found(*rows: tuple[list[float], bool, NDArray[np.float32]]) -> Observations:
    """Box, clear, looks."""
    return Observations(
        boxes_xyxy=np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        looks=np.array([row[2] for row in rows], np.float32).reshape(-1, 2),
        clear=np.array([row[1] for row in rows], np.bool_),
    )


HERE, NEAR, FAR = [100.0, 100, 200, 200], [110.0, 100, 210, 200], [300.0, 100, 400, 200]
REST, RIGHT, LEFT = [0.0, 0], [200.0, 0], [-200.0, 0]


@pytest.mark.parametrize(
    ("candidates", "observations", "expected"),
    [
        pytest.param(tracks(), found((HERE, True, ANNE)), [], id="no track"),
        pytest.param(tracks((HERE, REST, 0, ANNE)), found(), [], id="no detection"),
        pytest.param(tracks((HERE, REST, 0, ANNE)), found((NEAR, True, ANNE)), [(0, 0)], id="moved a little"),
        pytest.param(tracks((HERE, REST, 0, ANNE)), found((FAR, True, ANNE)), [], id="too far"),
        pytest.param(
            tracks((HERE, REST, 0, look(1, -1))), found((HERE, True, look(1, 1))), [], id="another face there"
        ),
        pytest.param(
            tracks((HERE, REST, 0, ANNE), (NEAR, REST, 0, BERT)),
            found((NEAR, True, ANNE), (HERE, True, BERT)),
            [(0, 0), (1, 1)],
            id="looks outweigh overlap where two faces are near",
        ),
        pytest.param(
            tracks((HERE, RIGHT, 0, ANNE), (HERE, LEFT, 0, ANNE)),
            found(([80.0, 100, 180, 200], True, ANNE), ([120.0, 100, 220, 200], True, ANNE)),
            [(0, 1), (1, 0)],
            id="twins that cross: the direction of each",
        ),
        pytest.param(tracks((HERE, REST, 0, ANNE)), found((NEAR, False, ANNE)), [(0, 0)], id="unclear continues"),
        pytest.param(
            tracks((HERE, REST, 0, ANNE)),
            found((NEAR, True, ANNE), (HERE, False, ANNE)),
            [(0, 0)],
            id="clear comes before unclear",
        ),
        pytest.param(tracks((HERE, REST, 0.5, ANNE)), found((HERE, False, ANNE)), [], id="unclear recovers nothing"),
    ],
)
def test_match(candidates: Candidates, observations: Observations, expected: list[tuple[int, int]]) -> None:
    assert match(candidates, observations) == expected


@pytest.mark.parametrize(
    ("away_s", "box", "size", "within"),
    [
        pytest.param(0.2, FAR, 1.0, False, id="200 px in 0.2 s is too far for a face of 100 px"),
        pytest.param(0.8, FAR, 1.0, True, id="in 0.8 s it is not"),
        pytest.param(0.8, HERE, 0.5, False, id="half as large"),
    ],
)
def test_lost_faces_come_back_within_reach(away_s: float, box: list[float], size: float, within: bool) -> None:
    centre, half = (np.array(box[:2]) + box[2:]) / 2, size * (np.array(box[2:]) - box[:2]) / 2
    scaled = [*(centre - half), *(centre + half)]
    boxes = np.array([scaled], np.float32)
    assert within_reach(tracks((HERE, REST, away_s, ANNE)), boxes).tolist() == [[within]]
