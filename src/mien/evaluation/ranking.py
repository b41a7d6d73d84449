"""How well the probability of one class tells its faces from the others: ROC and precision-recall, one against rest."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.evaluation.metrics import Floats, Probabilities


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single ==
class Ranking:
    """Both curves of one class, P points, the highest threshold first; equal probabilities enter together."""

    threshold: Floats  # (P,), falling
    recall: Floats  # (P,), rising to 1: share of the class that is at or over the threshold; ROC's true positive rate
    false_positive_rate: Floats  # (P,), rising to 1: share of the others that is
    precision: Floats  # (P,): share of the class among all at or over the threshold
    prevalence: float  # share of the class: the precision of guessing

    @property
    def roc_auc(self) -> float:
        """Area under the ROC curve: the chance that a face of the class ranks over one of another (0..1)."""
        along, up = np.append(0.0, self.false_positive_rate), np.append(0.0, self.recall)
        return float((np.diff(along) * (up[1:] + up[:-1]) / 2).sum())

    @property
    def average_precision(self) -> float:
        """Precision averaged over recall, in steps: no line is drawn between points (0..1)."""
        return float((np.diff(self.recall, prepend=0.0) * self.precision).sum())

    def thinned(self, points: int = 200) -> "Ranking":
        """At most about so many of the points, for drawing; areas are those of the whole curve."""
        if len(self.threshold) <= points:
            return self
        steps = np.linspace(0, len(self.threshold) - 1, points).astype(np.int64)
        early = np.arange(min(20, len(self.threshold)))  # where precision jumps
        kept = np.unique(np.concatenate([early, steps]))
        rate = self.false_positive_rate[kept]
        return Ranking(self.threshold[kept], self.recall[kept], rate, self.precision[kept], self.prevalence)


def rank(probabilities: Probabilities, belongs: NDArray[np.bool_]) -> Ranking | None:
    """The curves of one class: `(N,)` probabilities of it, and which images belong to it.

    None where all images belong to it, or none does: there is nothing to tell apart.

    Raises:
        ValueError: the lengths differ.
    """
    if probabilities.shape != belongs.shape or belongs.ndim != 1:
        raise ValueError(f"{probabilities.shape} probabilities do not fit {belongs.shape} images")
    positives = int(belongs.sum())
    if positives in (0, len(belongs)):
        return None
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order].astype(np.float64)
    last = np.append(falling[1:] != falling[:-1], True)  # last of each group of equals
    hits, kept = np.cumsum(belongs[order])[last], np.arange(1, len(belongs) + 1)[last]
    return Ranking(
        threshold=falling[last],
        recall=hits / positives,
        false_positive_rate=(kept - hits) / (len(belongs) - positives),
        precision=hits / kept,
        prevalence=positives / len(belongs),
    )
