"""Temperature and threshold against SciPy's optimiser, known answers and counting."""

import numpy as np
import pytest
from scipy import optimize, special

from mien.evaluation import calibration
from mien.evaluation.metrics import log_loss


def overconfident(n: int = 4000, *, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right at `temperature`: targets are drawn from softmax(logits / temperature)."""
    generator = np.random.default_rng(seed)
    logits = 3 * generator.normal(size=(n, 7))
    cumulative = special.softmax(logits / temperature, axis=1).cumsum(axis=1)
    targets = (generator.random((n, 1)) > cumulative).sum(axis=1)
    return logits, np.minimum(targets, 6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_fit_finds_the_temperature_and_agrees_with_scipy(temperature: float) -> None:
    logits, targets = overconfident(temperature=temperature)

    right = logits.argmax(axis=1) == targets

    def loss(t: float) -> float:
        confidence = special.softmax(logits / t, axis=1).max(axis=1)
        return float(-np.log(np.where(right, confidence, 1 - confidence)).mean())

    found = calibration.fit_temperature(logits, targets)
    assert found == pytest.approx(temperature, rel=0.1)
    assert found == pytest.approx(optimize.minimize_scalar(loss, bounds=(0.2, 20), method="bounded").x, rel=1e-3)


def test_a_very_sure_mistake_weighs_what_it_says() -> None:
    """Of logits 45 apart, 1 - confidence is lost in confidence: its log is not."""
    logits, targets = overconfident(temperature=1.0)
    logits[0] = 45 * np.eye(7)[3]
    targets[0] = 5

    def loss(t: float) -> float:
        odds = np.sort(logits / t, axis=1)
        odds = special.logsumexp(odds[:, :-1], axis=1) - odds[:, -1]
        right = logits.argmax(axis=1) == targets
        return float(np.where(right, special.log1p(np.exp(odds)), np.log1p(np.exp(-odds))).mean())

    expected = optimize.minimize_scalar(loss, bounds=(0.2, 20), method="bounded").x
    assert calibration.fit_temperature(logits, targets) == pytest.approx(expected, rel=1e-3)


def test_fit_stays_in_its_range_when_nothing_is_wrong() -> None:
    assert calibration.fit_temperature(np.eye(7), np.arange(7)) == pytest.approx(0.05, rel=1e-3)


def test_cross_fit_scores_each_half_with_the_others_temperature() -> None:
    logits, targets = overconfident(n=3000, temperature=2.0)
    fitted = calibration.cross_fit(logits, targets)
    assert fitted.temperatures == pytest.approx((2.0, 2.0), rel=0.1)
    assert fitted.temperatures[0] != fitted.temperatures[1]
    everything = calibration.fit_temperature(logits, targets)
    raw, best = (log_loss(special.softmax(logits / t, axis=1), targets) for t in (1.0, everything))
    assert best < fitted.log_loss < raw  # honest: a little worse than fitted on all, much better than nothing
    assert fitted.ece < 0.03
    assert fitted == calibration.cross_fit(logits, targets)


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.7, 0.8, 1.0])
def test_threshold_keeps_the_stated_share(coverage: float) -> None:
    confidence = np.random.default_rng(1).permutation(np.linspace(0.2, 0.9, 10))
    threshold = calibration.choose_threshold(confidence, coverage=coverage)
    assert (confidence >= threshold).mean() == pytest.approx(coverage)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: calibration.fit_temperature(np.empty((0, 7)), np.empty(0, np.int64)), id="no images"),
        pytest.param(lambda: calibration.fit_temperature(np.full((1, 2), np.nan), np.array([0])), id="not finite"),
        pytest.param(lambda: calibration.cross_fit(np.ones((1, 2)), np.array([0])), id="one image has no halves"),
        pytest.param(lambda: calibration.choose_threshold(np.empty(0)), id="threshold of none"),
        pytest.param(lambda: calibration.choose_threshold(np.ones(3), coverage=0), id="coverage 0"),
    ],
)
def test_what_cannot_be_fitted_is_an_error(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"\w"):
        call()
