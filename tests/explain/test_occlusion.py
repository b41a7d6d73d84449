import numpy as np
import pytest
from numpy.typing import NDArray

from mien.explain import occlusion_map, occlusion_maps
from mien.explain.occlusion import BATCH, OCCLUDER, scaled_patch
from mien.labels import FER7


def by_brightness(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Happy is the mean brightness of the upper left quarter, angry that of the rest of the crop."""
    height, width = crops.shape[1] // 2, crops.shape[2] // 2
    happy = crops[:, :height, :width].reshape(len(crops), -1).mean(axis=1) / 255
    probabilities = np.zeros((len(crops), len(FER7)), np.float32)
    probabilities[:, FER7.index("happy")] = happy
    probabilities[:, FER7.index("angry")] = 1 - happy
    return probabilities


def slow_map(crop: NDArray[np.uint8], label: str, patch_px: int, stride_px: int) -> NDArray[np.float64]:
    """One call a position, averaged pixel by pixel."""
    index = FER7.index(label)
    whole = by_brightness(crop[None])[0, index]
    size = crop.shape[0]
    starts = sorted({*range(0, size - patch_px + 1, stride_px), size - patch_px})
    falls: dict[tuple[int, int], list[float]] = {(y, x): [] for y in range(size) for x in range(size)}
    for top in starts:
        for left in starts:
            occluded = crop.copy()
            occluded[top : top + patch_px, left : left + patch_px] = OCCLUDER
            fall = whole - by_brightness(occluded[None])[0, index]
            for y in range(top, top + patch_px):
                for x in range(left, left + patch_px):
                    falls[y, x].append(float(fall))
    return np.array([[np.mean(falls[y, x]) for x in range(size)] for y in range(size)])


@pytest.mark.parametrize(
    ("size", "patch_px", "stride_px"),
    [
        pytest.param(24, 8, 4, id="overlapping"),
        pytest.param(24, 8, 8, id="side by side"),
        pytest.param(23, 8, 4, id="the last patch moves back to the edge"),
        pytest.param(12, 12, 1, id="patch as large as the crop"),
        pytest.param(9, 1, 1, id="pixel by pixel"),
    ],
)
@pytest.mark.parametrize("label", ["happy", "angry"])
@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "rgb"])
def test_map_is_that_of_one_call_a_position(
    size: int, patch_px: int, stride_px: int, label: str, channels: tuple[int, ...]
) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (size, size, *channels), np.uint8)
    found = occlusion_map(by_brightness, crop, label, patch_px=patch_px, stride_px=stride_px)
    assert np.allclose(found.values, slow_map(crop, label, patch_px, stride_px), atol=1e-6)
    assert found.probability == pytest.approx(float(by_brightness(crop[None])[0, FER7.index(label)]))


def test_rise_is_negative() -> None:
    white = np.full((48, 48), 255, np.uint8)
    happy, angry = (occlusion_map(by_brightness, white, label) for label in ("happy", "angry"))
    assert happy.values[:24, :24].min() > 0
    assert np.allclose(happy.values, -angry.values)
    assert not happy.values[32:, 32:].any()


def test_all_positions_are_one_call_and_the_crop_stays() -> None:
    calls: list[int] = []

    def predict(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        calls.append(len(crops))
        return by_brightness(crops)

    crop = np.arange(48 * 48, dtype=np.uint32).reshape(48, 48).astype(np.uint8)
    before = crop.copy()
    maps = occlusion_maps(predict, crop)
    assert calls == [11 * 11 + 1]
    assert tuple(heatmap.label for heatmap in maps) == FER7
    assert (crop == before).all()
    calls.clear()
    occlusion_maps(predict, np.zeros((96, 96), np.uint8))
    assert max(calls) <= BATCH
    assert sum(calls) == 23 * 23 + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"patch_px": 49}, "patch_px is 49, not between 1 and the crop's 48", id="patch too large"),
        pytest.param({"patch_px": 0}, "patch_px is 0", id="no patch"),
        pytest.param({"stride_px": 9}, "leave gaps", id="gaps"),
        pytest.param({"stride_px": 0}, "stride_px is 0", id="no stride"),
        pytest.param({"labels": FER7[:3]}, "'happy' is no label of the model", id="unknown label"),
        pytest.param({"labels": (*FER7, "contempt")}, r"predict gave \(122, 7\), not \(122, 8\)", id="other labels"),
    ],
)
def test_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        occlusion_map(by_brightness, np.zeros((48, 48), np.uint8), "happy", **options)


@pytest.mark.parametrize(
    "crop",
    [
        pytest.param(np.zeros((48, 48), np.float32), id="floats"),
        pytest.param(np.zeros((1, 48, 48, 3), np.uint8), id="a batch"),
        pytest.param(np.zeros((48, 48, 4), np.uint8), id="alpha"),
        pytest.param(np.zeros((0, 48), np.uint8), id="empty"),
    ],
)
def test_refuses_what_is_no_crop(crop: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="a crop is uint8"):
        occlusion_map(by_brightness, crop, "happy")


@pytest.mark.parametrize(("side", "expected"), [(48, (8, 4)), (96, (16, 8)), (224, (37, 18)), (8, (2, 1))])
def test_patch_in_proportion(side: int, expected: tuple[int, int]) -> None:
    assert scaled_patch((side, side)) == expected
