"""A model in a report: its answers, the same before and after calibration, and how it was trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError
from mien.evaluation import calibration, metrics
from mien.evaluation.evaluate import Evaluation, require_same_classes
from mien.evaluation.metrics import Floats, Reliability
from mien.evaluation.ranking import Ranking, rank
from mien.evaluation.report.history import History


@dataclass(frozen=True, eq=False)  # arrays have no single ==; no slots: what is asked for twice is kept
class Subject:
    """One model of a report."""

    name: str  # as figures and tables call it
    evaluation: Evaluation  # its answers, with the temperature that it carries
    temperature: float = 1.0  # that temperature; 1 is none
    history: History | None = None
    no_history: str = ""  # why there is none, as a sentence

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}, not positive")
        if len(self.evaluation.targets) < 2:
            raise DataError("a report needs at least two images")

    @cached_property
    def logits(self) -> Floats:
        """`(N, K)` logits as trained, up to a constant a row: the temperature taken back."""
        return self.temperature * calibration.logits_of(self.evaluation.probabilities)

    @cached_property
    def as_trained(self) -> Floats:
        """`(N, K)` probabilities at temperature 1."""
        grown = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return np.asarray(grown / grown.sum(axis=1, keepdims=True), np.float64)

    @cached_property
    def cross_fitted(self) -> tuple[tuple[float, float], NDArray[np.float32]]:
        """Two temperatures, each fitted on one half of these images, and probabilities with the other half's."""
        return calibration.cross_fitted(self.logits, self.evaluation.targets)

    @property
    def calibrated(self) -> bool:
        """Whether the model carries a temperature of its own."""
        return self.temperature != 1.0

    @cached_property
    def before(self) -> Reliability:
        """Reliability as trained."""
        return metrics.reliability(self.as_trained, self.evaluation.targets)

    @cached_property
    def after(self) -> Reliability:
        """Reliability with the temperature that the model carries; cross-fitted where it carries none."""
        return self.evaluation.reliability if self.calibrated else self.after_cross_fit

    @cached_property
    def after_cross_fit(self) -> Reliability:
        """Reliability of each image with the temperature of the half that it is not in."""
        return metrics.reliability(self.cross_fitted[1], self.evaluation.targets)

    @cached_property
    def rankings(self) -> dict[str, Ranking | None]:
        """ROC and precision-recall by label; None where the images have no such class, or no other."""
        found = self.evaluation
        return {label: rank(found.probabilities[:, k], found.targets == k) for k, label in enumerate(found.labels)}

    @property
    def threshold(self) -> float:
        """Under it answers are `uncertain`: the model's own, else the one that leaves `DEFAULT_COVERAGE` certain."""
        confidence = self.evaluation.probabilities.max(axis=1).astype(np.float64)
        return self.evaluation.threshold or calibration.choose_threshold(confidence)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form: `metrics.json`, and what only the report has."""
        temperatures, probabilities = self.cross_fitted
        targets = self.evaluation.targets
        stages: dict[str, Any] = {
            "as_trained": {"ece": self.before.ece, "log_loss": metrics.log_loss(self.as_trained, targets)},
            "as_it_answers": {
                "temperature": self.temperature,
                "ece": self.evaluation.reliability.ece,
                "log_loss": metrics.log_loss(self.evaluation.probabilities, targets),
            },
            "cross_fitted": {
                "temperatures": list(temperatures),
                "ece": self.after_cross_fit.ece,
                "log_loss": metrics.log_loss(probabilities, targets),
            },
        }
        ranking = {
            label: None if one is None else {"roc_auc": one.roc_auc, "average_precision": one.average_precision}
            for label, one in self.rankings.items()
        }
        history = None if self.history is None else self.history.to_dict()
        own = {"name": self.name, "calibration_stages": stages, "ranking": ranking, "history": history}
        return {**own, "metrics": self.evaluation.to_dict()}


def in_order_of(evaluation: Evaluation, labels: Sequence[str]) -> Evaluation:
    """`evaluation` with its classes in the order of `labels`.

    Raises:
        DataError: its classes are others.
    """
    require_same_classes([labels, evaluation.labels], cure="report them apart")
    order = np.array([evaluation.labels.index(label) for label in labels], np.int64)
    back = np.argsort(order)
    return Evaluation(
        tuple(labels),
        back[evaluation.targets],
        evaluation.probabilities[:, order],
        evaluation.names,
        evaluation.threshold,
        evaluation.twins,
        evaluation.about,
    )
