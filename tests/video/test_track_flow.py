"""Optical flow against motions that were made, and scene cuts."""

import cv2
import numpy as np
import pytest

from mien.results import Image
from mien.video.flow import Flow, moved, moved_box
from tests.video import films


def portrait() -> Image:
    (shot,) = films.film([films.Role("a", films.still(320, 240, 150), films.astronaut())], duration_s=1 / 30)
    return shot.image


BOX = np.array([[260, 165, 380, 315]], np.float32)


@pytest.mark.parametrize("scale", [1.0, 3.0], ids=["as it is", "larger than flow looks at"])
@pytest.mark.parametrize(
    ("turn_deg", "scaling", "shift"),
    [
        pytest.param(0, 1, (0, 0), id="still"),
        pytest.param(0, 1, (17, -9), id="moves"),
        pytest.param(4, 1, (3, 3), id="turns"),
        pytest.param(0, 1.06, (-5, 2), id="comes nearer"),
    ],
)
def test_motion_is_found(turn_deg: float, scaling: float, shift: tuple[float, float], scale: float) -> None:
    before = cv2.resize(portrait(), None, fx=scale, fy=scale)
    matrix = cv2.getRotationMatrix2D((320 * scale, 240 * scale), -turn_deg, scaling)
    matrix[:, 2] += np.array(shift) * scale
    flow = Flow()
    assert not flow.advance(before)
    assert not flow.advance(cv2.warpAffine(before, matrix, before.shape[1::-1], borderMode=cv2.BORDER_REFLECT))
    (motion,) = flow.motions(BOX * scale)
    assert motion is not None
    corners = (BOX * scale).reshape(2, 2)
    assert np.abs(moved(corners, motion) - moved(corners, matrix)).max() < 1.5 * scale
    assert moved_box(BOX[0] * scale, motion) == pytest.approx(moved_box(BOX[0] * scale, matrix), abs=1.5 * scale)


def test_motion_is_unknown_where_the_face_is_gone() -> None:
    flow = Flow()
    flow.advance(portrait())
    covered = portrait()
    covered[150:330, 240:400] = np.random.default_rng(0).integers(0, 255, (180, 160, 3))
    flow.advance(covered)
    assert flow.motions(BOX) == [None]


def test_no_frame_no_face() -> None:
    flow = Flow()
    assert flow.motions(BOX) == [None]
    flow.advance(portrait())
    assert flow.motions(BOX) == [None], "the first frame follows none"
    flow.advance(portrait())
    assert flow.motions(BOX[:0]) == []


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(lambda image: image, False, id="the same"),
        pytest.param(lambda image: np.roll(image, 40, axis=1), False, id="the camera turns fast"),
        pytest.param(lambda image: (image * 0.4).astype(np.uint8), False, id="the light goes out"),
        pytest.param(lambda image: np.clip(image * 1.8, 0, 255).astype(np.uint8), False, id="a flash"),
        pytest.param(lambda _: np.zeros((480, 640, 3), np.uint8), True, id="black"),
        pytest.param(lambda _: films.background((640, 480), 77).astype(np.uint8), True, id="another scene"),
        pytest.param(lambda image: image[:240], True, id="another size"),
    ],
)
def test_cuts(after: object, expected: bool) -> None:
    assert callable(after)
    flow = Flow()
    flow.advance(portrait())
    assert flow.advance(after(portrait())) is expected


def test_two_noisy_frames_without_light_are_no_cut() -> None:
    rng = np.random.default_rng(0)
    flow = Flow()
    frames = [rng.integers(0, 12, (480, 640, 3), dtype=np.uint8) for _ in range(2)]
    assert [flow.advance(frame) for frame in frames] == [False, False]
