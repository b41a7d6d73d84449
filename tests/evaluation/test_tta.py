"""Views of a crop, moved by hand."""

import numpy as np
import pytest

from mien.evaluation import tta


@pytest.mark.parametrize("shape", [(2, 48, 48), (2, 48, 48, 3), (1, 96, 64)])
@pytest.mark.parametrize(("kind", "count"), tta.VIEWS.items())
def test_every_view_keeps_shape_and_type(shape: tuple[int, ...], kind: tta.Tta, count: int) -> None:
    crops = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    views = list(tta.views(crops, kind))
    assert len(views) == count
    assert all(view.shape == shape and view.dtype == np.uint8 for view in views)
    assert len({view.tobytes() for view in views}) == count


def test_shifts_move_by_three_pixels_and_repeat_the_edge() -> None:
    crop = np.zeros((1, 48, 48), np.uint8)
    crop[0, 20, 10] = 255
    crop[0, :, 0] = 9
    found = [tuple(int(v) for v in np.argwhere(view[0] == 255)[0]) for view in tta.views(crop, "full")]
    mirrored = 47 - 10
    places = [(20, 10), (23, 10), (17, 10), (20, 13), (20, 7)]
    assert sorted(found[:5]) == sorted(places)
    assert sorted(found[5:]) == sorted((y, x + mirrored - 10) for y, x in places)
    right = next(view for view in tta.views(crop, "full") if view[0, 20, 13] == 255)
    assert (right[0, :, :4] == 9).all()


def test_probabilities_are_averaged() -> None:
    crops = np.zeros((1, 48, 48), np.uint8)
    crops[0, :, :24] = 200  # bright on the left: the two classes are "left" and "right"

    def predict(batch: tta.Crops) -> np.ndarray:
        left = batch[:, :, :24].mean(axis=(1, 2)) > batch[:, :, 24:].mean(axis=(1, 2))
        return np.stack([left, ~left], axis=1).astype(np.float32)

    assert tta.with_tta(predict, "none")(crops).tolist() == [[1.0, 0.0]]
    assert tta.with_tta(predict, "flip")(crops).tolist() == [[0.5, 0.5]]


def test_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="none, flip, full"):
        list(tta.views(np.zeros((1, 4, 4), np.uint8), "ten"))  # type: ignore[arg-type]
