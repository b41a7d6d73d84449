"""Crops to network input against PIL and arithmetic by hand."""

import numpy as np
import pytest
from PIL import Image

from mien.preprocess import InputSpec, network_input, to_grey

COLOUR = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)


def test_grey_is_pillow_s_within_one() -> None:
    theirs = np.stack([np.asarray(Image.fromarray(crop).convert("L")) for crop in COLOUR])
    assert np.abs(to_grey(COLOUR).astype(int) - theirs).max() <= 1


def test_one_colour_crop_is_not_taken_for_48_grey_ones() -> None:
    with pytest.raises(ValueError, match=r"pass crop\[None\]"):
        network_input(COLOUR[0], InputSpec())


def test_pixels_are_normalised() -> None:
    crops = np.array([[[0, 255], [51, 102]]], np.uint8)
    found = network_input(crops, InputSpec(size_hw=(2, 2), mean=(0.5,), std=(0.25,)))
    np.testing.assert_allclose(found, [[[[-2, 2], [-1.2, -0.4]]]], atol=1e-6)


def test_a_network_of_three_channels_sees_no_colour_that_it_never_trained_on() -> None:
    spec = InputSpec(channels=3, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    found = network_input(COLOUR, spec) + np.array(spec.mean, np.float32)[None, :, None, None]
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-6)
    np.testing.assert_allclose(found[:, 0] * 255, to_grey(COLOUR), atol=1e-3)


@pytest.mark.parametrize("side", [24, 96])
def test_another_size_and_no_faces(side: int) -> None:
    spec = InputSpec(size_hw=(side, side))
    assert network_input(COLOUR, spec).shape == (3, 1, side, side)
    assert network_input(COLOUR[:0], spec).shape == (0, 1, side, side)


@pytest.mark.parametrize(
    "crops",
    [
        pytest.param(np.zeros((48, 48), np.uint8), id="one image without a batch axis"),
        pytest.param(np.zeros((1, 48, 48, 4), np.uint8), id="four channels"),
        pytest.param(np.zeros((1, 48, 48), np.float32), id="floats"),
    ],
)
def test_wrong_arrays_are_named(crops: np.ndarray) -> None:
    with pytest.raises(ValueError, match="crops are uint8"):
        network_input(crops, InputSpec())
