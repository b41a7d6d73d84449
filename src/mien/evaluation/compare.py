"""Two models on the same images: is the difference more than chance, and which confusions did it come from?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from mien.errors import DataError
from mien.evaluation import metrics
from mien.evaluation.evaluate import Evaluation
from mien.evaluation.metrics import Floats, Ints, McNemar

RESAMPLES = 2000
CASE_STUDY_PAIRS = (("angry", "surprise"), ("fear", "sad"))
"""The confusions that the case study follows from its baseline to its ResNet-50."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of the second model less that of the first, with the 95 % interval of a paired bootstrap."""

    value: float
    ci95: Interval

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.ci95[0] > 0 or self.ci95[1] < 0


@dataclass(frozen=True, slots=True)
class Difference:
    """The second model against the first."""

    first: str
    second: str
    accuracy: Change
    macro_f1: Change
    log_loss: Change
    mcnemar: McNemar
    p_holm: float  # McNemar's p, corrected for the number of pairs of models (Holm 1979)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        changes = {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "log_loss": self.log_loss}
        return {
            "first": self.first,
            "second": self.second,
            **{name: {"change": change.value, "ci95": list(change.ci95)} for name, change in changes.items()},
            "only_first_right": self.mcnemar.only_first,
            "only_second_right": self.mcnemar.only_second,
            "mcnemar_p": self.mcnemar.p_value,
            "mcnemar_p_holm": self.p_holm,
        }


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """Faces of one of two classes that models took for the other."""

    labels: tuple[str, str]
    counts: tuple[tuple[int, int], ...]  # a model each: of the first label called the second, and the reverse
    changes: tuple[Change, ...]  # faces, a later model each against the first

    @property
    def totals(self) -> tuple[int, ...]:
        """Faces confused either way, a model each."""
        return tuple(there + back for there, back in self.counts)

    @property
    def named(self) -> bool:
        """Whether the case study follows it."""
        return any(set(self.labels) == set(pair) for pair in CASE_STUDY_PAIRS)

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """JSON-safe form; `names` are those of the models."""
        one, other = self.labels
        keys = (f"{one} called {other}", f"{other} called {one}")
        return {
            "labels": list(self.labels),
            "models": {name: dict(zip(keys, n, strict=True)) for name, n in zip(names, self.counts, strict=True)},
            "changes": {
                name: {"change": change.value, "ci95": list(change.ci95)}
                for name, change in zip(names[1:], self.changes, strict=True)
            },
        }


def differences(evaluations: Sequence[tuple[str, Evaluation]]) -> tuple[Difference, ...]:
    """Every pair of models: McNemar's exact test, and paired bootstrap intervals of the differences.

    Raises:
        DataError: the models were not measured on the same images.
    """
    pairs = list(combinations(evaluations, 2))
    tests = [metrics.mcnemar(first.correct, _same(first, second).correct) for (_, first), (_, second) in pairs]
    corrected = _holm([test.p_value for test in tests])
    return tuple(
        Difference(name, other, *_changes(first, second), mcnemar=test, p_holm=p)
        for ((name, first), (other, second)), test, p in zip(pairs, tests, corrected, strict=True)
    )


def confused_pairs(evaluations: Sequence[Evaluation]) -> tuple[ConfusedPair, ...]:
    """Every two classes that a model confused, the two that the first one confused most often first.

    Raises:
        DataError: the models were not measured on the same images.
    """
    first, *others = evaluations
    found = []
    for i, j in combinations(range(len(first.labels)), 2):
        confusions = [one.confusion for one in evaluations]
        counts = tuple((int(matrix[i, j]), int(matrix[j, i])) for matrix in confusions)
        if not any(map(sum, counts)):
            continue
        changes = tuple(_change_of_pair(first, _same(first, other), i, j) for other in others)
        found.append(ConfusedPair((first.labels[i], first.labels[j]), counts, changes))
    return tuple(sorted(found, key=lambda pair: -pair.totals[0]))


def _changes(first: Evaluation, second: Evaluation) -> tuple[Change, Change, Change]:
    """Of accuracy, macro-F1 and log-loss."""
    classes, targets = len(first.labels), first.targets
    right = second.correct.astype(np.int64) - first.correct.astype(np.int64)
    surprise = _surprise(second) - _surprise(first)

    def f1(said: Ints, rows: Ints) -> float:
        flat = np.bincount(targets[rows] * classes + said[rows], minlength=classes * classes)
        return metrics.macro_f1(flat.reshape(classes, classes))

    before, after = first.predicted, second.predicted
    return (
        _change(lambda rows: float(right[rows].mean()), len(targets)),
        _change(lambda rows: f1(after, rows) - f1(before, rows), len(targets)),
        _change(lambda rows: float(surprise[rows].mean()), len(targets)),
    )


def _change_of_pair(first: Evaluation, second: Evaluation, i: int, j: int) -> Change:
    """Of the number of faces of class i called j, and the reverse."""

    def confused(one: Evaluation) -> Ints:
        there = (one.targets == i) & (one.predicted == j)
        back = (one.targets == j) & (one.predicted == i)
        return np.asarray(there | back, np.int64)

    fewer = confused(second) - confused(first)
    return _change(lambda rows: float(fewer[rows].sum()), len(fewer))


def _change(statistic: Callable[[Ints], float], n: int) -> Change:
    return Change(statistic(np.arange(n)), metrics.bootstrap_interval(statistic, n, resamples=RESAMPLES))


def _surprise(one: Evaluation) -> Floats:
    """`(N,)` log-loss of each image, in nats."""
    of_truth = one.probabilities[np.arange(len(one.targets)), one.targets].astype(np.float64)
    return np.asarray(-np.log(np.clip(of_truth, np.finfo(np.float64).eps, 1.0)))


def _holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the given order."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, at in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[at]))
        corrected[at] = largest
    return corrected


def _same(first: Evaluation, second: Evaluation) -> Evaluation:
    """`second`, once it is seen to be of the images of `first`."""
    if first.labels != second.labels or first.names != second.names or (first.targets != second.targets).any():
        raise DataError("the models were not measured on the same images with the same labels: they do not compare")
    return second
