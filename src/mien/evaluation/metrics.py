"""Figures of merit in NumPy: the base install, without scikit-learn, measures a model too.

A confusion matrix is `(K, K)` int64, rows the truth, columns the prediction. `targets` are `(N,)` int64 class
numbers, `probabilities` `(N, K)` with rows that sum to 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Probabilities = NDArray[np.float32] | NDArray[np.float64]

ECE_BINS = 15  # equal width, as in Guo et al. 2017, "On Calibration of Modern Neural Networks"
Z95 = 1.959963984540054  # 97.5 % point of the standard normal distribution


def confusion_matrix(targets: Ints, predicted: Ints, classes: int) -> Ints:
    """`(classes, classes)` counts: row the truth, column the prediction.

    Raises:
        ValueError: the lengths differ, or a class number is not in 0..classes-1.
    """
    if targets.shape != predicted.shape or targets.ndim != 1:
        raise ValueError(f"targets {targets.shape} and predictions {predicted.shape} are not two lists of one length")
    both = np.concatenate([targets, predicted])
    if both.size and (both.min() < 0 or both.max() >= classes):
        raise ValueError(f"class numbers {both.min()}..{both.max()} are outside 0..{classes - 1}")
    flat = np.bincount(targets * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def accuracy(confusion: Ints) -> float:
    """Share of the images on the diagonal.

    Raises:
        ValueError: there are no images.
    """
    if not (total := confusion.sum()):
        raise ValueError("accuracy of no images is undefined")
    return float(np.trace(confusion) / total)


def wilson_interval(successes: int, n: int, *, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a share, 95 % by default.

    Preferred to the normal interval for its coverage near 0 and 1 (Wilson 1927; Brown, Cai & DasGupta 2001,
    "Interval Estimation for a Binomial Proportion").

    Raises:
        ValueError: not 0 <= successes <= n, or n is 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n} is no share")
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # at the ends the bound is 0 or 1 exactly; rounding must not step over the estimate
    return (min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share))


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single ==
class ClassScores:
    """Per-class figures, each `(K,)`; 0 where a denominator is 0 (scikit-learn's `zero_division=0`)."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints  # images whose true class it is

    def macro(self, values: Floats) -> float:
        """Mean over the classes that the data have: a class without images says nothing about the model."""
        return float(values[self.support > 0].mean())

    def weighted(self, values: Floats) -> float:
        """Mean weighted by support."""
        return float(np.average(values, weights=self.support))


def class_scores(confusion: Ints) -> ClassScores:
    """Precision, recall, F1 and support of each class.

    Raises:
        ValueError: there are no images.
    """
    if not confusion.sum():
        raise ValueError("scores of no images are undefined")
    hits = np.diag(confusion).astype(np.float64)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassScores(
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, support + predicted),
        support=support,
    )


def macro_f1(confusion: Ints) -> float:
    """Mean F1 over the classes that the data have.

    Raises:
        ValueError: there are no images.
    """
    scores = class_scores(confusion)
    return scores.macro(scores.f1)


def log_loss(probabilities: Probabilities, targets: Ints) -> float:
    """Mean negative log-likelihood in nats, probabilities clipped at the float64 epsilon as scikit-learn does.

    Raises:
        ValueError: there are no images, or the shapes do not fit.
    """
    probabilities = _checked(probabilities, targets)
    of_truth = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.clip(of_truth, np.finfo(np.float64).eps, 1.0)).mean())


def brier_score(probabilities: Probabilities, targets: Ints) -> float:
    """Mean squared distance to the one-hot truth, in 0..2 (Brier 1950).

    Raises:
        ValueError: there are no images, or the shapes do not fit.
    """
    probabilities = _checked(probabilities, targets)
    truth = np.eye(probabilities.shape[1])[targets]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Confidence against accuracy in bins of equal width; NaN where a bin is empty."""

    edges: Floats  # (bins + 1,), 0..1; a bin is open on its left
    counts: Ints  # (bins,)
    confidence: Floats  # (bins,), mean largest probability
    accuracy: Floats  # (bins,)

    @property
    def ece(self) -> float:
        """Expected calibration error: mean gap between confidence and accuracy, weighted by count (0..1)."""
        return float(_ece(self.accuracy, self))


def reliability(probabilities: Probabilities, targets: Ints, *, bins: int = ECE_BINS) -> Reliability:
    """Bin the images by the probability of their predicted class.

    Raises:
        ValueError: there are no images, or the shapes do not fit.
    """
    probabilities = _checked(probabilities, targets)
    confidence = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0/0 marks the empty bins
        means = [np.bincount(index, values, bins) / counts for values in (confidence, correct)]
    return Reliability(edges, counts.astype(np.int64), *means)


@dataclass(frozen=True, slots=True, eq=False)
class IfCalibrated:
    """What these confidences would show on so many images if every one of them were exactly right."""

    ece: float  # mean expected calibration error, 0..1: above 0, since each bin has few images
    ece_p95: float  # 95 in 100 such models stay under it
    low: Floats  # (bins,), 95 in 100 of a bin's accuracies lie between; NaN where it is empty
    high: Floats  # (bins,)


def if_calibrated(bins: Reliability, *, draws: int = 2000, seed: int = 0) -> IfCalibrated:
    """Draw the right answers of each bin from its mean confidence, and measure as if they were a model's.

    Consistency resampling: Bröcker & Smith 2007, "Increasing the Reliability of Reliability Diagrams".
    """
    filled = bins.counts > 0
    drawn = np.full((draws, len(bins.counts)), np.nan)
    right = np.random.default_rng(seed).binomial(
        bins.counts[filled], bins.confidence[filled].clip(0, 1), (draws, filled.sum())
    )
    drawn[:, filled] = right / bins.counts[filled]
    low, high = np.full((2, len(bins.counts)), np.nan)
    low[filled], high[filled] = np.percentile(drawn[:, filled], (2.5, 97.5), axis=0)
    eces = _ece(drawn, bins)
    return IfCalibrated(float(eces.mean()), float(np.percentile(eces, 95)), low, high)


@dataclass(frozen=True, slots=True, eq=False)
class CoverageCurve:
    """Accuracy of the images that stay when those under a confidence threshold are set aside."""

    threshold: Floats  # (P,), falling: the distinct confidences
    coverage: Floats  # (P,), rising to 1: share of the images at or over the threshold
    accuracy: Floats  # (P,), of those images

    def at_threshold(self, threshold: float) -> tuple[float, float | None]:
        """Coverage and accuracy of the images with confidence >= `threshold`; no accuracy where none is left."""
        kept = int((self.threshold >= threshold).sum())
        return (float(self.coverage[kept - 1]), float(self.accuracy[kept - 1])) if kept else (0.0, None)

    def at_coverage(self, coverage: float) -> float:
        """Accuracy at the smallest coverage that is at least `coverage` (0..1)."""
        return float(self.accuracy[min(int(np.searchsorted(self.coverage, coverage - 1e-12)), len(self.coverage) - 1)])


def coverage_curve(probabilities: Probabilities, targets: Ints) -> CoverageCurve:
    """Accuracy against coverage, the most confident images first (Geifman & El-Yaniv 2017, "Selective
    Classification for Deep Neural Networks"); images of equal confidence enter together.

    Raises:
        ValueError: there are no images, or the shapes do not fit.
    """
    probabilities = _checked(probabilities, targets)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == targets
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    last = np.append(falling[1:] != falling[:-1], True)  # last of each group of equals
    kept = np.arange(1, len(targets) + 1)
    share = np.cumsum(correct[order]) / kept
    return CoverageCurve(falling[last], (kept / len(targets))[last], share[last])


@dataclass(frozen=True, slots=True)
class McNemar:
    """Two models on the same images: who is right where the other is wrong."""

    only_first: int
    only_second: int
    p_value: float  # two-sided, exact


def mcnemar(first_correct: NDArray[np.bool_], second_correct: NDArray[np.bool_]) -> McNemar:
    """Exact McNemar test: under the null hypothesis the discordant images split like coin tosses.

    Computed in whole numbers, so it stays exact for thousands of images (McNemar 1947; Dietterich 1998).

    Raises:
        ValueError: the lengths differ.
    """
    if first_correct.shape != second_correct.shape:
        raise ValueError(f"{first_correct.shape} and {second_correct.shape} are not the same images")
    first = int((first_correct & ~second_correct).sum())
    second = int((second_correct & ~first_correct).sum())
    n, fewer = first + second, min(first, second)
    term = tail = 1  # C(n, 0)
    for i in range(fewer):
        term = term * (n - i) // (i + 1)  # C(n, i + 1), always whole
        tail += term
    return McNemar(first, second, min(1.0, 2 * tail / 2**n))


def bootstrap_interval(
    statistic: Callable[[Ints], float], n: int, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13) of any statistic of `n` images.

    `statistic` maps `(n,)` image numbers, drawn with replacement, to a number; for a difference between two
    models it computes both on the same images, which makes the interval a paired one.

    Raises:
        ValueError: n is 0, or level is not between 0 and 1.
    """
    if n < 1 or not 0 < level < 1:
        raise ValueError(f"cannot resample {n} images for a level of {level}")
    generator = np.random.default_rng(seed)
    values = [statistic(generator.integers(0, n, n)) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ece(accuracy: Floats, bins: Reliability) -> Floats:
    """`(...)` from the bins' accuracies `(..., bins)`."""
    gaps = np.nan_to_num(np.abs(bins.confidence - accuracy))
    return np.asarray((gaps * bins.counts).sum(axis=-1) / bins.counts.sum())


def _ratio(over: Floats, under: Ints) -> Floats:
    return np.divide(over, under, out=np.zeros(len(over)), where=under > 0)


def _checked(probabilities: Probabilities, targets: Ints) -> Floats:
    if probabilities.ndim != 2 or targets.shape != probabilities.shape[:1] or not len(targets):
        raise ValueError(f"probabilities {probabilities.shape} and targets {targets.shape} do not fit, or are empty")
    return probabilities.astype(np.float64)
