"""How far accuracy and calibration fall when faces are blurred, dark, turned, small or covered.

Models are measured side by side on the same corrupted crops. One number sums a model up, the mean corruption error of
Hendrycks & Dietterich 2019: its errors over the five strengths of a corruption, as a share of a reference model's,
averaged over the corruptions. Under 100 % the model errs less than the reference.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.bundle import FER2013_LANDMARKS
from mien.datasets.packed import Split
from mien.errors import DataError, ModelError
from mien.evaluation import metrics
from mien.evaluation.corruptions import CORRUPTIONS, STRENGTHS, Landmarks, corrupt
from mien.evaluation.evaluate import Progress, renumber, require_same_classes, score
from mien.evaluation.metrics import Floats, Ints
from mien.evaluation.tta import Predict

PASSES = len(CORRUPTIONS) * STRENGTHS + 1  # over the faces, for one model
RESAMPLES, BLOCK = 2000, 100  # of the bootstrap; so many of them at a time, which bounds memory


@dataclass(frozen=True, slots=True)
class Contender:
    """A model to measure."""

    name: str
    labels: tuple[str, ...]
    predict: Predict  # crops to calibrated probabilities, in the order of `labels`
    about: Mapping[str, Any] = field(default_factory=dict)  # file, hash, calibration


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single ==
class Measured:
    """One model on N faces under C corruptions, in the order of `CORRUPTIONS`, at S = 5 strengths."""

    name: str
    clean: NDArray[np.bool_]  # (N,), right on the crops as they are
    correct: NDArray[np.bool_]  # (C, S, N)
    clean_ece: float  # 0..1
    ece: Floats  # (C, S)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        grid = (len(CORRUPTIONS), STRENGTHS)
        if self.correct.shape != (*grid, len(self.clean)) or self.ece.shape != grid or not len(self.clean):
            raise ValueError(f"answers {self.correct.shape} and ECEs {self.ece.shape} are not {grid} of each face")

    @property
    def accuracy(self) -> Floats:
        """`(C, S)` shares of the faces, 0..1."""
        return np.asarray(self.correct.mean(axis=2), np.float64)

    @property
    def errors(self) -> Ints:
        """`(C, N)`: wrong answers about each face over the strengths, 0..5."""
        return np.asarray((~self.correct).sum(axis=1), np.int64)

    @property
    def added_errors(self) -> Ints:
        """`(C,)`: wrong answers over all faces and strengths beyond those on the crops as they are."""
        return np.asarray(self.errors.sum(axis=1) - STRENGTHS * (~self.clean).sum(), np.int64)


@dataclass(frozen=True, slots=True)
class CorruptionError:
    """A model's errors as a share of a reference model's; 1 is as bad as the reference."""

    by_corruption: Mapping[str, float]
    mean: float  # the mean corruption error, mCE
    mean_ci95: tuple[float, float]  # bootstrap over the faces, the same for both models
    relative: float | None  # mean share of the errors that corruptions add; None where one adds none to the reference


@dataclass(frozen=True, slots=True, eq=False)
class Robustness:
    """Models on the same corrupted faces; the second is the reference of the mean corruption error."""

    models: tuple[Measured, ...]
    about: Mapping[str, Any] = field(default_factory=dict)  # data, seed, version

    @property
    def n(self) -> int:
        """Number of faces."""
        return len(self.models[0].clean)

    @property
    def reference(self) -> Measured | None:
        """What the errors are divided by; None where one model stands alone."""
        return self.models[1] if len(self.models) > 1 else None

    @property
    def faultless(self) -> tuple[str, ...]:
        """Corruptions under which the reference makes no error, so that nothing can be divided by its errors."""
        if self.reference is None:
            return ()
        errors = self.reference.errors.sum(axis=1).tolist()
        return tuple(name for name, count in zip(CORRUPTIONS, errors, strict=True) if not count)

    def error_of(self, model: Measured) -> CorruptionError | None:
        """The errors of `model` beside those of the reference; None without one that errs under every corruption."""
        return None if self.reference is None or self.faultless else corruption_error(model, self.reference)

    def to_dict(self) -> dict[str, Any]:
        """The content of `robustness.json`: JSON-safe."""
        kinds = {kind.name: {"unit": kind.unit, "levels": list(kind.levels)} for kind in CORRUPTIONS.values()}
        return {
            "n": self.n,
            "reference": None if self.reference is None else self.reference.name,
            "models": [_to_dict(model, self.error_of(model)) for model in self.models],
            "corruptions": kinds,
            **self.about,
        }


def measure(
    contenders: Sequence[Contender],
    split: Split,
    labels: Sequence[str],
    *,
    seed: int = 0,
    landmarks: Landmarks = FER2013_LANDMARKS,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Robustness:
    """Every model on every corruption of the crops of `split`, whose labels are numbered as `labels`.

    `landmarks` say where eyes and mouth lie in the crops. `progress` hears of each batch that a model has answered:
    of `PASSES` times the faces for every model.

    Raises:
        DataError: there are no images, they are of a class that a model does not know, or the models' classes differ.
        ModelError: a model's output is not one probability a label.
        ValueError: there is no model, or the batch size is not positive.
    """
    if not contenders or batch_size < 1:
        raise ValueError(f"cannot measure {len(contenders)} models in batches of {batch_size}")
    if not len(split):
        raise DataError("there are no images to evaluate on")
    require_same_classes([one.labels for one in contenders], cure="measure them apart")
    truths = [renumber(split, labels, one.labels).labels for one in contenders]
    grid = (len(contenders), len(CORRUPTIONS), STRENGTHS)
    correct, ece = np.empty((*grid, len(split)), np.bool_), np.empty(grid)
    crops = np.asarray(split.images)
    clean = list(_answers(contenders, truths, crops, batch_size=batch_size, progress=progress))
    for c, name in enumerate(CORRUPTIONS):
        for s in range(STRENGTHS):
            damaged = corrupt(crops, name, s + 1, seed=seed, landmarks=landmarks)
            answers = _answers(contenders, truths, damaged, batch_size=batch_size, progress=progress)
            for m, (right, gap) in enumerate(answers):
                correct[m, c, s], ece[m, c, s] = right, gap
    measured = tuple(
        Measured(one.name, clean[m][0], correct[m], clean[m][1], ece[m], one.about) for m, one in enumerate(contenders)
    )
    return Robustness(measured, {"seed": seed})


def corruption_error(model: Measured, reference: Measured) -> CorruptionError:
    """Errors of `model` over the strengths of each corruption, divided by those of `reference`.

    Raises:
        ValueError: they were not measured on equally many faces, or the reference makes no error.
    """
    if model.correct.shape != reference.correct.shape:
        raise ValueError(f"{len(model.clean)} and {len(reference.clean)} faces are not the same")
    ours, theirs = model.errors, reference.errors
    if not theirs.sum(axis=1).all():
        raise ValueError(f"{reference.name} makes no error under some corruption: it is no reference")
    shares = ours.sum(axis=1) / theirs.sum(axis=1)
    added = reference.added_errors
    return CorruptionError(
        by_corruption=dict(zip(CORRUPTIONS, shares.tolist(), strict=True)),
        mean=float(shares.mean()),
        mean_ci95=_interval(ours, theirs),
        relative=float((model.added_errors / added).mean()) if (added > 0).all() else None,
    )


def subset(split: Split, limit: int, *, seed: int = 0) -> Split:
    """At most `limit` faces, drawn at random and kept in their order."""
    if limit >= len(split):
        return split
    chosen = np.random.default_rng(seed).permutation(len(split))[:limit]
    return split.take(np.sort(chosen).astype(np.int64))


def _answers(
    contenders: Sequence[Contender],
    truths: Sequence[Ints],
    crops: NDArray[np.uint8],
    *,
    batch_size: int,
    progress: Progress | None,
) -> Iterator[tuple[NDArray[np.bool_], float]]:
    """For each model: which answers are right `(N,)`, and their expected calibration error."""
    for one, truth in zip(contenders, truths, strict=True):
        probabilities = score(one.predict, crops, batch_size=batch_size, progress=progress)
        if probabilities.shape[1] != len(one.labels):
            raise ModelError(f"{one.name} gives {probabilities.shape[1]} probabilities for {len(one.labels)} labels")
        yield probabilities.argmax(axis=1) == truth, metrics.reliability(probabilities, truth).ece


def _interval(ours: Ints, theirs: Ints, *, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean corruption error; errors are `(C, N)`, and each draw takes whole faces."""
    n, generator = ours.shape[1], np.random.default_rng(seed)
    means = []
    for _ in range(0, RESAMPLES, BLOCK):
        times = generator.multinomial(n, np.full(n, 1 / n), BLOCK)  # how often each draw took each face
        under = times @ theirs.T
        shares = np.divide(times @ ours.T, under, out=np.ones(under.shape), where=under > 0)
        means.append(shares.mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def _to_dict(model: Measured, error: CorruptionError | None) -> dict[str, Any]:
    n, right = len(model.clean), int(model.clean.sum())
    table: dict[str, Any] = {
        **model.about,
        "name": model.name,
        "clean": {
            "accuracy": right / n,
            "accuracy_ci95": list(metrics.wilson_interval(right, n)),
            "ece": model.clean_ece,
        },
        "mean_accuracy": float(model.accuracy.mean()),
        "mean_ece": float(model.ece.mean()),
        "corruptions": {
            name: {"accuracy": model.accuracy[c].tolist(), "ece": model.ece[c].tolist()}
            for c, name in enumerate(CORRUPTIONS)
        },
        "mean_corruption_error": None if error is None else error.mean,
    }
    if error is not None:
        table["mean_corruption_error_ci95"] = list(error.mean_ci95)
        table["relative_mean_corruption_error"] = error.relative
        table["corruption_error"] = dict(error.by_corruption)
    return table
