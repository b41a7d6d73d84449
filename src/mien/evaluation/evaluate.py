"""Measure a predict function on a split: every figure of `metrics.json`, in one frozen object."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.datasets.ferplus import vote_shares, voted_faces
from mien.datasets.packed import Split, pixel_digest
from mien.errors import DataError, ModelError
from mien.evaluation import calibration, metrics
from mien.evaluation.metrics import ClassScores, Ints
from mien.evaluation.tta import Crops, Predict, Tta, with_tta
from mien.labels import FER7, FERPLUS8

Progress = Callable[[int], None]  # called with the number of images done since the last call

COVERAGES = tuple(round(step / 20, 2) for step in range(1, 21))  # points of the stored coverage-accuracy curve


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single ==
class Evaluation:
    """Probabilities of one model on labelled images, and the figures that follow from them."""

    labels: tuple[str, ...]  # the model's
    targets: Ints  # (N,), indices into `labels`
    probabilities: NDArray[np.float32]  # (N, K), calibrated with the temperature that the model carries
    names: tuple[str, ...]  # N
    threshold: float = 0.0  # `uncertain` under it
    twins: NDArray[np.bool_] | None = None  # (N,): has a pixel-identical training image; None where there are none
    about: Mapping[str, Any] = field(default_factory=dict)  # model, data, settings: goes into metrics.json

    def __post_init__(self) -> None:
        n, k = len(self.targets), len(self.labels)
        if n == 0 or self.probabilities.shape != (n, k) or len(self.names) != n:
            shapes = f"{self.probabilities.shape} probabilities and {len(self.names)} names"
            raise ValueError(f"{shapes} do not fit {n} images of {k} classes")
        if self.twins is not None and self.twins.shape != (n,):
            raise ValueError(f"twins have shape {self.twins.shape}, not ({n},)")

    @property
    def predicted(self) -> Ints:
        """`(N,)` most probable class."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """`(N,)` whether that is the true class."""
        return np.asarray(self.predicted == self.targets, np.bool_)

    @property
    def confusion(self) -> Ints:
        """`(K, K)` counts: row the truth, column the prediction."""
        return metrics.confusion_matrix(self.targets, self.predicted, len(self.labels))

    @property
    def scores(self) -> ClassScores:
        """Per-class precision, recall, F1 and support."""
        return metrics.class_scores(self.confusion)

    @property
    def reliability(self) -> metrics.Reliability:
        """Confidence against accuracy in ECE's 15 bins."""
        return metrics.reliability(self.probabilities, self.targets)

    @property
    def coverage(self) -> metrics.CoverageCurve:
        """Accuracy against the share of images that a threshold keeps."""
        return metrics.coverage_curve(self.probabilities, self.targets)

    def to_dict(self) -> dict[str, Any]:
        """The content of `metrics.json`: JSON-safe, `accuracy` to `confusion` first."""
        scores, coverage, n = self.scores, self.coverage, len(self.targets)
        return {
            "accuracy": float(self.correct.mean()),
            "accuracy_ci95": list(metrics.wilson_interval(int(self.correct.sum()), n)),
            **self._without_twins(),
            "macro_f1": scores.macro(scores.f1),
            "log_loss": metrics.log_loss(self.probabilities, self.targets),
            "ece": self.reliability.ece,
            "brier": metrics.brier_score(self.probabilities, self.targets),
            "n": n,
            "labels": list(self.labels),
            "per_class": _per_class(self.labels, scores),
            "macro": _averages(scores, scores.macro),
            "weighted": _averages(scores, scores.weighted),
            "confusion": self.confusion.tolist(),
            "uncertain": self._uncertain(),
            "calibration": self._calibration(),
            "coverage_accuracy": [[share, coverage.at_coverage(share)] for share in COVERAGES],
            **self.about,
        }

    def _without_twins(self) -> dict[str, Any]:
        keys = ("accuracy_without_twins", "accuracy_without_twins_ci95", "n_without_twins")
        if self.twins is None or self.twins.all():
            return dict.fromkeys(keys)
        own = self.correct[~self.twins]
        interval = metrics.wilson_interval(int(own.sum()), len(own))
        return dict(zip(keys, (float(own.mean()), list(interval), len(own)), strict=True))

    def _uncertain(self) -> dict[str, Any]:
        coverage, accuracy = self.coverage.at_threshold(self.threshold)
        return {"threshold": self.threshold, "coverage": coverage, "accuracy_of_certain": accuracy}

    def _calibration(self) -> dict[str, Any]:
        """Reliability bins, what they would show of a calibrated model, and what a refitted temperature would give.

        That temperature is a factor on top of the model's own.
        """
        bins = self.reliability
        expected = metrics.if_calibrated(bins)
        table: dict[str, Any] = {
            "if_calibrated": {"ece": expected.ece, "ece_p95": expected.ece_p95},
            "bins": [
                {"low": float(low), "high": float(high), "n": int(count), "confidence": conf, "accuracy": acc}
                for low, high, count, conf, acc in zip(
                    bins.edges[:-1],
                    bins.edges[1:],
                    bins.counts,
                    _nan_to_none(bins.confidence),
                    _nan_to_none(bins.accuracy),
                    strict=True,
                )
            ],
        }
        if len(self.targets) > 1:
            fitted = calibration.cross_fit(calibration.logits_of(self.probabilities), self.targets)
            table["cross_fit"] = {
                "temperature_factors": list(fitted.temperatures),
                "log_loss": fitted.log_loss,
                "ece": fitted.ece,
            }
        return table


def evaluate(
    predict: Predict,
    split: Split,
    *,
    labels: tuple[str, ...],
    tta: Tta = "none",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Evaluation:
    """Run `predict` over the crops of `split`, whose labels are already numbered as `labels`.

    Raises:
        DataError: the split has no images.
        ModelError: the model's output is not one probability a label.
        ValueError: `tta` is no known kind, or the batch size is not positive.
    """
    if not len(split):
        raise DataError("there are no images to evaluate on")
    probabilities = score(with_tta(predict, tta), split.images, batch_size=batch_size, progress=progress)
    if probabilities.shape[1] != len(labels):
        raise ModelError(f"the model gives {probabilities.shape[1]} probabilities for {len(labels)} labels")
    return Evaluation(labels, np.asarray(split.labels, np.int64), probabilities, split.names)


def score(
    predict: Predict, crops: Crops, *, batch_size: int = 256, progress: Progress | None = None
) -> NDArray[np.float32]:
    """`predict` in batches: `(N, K)` float32 probabilities for `(N, H, W)` or `(N, H, W, 3)` crops.

    Raises:
        ModelError: the output is not finite, or its rows do not sum to 1.
        ValueError: the batch size is not positive, or there are no crops.
    """
    if batch_size < 1 or not len(crops):
        raise ValueError(f"cannot score {len(crops)} crops in batches of {batch_size}")
    parts = []
    for start in range(0, len(crops), batch_size):
        batch = np.ascontiguousarray(crops[start : start + batch_size])  # reads a memory-mapped piece
        parts.append(predict(batch))
        if progress is not None:
            progress(len(batch))
    probabilities = np.concatenate(parts).astype(np.float32)
    if not np.isfinite(probabilities).all() or not np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-3):
        raise ModelError("the model's outputs are no probabilities: not finite, or rows that do not sum to 1")
    return probabilities


def renumber(split: Split, have: Sequence[str], want: Sequence[str]) -> Split:
    """`split` with its labels numbered by name as in `want`; classes that only the model knows are no fault.

    Raises:
        DataError: images belong to a class that the model does not know.
    """
    unknown = [label for i, label in enumerate(have) if label not in want and (split.labels == i).any()]
    if unknown:
        raise DataError(
            f"the model does not know the class {', '.join(unknown)}: its labels are {', '.join(want)}; "
            "rename the folders, leave the class out, or train on it with `mien train --from`"
        )
    numbers = np.array([want.index(label) if label in want else -1 for label in have], np.int64)
    return Split(split.images, numbers[split.labels], split.names, split.votes, split.sources)


def judged(split: Split, have: Sequence[str], want: Sequence[str]) -> Split:
    """`split` with the labels that a model which knows `want` is measured against: those of the data, as `renumber`.

    A model of FER+'s eight classes learned what most taggers say, and is measured against that where the votes are
    there: faces without a majority emotion are left out, as in its training.

    Raises:
        DataError: images belong to a class that the model does not know.
    """
    if tuple(have) != FER7 or tuple(want) != FERPLUS8 or split.votes is None or not split.votes.any():
        return renumber(split, have, want)
    voted = split.take(voted_faces(split))
    return replace(voted, labels=vote_shares(voted).argmax(1).astype(np.int64))


def require_same_classes(models: Sequence[Sequence[str]], *, cure: str) -> None:
    """Refuse to put models side by side that know other classes than each other, in whatever order.

    Raises:
        DataError: they do; the sentence ends with `cure`.
    """
    if len({frozenset(labels) for labels in models}) > 1:
        known = " and ".join(", ".join(labels) for labels in models)
        raise DataError(f"models of different classes do not compare: {known}; {cure}")


def find_twins(images: Crops, training: Crops) -> NDArray[np.bool_]:
    """`(N,)`: which of `images` are pixel-identical to one of `training`."""
    seen = {pixel_digest(image) for image in training}
    return np.array([pixel_digest(image) in seen for image in images], np.bool_)


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write `metrics.json` and `predictions.csv` (name, true and predicted label, a probability a label)."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(evaluation.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["name", "label", "predicted", *evaluation.labels])
    rows = zip(evaluation.names, evaluation.targets, evaluation.predicted, evaluation.probabilities, strict=True)
    for name, target, predicted, probabilities in rows:
        numbers = (f"{p:.6f}" for p in probabilities)
        writer.writerow([name, evaluation.labels[target], evaluation.labels[predicted], *numbers])
    (folder / "predictions.csv").write_text(table.getvalue(), encoding="utf-8")


def _per_class(labels: Sequence[str], scores: ClassScores) -> dict[str, dict[str, float | int]]:
    rows = zip(labels, scores.precision, scores.recall, scores.f1, scores.support, strict=True)
    return {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for label, p, r, f, n in rows
    }


def _averages(scores: ClassScores, mean: Callable[[metrics.Floats], float]) -> dict[str, float]:
    return {"precision": mean(scores.precision), "recall": mean(scores.recall), "f1": mean(scores.f1)}


def _nan_to_none(values: metrics.Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
