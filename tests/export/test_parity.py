"""Parity by hand."""

import numpy as np
import pytest

from mien.errors import ModelError
from mien.export import parity

SURE = np.array([[0.9, 0.1], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("other", "difference", "equal"),
    [
        pytest.param([[0.9, 0.1], [0.2, 0.8]], 0.0, 1.0, id="the same"),
        pytest.param([[0.8, 0.2], [0.2, 0.8]], 0.1, 1.0, id="nearer to even"),
        pytest.param([[0.4, 0.6], [0.2, 0.8]], 0.5, 0.5, id="one of two flips"),
    ],
)
def test_compare(other: list[list[float]], difference: float, equal: float) -> None:
    found = parity.compare(SURE, np.array(other), crops="rows")
    assert (found.max_difference, found.equal_decisions, found.n) == (pytest.approx(difference), equal, 2)


def test_a_tie_is_no_disagreement() -> None:
    found = parity.compare(np.array([[0.50001, 0.49999]]), np.array([[0.49999, 0.50001]]), crops="rows")
    assert found.equal_decisions == 1.0


@pytest.mark.parametrize(
    ("precision", "difference", "equal", "fits"),
    [
        ("fp32", 5e-5, 1.0, True),
        ("fp32", 2e-4, 1.0, False),
        ("fp32", 0.0, 0.99, False),
        ("fp16", 5e-3, 0.999, True),
        ("fp16", 5e-2, 1.0, False),
        ("int8", 0.3, 0.95, True),
        ("int8", 0.3, 0.5, False),
    ],
)
def test_tolerances(precision: str, difference: float, equal: float, fits: bool) -> None:
    found = parity.Parity(100, "faces", difference, equal)
    if fits:
        parity.check(found, precision, name="m")
    else:
        with pytest.raises(ModelError, match=f"m as {precision} differs"):
            parity.check(found, precision, name="m")


@pytest.mark.parametrize("other", [np.ones((3, 2)) / 2, np.ones((0, 2))])
def test_other_crops_cannot_be_compared(other: np.ndarray) -> None:
    with pytest.raises(ValueError, match="same crops"):
        parity.compare(SURE[: len(other)], other, crops="rows")
