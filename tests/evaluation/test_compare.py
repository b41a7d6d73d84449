"""ROC, precision-recall and differences between models, against scikit-learn and sums made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from mien.datasets.packed import Split
from mien.errors import DataError
from mien.evaluation import compare
from mien.evaluation.evaluate import Evaluation
from mien.evaluation.ranking import rank
from mien.evaluation.report import Subject
from mien.labels import FER7


@pytest.mark.parametrize("levels", [1000, 4, 1], ids=["distinct", "many ties", "all equal"])
def test_ranking_agrees_with_scikit_learn(levels: int) -> None:
    generator = np.random.default_rng(levels)
    belongs = generator.random(300) < 0.3
    scores = np.floor((generator.random(300) + 0.4 * belongs) * levels) / levels
    found = rank(scores, belongs)
    assert found is not None
    assert found.roc_auc == pytest.approx(sk.roc_auc_score(belongs, scores))
    assert found.average_precision == pytest.approx(sk.average_precision_score(belongs, scores))
    rates, recalls, _ = sk.roc_curve(belongs, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, rates[1:])
    np.testing.assert_allclose(found.recall, recalls[1:])
    assert found.precision[-1] == pytest.approx(found.prevalence)


def test_thinned_curves_keep_their_ends() -> None:
    generator = np.random.default_rng(0)
    found = rank(generator.random(5000), generator.random(5000) < 0.2)
    assert found is not None
    few = found.thinned(100)
    assert 100 <= len(few.threshold) <= 120
    assert (few.recall[0], few.recall[-1]) == (found.recall[0], 1)
    assert few.roc_auc == pytest.approx(found.roc_auc, abs=1e-3)


def test_a_class_that_is_not_there_or_alone_has_no_curve() -> None:
    assert rank(np.array([0.1, 0.2]), np.zeros(2, np.bool_)) is None
    assert rank(np.array([0.1, 0.2]), np.ones(2, np.bool_)) is None
    with pytest.raises(ValueError, match="do not fit"):
        rank(np.array([0.1, 0.2]), np.ones(3, np.bool_))


def test_differences_are_of_the_second_model_less_the_first(subjects: tuple[Subject, Subject]) -> None:
    weak, strong = (one.evaluation for one in subjects)
    (found,) = compare.differences([("weak", weak), ("strong", strong)])
    assert found.accuracy.value == pytest.approx(strong.correct.mean() - weak.correct.mean())
    f1 = [sk.f1_score(one.targets, one.predicted, average="macro") for one in (weak, strong)]
    assert found.macro_f1.value == pytest.approx(f1[1] - f1[0])
    losses = [sk.log_loss(one.targets, one.probabilities) for one in (weak, strong)]
    assert found.log_loss.value == pytest.approx(losses[1] - losses[0], rel=1e-4)
    for change in (found.accuracy, found.macro_f1, found.log_loss):
        assert change.ci95[0] < change.value < change.ci95[1]
    assert found.accuracy.certain
    assert found.mcnemar.only_second - found.mcnemar.only_first == round(70 * found.accuracy.value)
    assert found.p_holm == found.mcnemar.p_value < 0.01


def test_a_model_does_not_differ_from_itself(subjects: tuple[Subject, Subject]) -> None:
    one = subjects[0].evaluation
    (found,) = compare.differences([("a", one), ("b", one)])
    assert (found.accuracy.value, found.accuracy.ci95, found.accuracy.certain) == (0, (0, 0), False)
    assert found.mcnemar.p_value == 1


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        pytest.param([0.01], [0.01], id="one"),
        pytest.param([0.01, 0.04, 0.03], [0.03, 0.06, 0.06], id="three, never falling"),
        pytest.param([0.5, 0.9], [1.0, 1.0], id="at most 1"),
    ],
)
def test_holm(p_values: list[float], expected: list[float]) -> None:
    assert compare._holm(p_values) == pytest.approx(expected)


def test_confused_pairs_count_both_ways(cartoon_faces: Split) -> None:
    angry, surprise = FER7.index("angry"), FER7.index("surprise")

    def said(*swaps: tuple[int, int, int]) -> Evaluation:
        predicted = cartoon_faces.labels.copy()
        for of, to, n in swaps:
            predicted[np.flatnonzero(cartoon_faces.labels == of)[:n]] = to
        probabilities = np.full((70, 7), 0.05, np.float32)
        probabilities[np.arange(70), predicted] = 0.7
        return Evaluation(FER7, cartoon_faces.labels, probabilities, cartoon_faces.names)

    before = said((angry, surprise, 6), (surprise, angry, 2), (3, 4, 1))
    after = said((angry, surprise, 1))
    first, second = compare.confused_pairs([before, after])
    assert (first.labels, first.named, first.counts) == (("angry", "surprise"), True, ((6, 2), (1, 0)))
    assert first.totals == (8, 1)
    assert first.changes[0].value == -7
    assert first.changes[0].certain
    assert (second.labels, second.named, second.totals) == (("happy", "neutral"), False, (1, 0))
    assert first.to_dict(["a", "b"])["models"]["b"] == {"angry called surprise": 1, "surprise called angry": 0}


def test_other_images_do_not_compare(subjects: tuple[Subject, Subject]) -> None:
    one = subjects[0].evaluation
    other = replace(one, names=tuple(reversed(one.names)))
    with pytest.raises(DataError, match="do not compare"):
        compare.differences([("a", one), ("b", other)])
    with pytest.raises(DataError, match="do not compare"):
        compare.confused_pairs([one, other])
