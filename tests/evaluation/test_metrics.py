"""Figures of merit against scikit-learn, SciPy, slow loops and cases counted by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

from mien.evaluation import metrics


def draw(n: int = 400, classes: int = 7, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities that know the truth a little, and the truth."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, n)
    logits = generator.normal(size=(n, classes)) + 1.5 * np.eye(classes)[targets]
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), targets


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        pytest.param([[5, 0], [0, 5]], 1.0, id="perfect"),
        pytest.param([[5, 0], [5, 0]], 1 / 3, id="one class never predicted"),
        pytest.param([[5, 0], [0, 0]], 1.0, id="absent class does not count"),
        pytest.param([[4, 1], [0, 0]], 8 / 9, id="absent class predicted once"),
    ],
)
def test_macro_f1(confusion: list[list[int]], expected: float) -> None:
    assert metrics.macro_f1(np.array(confusion)) == pytest.approx(expected)


def test_figures_agree_with_scikit_learn() -> None:
    probabilities, targets = draw()
    predicted = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(targets, predicted, 7)
    np.testing.assert_array_equal(confusion, sk.confusion_matrix(targets, predicted))
    assert metrics.accuracy(confusion) == pytest.approx(sk.accuracy_score(targets, predicted))
    assert metrics.log_loss(probabilities, targets) == pytest.approx(sk.log_loss(targets, probabilities))
    scores = metrics.class_scores(confusion)
    columns = sk.precision_recall_fscore_support(targets, predicted)
    for ours, theirs in zip((scores.precision, scores.recall, scores.f1, scores.support), columns, strict=True):
        np.testing.assert_allclose(ours, theirs)
    for average, mean in (("macro", scores.macro), ("weighted", scores.weighted)):
        theirs = sk.precision_recall_fscore_support(targets, predicted, average=average)[:3]
        assert [mean(values) for values in (scores.precision, scores.recall, scores.f1)] == pytest.approx(theirs)


def test_a_class_never_predicted_scores_as_scikit_learn_with_zero_division() -> None:
    targets, predicted = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 1, 0])
    scores = metrics.class_scores(metrics.confusion_matrix(targets, predicted, 3))
    expected = sk.precision_recall_fscore_support(targets, predicted, zero_division=0.0)
    np.testing.assert_allclose(scores.precision, expected[0])
    assert scores.macro(scores.f1) == pytest.approx(sk.f1_score(targets, predicted, average="macro"))


def test_log_loss_of_a_certain_error_is_finite_as_in_scikit_learn() -> None:
    probabilities, targets = np.array([[1.0, 0.0], [0.3, 0.7]]), np.array([1, 1])
    expected = sk.log_loss(targets, probabilities, labels=[0, 1])
    assert metrics.log_loss(probabilities, targets) == pytest.approx(expected)


def test_brier_score_of_two_classes_is_twice_scikit_learns() -> None:
    probabilities, targets = draw(classes=2)
    expected = 2 * sk.brier_score_loss(targets, probabilities[:, 1])
    assert metrics.brier_score(probabilities, targets) == pytest.approx(expected)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (1, 1), (2404, 3589), (3588, 3589)])
def test_wilson_interval_agrees_with_scipy(hits: int, n: int) -> None:
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert metrics.wilson_interval(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_ece_agrees_with_a_slow_loop() -> None:
    probabilities, targets = draw(n=300)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    assert metrics.reliability(probabilities, targets).ece == pytest.approx(expected)


def test_ece_of_a_certain_model_is_its_error_rate() -> None:
    probabilities = np.eye(2)[[0, 0, 1, 1]]
    assert metrics.reliability(probabilities, np.array([0, 1, 1, 1])).ece == pytest.approx(0.25)


def test_if_calibrated_agrees_with_labels_drawn_face_by_face() -> None:
    """The bins' means stand for their faces: drawing each face's answer from its own confidence gives the same."""
    probabilities, targets = draw(n=900)
    bins = metrics.reliability(probabilities, targets)
    confidence, rng = probabilities.max(axis=1), np.random.default_rng(5)
    predicted = probabilities.argmax(axis=1)
    other = (predicted + 1) % probabilities.shape[1]
    slow = np.array(
        [
            metrics.reliability(probabilities, np.where(rng.random(900) < confidence, predicted, other)).ece
            for _ in range(600)
        ]
    )
    found = metrics.if_calibrated(bins)
    assert found.ece == pytest.approx(slow.mean(), abs=0.002)
    assert found.ece_p95 == pytest.approx(np.percentile(slow, 95), abs=0.004)
    assert (np.isnan(found.low) == (bins.counts == 0)).all()


def test_if_calibrated_falls_with_the_number_of_images_and_ignores_what_the_model_gets_wrong() -> None:
    def of(n: int, accuracy: float) -> metrics.IfCalibrated:
        edges = np.linspace(0, 1, 3)
        return metrics.if_calibrated(
            metrics.Reliability(edges, np.array([0, n]), np.array([np.nan, 0.8]), np.array([np.nan, accuracy]))
        )

    few, many, wrong = of(100, 0.8), of(10_000, 0.8), of(100, 0.1)
    # one bin of n: E|X/n - 0.8| of a binomial is about sqrt(2 p (1 - p) / (pi n))
    assert few.ece == pytest.approx(0.0319, abs=0.002)
    assert many.ece == pytest.approx(0.00319, abs=0.0002)
    assert wrong.ece == few.ece
    assert few.low[1] == pytest.approx(0.72, abs=0.011)
    assert few.high[1] == pytest.approx(0.87, abs=0.011)


def test_coverage_curve_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.4, 0.6]])
    curve = metrics.coverage_curve(probabilities, np.array([0, 1, 1, 1]))  # right, wrong, right, right
    np.testing.assert_allclose(curve.threshold, [0.9, 0.8, 0.6])
    np.testing.assert_allclose(curve.coverage, [0.25, 0.75, 1.0])  # the two 0.8 enter together
    np.testing.assert_allclose(curve.accuracy, [1.0, 2 / 3, 0.75])
    assert curve.at_threshold(0.8) == (0.75, pytest.approx(2 / 3))
    assert curve.at_threshold(0.95) == (0.0, None)
    assert curve.at_coverage(0.5) == pytest.approx(2 / 3)
    assert curve.at_coverage(1.0) == pytest.approx(0.75)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (7, 7), (3, 15), (400, 330), (1500, 1600)])
def test_mcnemar_agrees_with_scipys_binomial_test(first: int, second: int) -> None:
    right = np.array([True] * first + [False] * second + [True, False])
    left = np.array([False] * first + [True] * second + [True, False])
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    found = metrics.mcnemar(right, left)
    assert (found.only_first, found.only_second) == (first, second)
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_bootstrap_interval_of_an_accuracy_is_near_wilsons() -> None:
    correct = np.arange(500) < 350
    low, high = metrics.bootstrap_interval(lambda chosen: float(correct[chosen].mean()), 500)
    assert (low, high) == pytest.approx(metrics.wilson_interval(350, 500), abs=0.005)
    assert (low, high) == metrics.bootstrap_interval(lambda chosen: float(correct[chosen].mean()), 500)


def test_paired_bootstrap_of_equal_models_is_no_difference() -> None:
    correct = np.arange(100) % 3 > 0
    interval = metrics.bootstrap_interval(lambda i: float(correct[i].mean() - correct[i].mean()), 100, resamples=50)
    assert interval == (0.0, 0.0)


EMPTY = np.empty((0, 7)), np.empty(0, np.int64)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: metrics.accuracy(np.zeros((2, 2), np.int64)), id="accuracy of none"),
        pytest.param(lambda: metrics.class_scores(np.zeros((2, 2), np.int64)), id="scores of none"),
        pytest.param(lambda: metrics.log_loss(*EMPTY), id="log-loss of none"),
        pytest.param(lambda: metrics.reliability(*EMPTY), id="reliability of none"),
        pytest.param(lambda: metrics.coverage_curve(*EMPTY), id="coverage of none"),
        pytest.param(lambda: metrics.wilson_interval(0, 0), id="share of none"),
        pytest.param(lambda: metrics.wilson_interval(3, 2), id="more hits than trials"),
        pytest.param(lambda: metrics.confusion_matrix(np.array([7]), np.array([0]), 7), id="class out of range"),
        pytest.param(lambda: metrics.confusion_matrix(np.array([1]), np.array([0, 1]), 7), id="lengths differ"),
        pytest.param(lambda: metrics.log_loss(np.ones((2, 7)) / 7, np.array([1])), id="too few targets"),
        pytest.param(lambda: metrics.mcnemar(np.ones(2, bool), np.ones(3, bool)), id="other images"),
        pytest.param(lambda: metrics.bootstrap_interval(lambda _: 0.0, 0), id="resampling none"),
    ],
)
def test_what_is_undefined_is_an_error(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"\w"):
        call()
