"""Likely label errors: labels that a model which did not train on them contradicts (Northcutt et al. 2021).

Every image gets probabilities from a classifier that was fitted without it and without its copies; cleanlab's
confident learning then says which labels are likely wrong (Northcutt, Jiang & Chuang, JAIR 70).
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mien.datasets.audit.findings import Finding, Problem, Suggestion
from mien.datasets.audit.pool import Pool
from mien.errors import DataError, require

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Progress = Callable[[int, int], None]

REGULARISATION = 0.01  # C of the logistic regression; pooled features of tens of thousands of faces need a firm hand
ITERATIONS = 300


def draw_folds(pool: Pool, folds: int, *, seed: int = 0) -> Ints:
    """(N,) the fold that each image is held out in; copies and near copies share one, classes are spread evenly.

    Raises:
        DataError: a class has fewer groups of copies than there are folds.
    """
    model_selection = require("sklearn.model_selection", "audit")
    groups = pool.near_groups
    for label, name in enumerate(pool.labels):
        found = len(np.unique(groups[pool.classes == label]))
        if 0 < found < folds:
            raise DataError(
                f"the class {name} has {found} different images, too few for {folds} folds: "
                "take fewer with --folds, or add images"
            )
    splitter = model_selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    held_out = np.empty(len(pool), np.int64)
    for fold, (_, rows) in enumerate(splitter.split(np.zeros((len(pool), 1)), pool.classes, groups)):
        held_out[rows] = fold
    return held_out


def from_features(features: Floats, classes: Ints, held_out: Ints, *, progress: Progress | None = None) -> Floats:
    """Out-of-fold probabilities `(N, K)` of a logistic regression on features `(N, D)`, standardised in each fold.

    K is the largest class and one; classes without images get probability 0.
    """
    linear = require("sklearn.linear_model", "audit")
    folds = np.unique(held_out)
    probabilities = np.zeros((len(features), int(classes.max()) + 1), np.float32)
    for done, fold in enumerate(folds.tolist(), start=1):
        rest = held_out != fold
        centre, spread = features[rest].mean(axis=0), features[rest].std(axis=0)
        scaled = (features - centre) / np.maximum(spread, 1e-6)
        model = linear.LogisticRegression(C=REGULARISATION, max_iter=ITERATIONS, tol=1e-3)
        model.fit(scaled[rest], classes[rest])
        rows = np.flatnonzero(~rest)
        probabilities[np.ix_(rows, model.classes_)] = model.predict_proba(scaled[rows])
        if progress is not None:
            progress(done, len(folds))
    return probabilities


def find_label_errors(pool: Pool, probabilities: Floats) -> Iterator[Finding]:
    """The labels that confident learning holds for wrong, the surest first.

    `probabilities` (N, K) are out of fold. The score is 1 less the probability of the label: 1 is surely wrong.

    Raises:
        DataError: fewer than two classes have images.
    """
    present = np.unique(pool.classes)
    if len(present) < 2:
        raise DataError("label errors can only be told among two classes or more: add images of another class")
    ranked = _confident_learning(np.searchsorted(present, pool.classes), probabilities[:, present])
    for i in ranked:
        likeliest = int(probabilities[i].argmax())
        yield Finding(
            problem=Problem.LABEL_ERROR,
            image=i,
            suggestion=Suggestion.REVIEW,
            suggested_label=pool.labels[likeliest],
            score=round(1 - float(probabilities[i, pool.classes[i]]), 4),
            note=f"{pool.labels[likeliest]} {probabilities[i, likeliest]:.0%}, "
            f"{pool.labels[pool.classes[i]]} {probabilities[i, pool.classes[i]]:.0%}",
        )


def _confident_learning(classes: Ints, probabilities: Floats) -> list[int]:
    """Rows whose label is likely wrong by both of cleanlab's rules, the least probable label first."""
    issues = require("cleanlab.filter", "audit")
    rows = probabilities / np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-12)
    found = issues.find_label_issues(
        classes, rows.astype(np.float64), filter_by="both", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return [int(i) for i in found]
