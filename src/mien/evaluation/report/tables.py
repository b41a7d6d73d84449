"""The figures of a report as rows: for its page and for CSV files."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from mien.evaluation import metrics, plots
from mien.evaluation.compare import Change, ConfusedPair, Difference
from mien.evaluation.evaluate import Evaluation
from mien.evaluation.metrics import Reliability
from mien.evaluation.report.subject import Subject

Row = Sequence[object]
Table = tuple[tuple[str, ...], list[Row]]
"""A heading, and rows of as many cells."""


def csv_tables(
    subjects: Sequence[Subject], differences: Sequence[Difference], pairs: Sequence[ConfusedPair]
) -> dict[str, Table]:
    """Every table of figures, by file name without its ending; shares and accuracies are in 0..1."""
    names = [one.name for one in subjects]
    tables: dict[str, Table] = {
        "per-class": (("model", "class", "precision", "recall", "f1", "support"), _each(subjects, per_class)),
        "confusion": (("model", "true", "predicted", "faces", "share"), _each(subjects, _confusion)),
        "reliability": (
            ("model", "stage", "low", "high", "faces", "confidence", "accuracy"),
            _each(subjects, _reliability),
        ),
        "coverage": (("model", "threshold", "coverage", "accuracy"), _each(subjects, _coverage)),
        "ranking": (
            ("model", "class", "threshold", "recall", "false_positive_rate", "precision"),
            _each(subjects, _ranking),
        ),
    }
    if any(one.history for one in subjects):
        keys = tuple(dict.fromkeys(key for one in subjects if one.history for row in one.history.rows for key in row))
        tables["curves"] = (
            ("model", *keys),
            [
                (one.name, *(row.get(key, "") for key in keys))
                for one in subjects
                if one.history
                for row in one.history.rows
            ],
        )
    if differences:
        tables["differences"] = (tuple(_difference(differences[0])), [[*_difference(d).values()] for d in differences])
        tables["confused-pairs"] = (
            ("one", "other", "model", "one_called_other", "other_called_one", "change", "change_low", "change_high"),
            [row for pair in pairs for row in _pair(pair, names)],
        )
    return tables


def write_csv(table: Table, path: Path) -> None:
    """Write one table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table[0])
    writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in table[1])
    path.write_text(text.getvalue(), encoding="utf-8")


def per_class(subject: Subject) -> list[Row]:
    """Label, precision, recall, F1 and support of each class, then the macro and the weighted means."""
    scores = subject.evaluation.scores
    columns = (scores.precision, scores.recall, scores.f1)
    rows: list[Row] = [
        (label, *(float(column[k]) for column in columns), int(scores.support[k]))
        for k, label in enumerate(subject.evaluation.labels)
    ]
    total = int(scores.support.sum())
    for name, mean in (("macro", scores.macro), ("weighted", scores.weighted)):
        rows.append((name, *(mean(column) for column in columns), total))
    return rows


def percent(share: float | None, digits: int = 1) -> str:
    """`68.2 %`, or a dash for what is not known."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def interval(low_high: Sequence[float], digits: int = 1) -> str:
    """`66.7 to 69.7` per cent."""
    return " to ".join(f"{100 * end:.{digits}f}" for end in low_high)


def change(found: Change, *, factor: float = 100.0, digits: int = 1) -> str:
    """`+10.8 (9.2 to 12.4)`; factor 100 makes points of shares."""
    low, high = (_signed(factor * end, digits) for end in found.ci95)
    return f"{_signed(factor * found.value, digits)} ({low} to {high})"


def p_value(p: float) -> str:
    """As text: very small ones by their bound."""
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def _each(subjects: Sequence[Subject], rows: Callable[[Subject], Iterable[Row]]) -> list[Row]:
    return [(one.name, *row) for one in subjects for row in rows(one)]


def _confusion(subject: Subject) -> Iterable[Row]:
    found: Evaluation = subject.evaluation
    shares = plots.shares(found.confusion)
    for (i, j), count in np.ndenumerate(found.confusion):
        yield found.labels[i], found.labels[j], int(count), float(shares[i, j])


def _reliability(subject: Subject) -> Iterable[Row]:
    stages = {"as trained": subject.before, "as it answers": subject.evaluation.reliability}
    stages["cross-fitted"] = subject.after_cross_fit
    for stage, bins in stages.items():
        yield from ((stage, *row) for row in _bins(bins))


def _bins(found: Reliability) -> Iterable[Row]:
    rows = zip(found.edges[:-1], found.edges[1:], found.counts, found.confidence, found.accuracy, strict=True)
    for low, high, count, confidence, accuracy in rows:
        means = (float(confidence), float(accuracy)) if count else ("", "")
        yield float(low), float(high), int(count), *means


def _coverage(subject: Subject) -> Iterable[Row]:
    curve = subject.evaluation.coverage
    kept = np.unique(np.linspace(0, len(curve.coverage) - 1, 200).round().astype(np.int64))
    for at in kept.tolist():
        yield float(curve.threshold[at]), float(curve.coverage[at]), float(curve.accuracy[at])


def _ranking(subject: Subject) -> Iterable[Row]:
    for label, found in subject.rankings.items():
        if found is not None:
            few = found.thinned()
            columns = (few.threshold, few.recall, few.false_positive_rate, few.precision)
            yield from ((label, *map(float, row)) for row in zip(*columns, strict=True))


def _difference(found: Difference) -> dict[str, object]:
    row: dict[str, object] = {"first": found.first, "second": found.second}
    for name, one in (("accuracy", found.accuracy), ("macro_f1", found.macro_f1), ("log_loss", found.log_loss)):
        row |= {name: one.value, f"{name}_low": one.ci95[0], f"{name}_high": one.ci95[1]}
    row |= {"only_first_right": found.mcnemar.only_first, "only_second_right": found.mcnemar.only_second}
    return {**row, "mcnemar_p": found.mcnemar.p_value, "mcnemar_p_holm": found.p_holm}


def _pair(pair: ConfusedPair, names: Sequence[str]) -> Iterable[Row]:
    changes = [None, *pair.changes]
    for name, (there, back), one in zip(names, pair.counts, changes, strict=True):
        moved = ("", "", "") if one is None else (one.value, *one.ci95)
        yield (*pair.labels, name, there, back, *moved)


def accuracy_of(subject: Subject) -> str:
    """`68.2 % (66.7 to 69.7)`."""
    right, n = int(subject.evaluation.correct.sum()), len(subject.evaluation.targets)
    return f"{percent(right / n)} ({interval(metrics.wilson_interval(right, n))})"
