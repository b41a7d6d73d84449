import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from mien.explain.checks import (
    RANDOM_MAPS,
    Curve,
    blurred,
    deletion_curve,
    faithfulness,
    insertion_curve,
    random_map,
    randomisation,
    similarity,
)
from mien.explain.heatmap import Heatmap
from mien.explain.occlusion import OCCLUDER
from mien.labels import FER7

HAPPY = FER7.index("happy")


def left_half_is_white(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Happy is the share of white pixels in the left half."""
    width = crops.shape[2] // 2
    probabilities = np.zeros((len(crops), len(FER7)), np.float32)
    probabilities[:, HAPPY] = (crops[:, :, :width] == 255).reshape(len(crops), -1).mean(axis=1)
    return probabilities


def half_map(side: int, *, left: float, right: float) -> Heatmap:
    values = np.full((side, side), right, np.float32)
    values[:, : side // 2] = left
    return Heatmap(values, "happy", "occlusion")


WHITE = np.full((16, 16), 255, np.uint8)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        pytest.param(1.0, 0.0, 0.25, id="the half that counts goes first: a triangle, then nothing"),
        pytest.param(0.0, 1.0, 0.75, id="the half that counts goes last: all of it, then a triangle"),
        pytest.param(0.0, -1.0, 0.25, id="negative goes after zero"),
    ],
)
def test_deletion_area_by_hand(left: float, right: float, expected: float) -> None:
    curve = deletion_curve(left_half_is_white, WHITE, half_map(16, left=left, right=right), steps=16)
    assert curve.auc == pytest.approx(expected, abs=1e-6)
    assert (curve.probabilities[0], curve.probabilities[-1]) == (1, 0)
    assert np.allclose(curve.fractions, np.linspace(0, 1, 17))


def test_equal_pixels_go_in_random_order() -> None:
    constant = half_map(16, left=0, right=0)
    curves = [deletion_curve(left_half_is_white, WHITE, constant, steps=16, seed=seed) for seed in (0, 0, 1)]
    assert curves[0].auc == pytest.approx(0.5, abs=0.05)
    assert (curves[0].probabilities == curves[1].probabilities).all()
    assert (curves[0].probabilities != curves[2].probabilities).any()


def test_insertion_starts_blurred_and_ends_whole() -> None:
    seen: list[NDArray[np.uint8]] = []

    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(crops.copy())
        return left_half_is_white(crops)

    crop = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    insertion_curve(predict, crop, half_map(16, left=1, right=0), steps=2)
    (crops,) = seen  # one call a curve
    assert (crops[0] == blurred(crop)).all()
    assert (crops[2] == crop).all()
    assert (crops[1][:, :8] == crop[:, :8]).all()
    assert (crops[1][:, 8:] == blurred(crop)[:, 8:]).all()
    assert blurred(crop).std() < crop.std() / 5


def test_deletion_ends_grey() -> None:
    seen: list[NDArray[np.uint8]] = []

    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(crops.copy())
        return left_half_is_white(crops)

    deletion_curve(predict, WHITE, half_map(16, left=1, right=0))
    assert (seen[0][-1] == OCCLUDER).all()
    assert (WHITE == 255).all()


def test_faithfulness_compares_with_maps_that_know_nothing() -> None:
    found = faithfulness(left_half_is_white, WHITE, half_map(16, left=1, right=0))
    assert found.deletion.curve.auc < found.deletion.random_auc_mean - 2 * found.deletion.random_auc_sd
    assert len(found.deletion.random) == len(found.insertion.random) == RANDOM_MAPS
    table = found.to_dict()
    assert set(table) == {"deletion", "insertion"}
    assert table["deletion"]["auc"] == pytest.approx(0.25, abs=0.01)
    assert table["deletion"]["random_auc_mean"] == pytest.approx(0.5, abs=0.08)
    assert table["deletion"]["centre_auc"] == pytest.approx(0.5, abs=0.02)


def test_random_maps_are_smooth_and_repeat() -> None:
    first, again = (random_map((48, 48), np.random.default_rng(3)) for _ in range(2))
    assert (first == again).all()
    assert first.dtype == np.float32
    assert np.abs(np.diff(first, axis=0)).max() < 0.2 < first.max() - first.min()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [0, 3], ids=["all different", "with ties"])
def test_similarity_is_scipys_spearman(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.uniform(-1, 1, (2, 12, 12)).astype(np.float32)
    second = np.clip(0.5 * first + 0.5 * second, -1, 1)
    if levels:
        first, second = np.round(first * levels) / levels, np.round(second * levels) / levels
    maps = [Heatmap(values.astype(np.float32), "happy", "cam") for values in (first, second)]
    expected = spearmanr(first.ravel(), second.ravel()).statistic
    assert similarity(*maps) == pytest.approx(float(expected), abs=1e-9)


def test_similarity_of_a_constant_map_is_zero_and_shapes_must_fit() -> None:
    flat = half_map(8, left=0, right=0)
    assert similarity(flat, half_map(8, left=1, right=0)) == 0
    with pytest.raises(ValueError, match="cannot be compared"):
        similarity(flat, half_map(16, left=1, right=0))


def test_randomisation_lists_stages() -> None:
    heatmap = half_map(8, left=1, right=0)
    found = randomisation(heatmap, [("classifier", heatmap), ("first", half_map(8, left=0, right=1))])
    assert found.to_dict() == {"layers": ["classifier", "first"], "similarities": [1.0, -1.0]}


@pytest.mark.parametrize(
    ("heatmap", "message"),
    [
        pytest.param(half_map(8, left=1, right=0), r"a map of \(8, 8\) does not fit a crop of \(16, 16\)", id="size"),
        pytest.param(Heatmap(np.zeros((16, 16), np.float32), "bored", "cam"), "'bored' is no label", id="label"),
    ],
)
def test_refuses(heatmap: Heatmap, message: str) -> None:
    for draw in (deletion_curve, insertion_curve):
        with pytest.raises(ValueError, match=message):
            draw(left_half_is_white, WHITE, heatmap)


def test_area_is_by_trapezoids() -> None:
    curve = Curve(np.array([0, 0.25, 1], np.float32), np.array([1, 0.5, 0], np.float32))
    assert curve.auc == pytest.approx(0.25 * 0.75 + 0.75 * 0.25)
