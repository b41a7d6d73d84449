"""Does the file decide as the network that it was made from?"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mien.errors import ModelError
from mien.evaluation.metrics import Probabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What a precision may change."""

    max_difference: float  # of any probability, 0..1
    min_equal: float  # share of equal decisions, 0..1


TOLERANCES = {
    "fp32": Tolerance(max_difference=1e-4, min_equal=1.0),  # other order of the same sums
    "fp16": Tolerance(max_difference=0.02, min_equal=0.99),  # 11 bits of each weight: about 0.002 was measured
    "int8": Tolerance(max_difference=1.0, min_equal=0.9),  # single faces may move; the accuracy is reported beside it
}
TIE = 1e-3  # decisions between probabilities nearer than this are no disagreement


@dataclass(frozen=True, slots=True)
class Parity:
    """Two models on the same crops."""

    n: int
    crops: str  # what they were compared on
    max_difference: float  # of any probability, 0..1
    equal_decisions: float  # share, 0..1; a tie within TIE counts as equal

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        return asdict(self)


def compare(reference: Probabilities, other: Probabilities, *, crops: str) -> Parity:
    """Compare `(N, K)` probabilities of two models on the same N crops.

    Raises:
        ValueError: the shapes differ, or there are no crops.
    """
    if reference.shape != other.shape or not len(reference):
        raise ValueError(f"probabilities {reference.shape} and {other.shape} are not of the same crops")
    rows = np.arange(len(reference))
    lost = reference.max(axis=1) - reference[rows, other.argmax(axis=1)]
    return Parity(len(reference), crops, float(np.abs(reference - other).max()), float((lost <= TIE).mean()))


def check(parity: Parity, precision: str, *, name: str) -> None:
    """Refuse a file that decides otherwise than its network.

    Raises:
        ModelError: a difference is over the tolerance of `precision`.
    """
    tolerance = TOLERANCES[precision]
    if parity.max_difference > tolerance.max_difference or parity.equal_decisions < tolerance.min_equal:
        raise ModelError(
            f"{name} as {precision} differs from the network: probabilities by up to {parity.max_difference:.2g} "
            f"(allowed {tolerance.max_difference:g}), {100 * parity.equal_decisions:.1f} % equal decisions (needed "
            f"{100 * tolerance.min_equal:g} %) on {parity.n} {parity.crops}; nothing was written: "
            f"{'report it as a bug' if precision == 'fp32' else 'export as fp32'}"
        )
