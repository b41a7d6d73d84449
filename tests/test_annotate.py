"""Marked pictures: labels that never overlap, boxes where they belong, colours that stay apart."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.annotate import COLOURS, DARK, LIGHT, Rect, _ink_on, annotate, colour_of, label_text, place_labels
from mien.labels import FER7, FERPLUS8
from mien.results import Face, Quality


def face(
    box: tuple[float, float, float, float],
    emotion: str = "happy",
    *,
    confidence: float = 0.9,
    uncertain: bool = False,
    labels: tuple[str, ...] = FER7,
) -> Face:
    probabilities = np.full(len(labels), (1 - confidence) / (len(labels) - 1), np.float32)
    probabilities[labels.index(emotion)] = confidence
    return Face(
        box_xyxy=np.array(box, np.float32),
        landmarks=None,
        score=1.0,
        labels=labels,
        probabilities=probabilities,
        uncertain=uncertain,
        quality=Quality(size_px=10, blur=0, tilt_deg=None, turn_ratio=None),
        crop=np.zeros((48, 48, 3), np.uint8),
    )


def shared_pixels(a: Rect, b: Rect) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def random_boxes(n: int, seed: int, largest: int) -> list[Rect]:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 560, (n, 2))
    sides = rng.integers(10, largest, (n, 2))
    return [(x, y, min(640, x + w), min(600, y + h)) for (x, y), (w, h) in zip(corners, sides, strict=True)]


CROWDS = {
    "one": random_boxes(1, 0, 300),
    "a few, large": random_boxes(6, 1, 500),
    "forty, small": random_boxes(40, 2, 60),
    "a hundred": random_boxes(100, 3, 80),
    "twenty times the same": [(300, 300, 360, 380)] * 20,
    "along the upper edge": [(x, 0, x + 50, 60) for x in range(0, 600, 55)],
    "the whole picture": [(0, 0, 640, 600)],
}


@pytest.mark.parametrize("boxes", CROWDS.values(), ids=CROWDS)
def test_labels_never_overlap_and_stay_inside(boxes: list[Rect]) -> None:
    sizes = [(110, 20) if i % 2 else (70, 20) for i in range(len(boxes))]
    places = place_labels(boxes, sizes, (640, 600))
    assert None not in places
    for place, size in zip(places, sizes, strict=True):
        assert place is not None
        assert (place[2] - place[0], place[3] - place[1]) == size
        assert place[0] >= 0
        assert place[1] >= 0
        assert place[2] <= 640
        assert place[3] <= 600
    for a, b in itertools.combinations(places, 2):
        assert a is not None
        assert b is not None
        assert shared_pixels(a, b) == 0


def test_a_lone_label_sits_on_its_box() -> None:
    assert place_labels([(100, 100, 200, 220)], [(80, 20)], (640, 480)) == [(100, 80, 180, 100)]


def test_a_label_at_the_top_goes_below() -> None:
    assert place_labels([(100, 5, 200, 120)], [(80, 20)], (640, 480)) == [(100, 120, 180, 140)]


def test_a_label_keeps_off_the_next_face() -> None:
    upper, lower = (100, 100, 200, 200), (100, 205, 200, 300)
    places = place_labels([upper, lower], [(80, 20)] * 2, (640, 480))
    for place in places:
        assert place is not None
        assert shared_pixels(place, upper) == shared_pixels(place, lower) == 0


def test_a_label_that_fits_nowhere_is_left_out() -> None:
    assert place_labels([(0, 0, 30, 30)], [(80, 20)], (60, 60)) == [None]
    assert place_labels([(0, 0, 80, 20)] * 2, [(80, 20)] * 2, (80, 20)) == [(0, 0, 80, 20), None]


@pytest.fixture
def grey() -> NDArray[np.uint8]:
    return np.full((480, 640, 3), 128, np.uint8)


def test_the_picture_itself_stays(grey: NDArray[np.uint8]) -> None:
    before = grey.copy()
    marked = annotate(grey, [face((100, 100, 200, 200))])
    np.testing.assert_array_equal(grey, before)
    changed = (marked != grey).any(axis=2)
    assert changed[:95, :].sum() + changed[205:, :].sum() < 200 * 30  # only the label, one line of text high
    assert not changed[110:190, 110:190].any()  # the face is not drawn over
    assert tuple(marked[150, 100]) == COLOURS["happy"]


def test_no_faces(grey: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(annotate(grey, []), grey)


def test_an_uncertain_box_has_gaps(grey: NDArray[np.uint8]) -> None:
    sides = {}
    for uncertain in (False, True):
        marked = annotate(grey, [face((100, 100, 300, 300), uncertain=uncertain)])
        sides[uncertain] = (marked[110:290, 100] == COLOURS["happy"]).all(axis=1).mean()
    assert sides[False] == 1
    assert 0.3 < sides[True] < 0.7


def test_a_small_picture_is_enlarged() -> None:
    assert annotate(np.zeros((48, 36, 3), np.uint8), [face((0, 0, 36, 48))]).shape == (480, 360, 3)


def test_boxes_beyond_the_edge(grey: NDArray[np.uint8]) -> None:
    marked = annotate(grey, [face((-50, -50, 700, 500)), face((630, 470, 650, 490), "sad")])
    assert marked.shape == grey.shape


@pytest.mark.parametrize("uncertain", [False, True])
@pytest.mark.parametrize("box", [
    pytest.param((639.7, 20, 700, 90), id="over the right edge"),
    pytest.param((20, 479.8, 90, 500), id="under the bottom"),
    pytest.param((-50, 20, 0.3, 90), id="over the left edge"),
    pytest.param((100.1, 100.1, 100.3, 100.3), id="a point inside"),
    pytest.param((700, 500, 800, 600), id="all outside"),
])  # fmt: skip
def test_boxes_of_less_than_a_pixel(box: tuple[float, float, float, float], uncertain: bool) -> None:
    marked = annotate(np.full((480, 640, 3), 128, np.uint8), [face(box, uncertain=uncertain)])
    assert marked.shape == (480, 640, 3)
    assert (marked != 128).any()


def test_texts() -> None:
    assert label_text(face((0, 0, 1, 1), confidence=0.943)) == "happy 94 %"
    assert label_text(face((0, 0, 1, 1), "sad", confidence=0.41, uncertain=True), number=2) == "2 sad? 41 %"


def test_colours_of_other_labels_differ() -> None:
    labels = ("calm", "tense", "tired")
    assert len({colour_of(face((0, 0, 1, 1), label, labels=labels)) for label in labels}) == 3


def contrast(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    """WCAG 2.2 contrast ratio, 1..21."""

    def luminance(colour: tuple[int, int, int]) -> float:
        parts = np.array(colour) / 255
        return float(
            np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
        )

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("label", FERPLUS8)
def test_label_text_is_readable(label: str) -> None:
    """WCAG asks for 4.5 at this size."""
    assert contrast(COLOURS[label], _ink_on(COLOURS[label])) >= 4.5
    assert _ink_on(COLOURS[label]) in (DARK, LIGHT)


def test_letters_beyond_english_are_not_all_the_same_box() -> None:
    picture = np.full((300, 500, 3), 90, np.uint8)
    labels = ("heiß", "heiü", "hei表")
    marked = [annotate(picture, [face((50, 60, 200, 260), label, labels=(label, "-"))]) for label in labels]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(marked, 2))
