"""Sizes in training are those of inference."""

import numpy as np
import pytest
import torch

from mien.models.pixels import fit_to
from mien.preprocess import InputSpec, network_input


@pytest.mark.parametrize("side", [24, 30, 36, 47, 48, 64, 112])
def test_training_and_inference_resize_alike(side: int) -> None:
    """Within the half grey level that inference rounds to."""
    crops = np.random.default_rng(0).integers(0, 256, (2, 48, 48), dtype=np.uint8)
    spec = InputSpec(size_hw=(side, side))
    trained = fit_to(torch.from_numpy(crops)[:, None].float() / 255, spec).numpy()
    assert 255 * np.abs(trained - network_input(crops, spec)).max() < 1.01
