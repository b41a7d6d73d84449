"""Two models on the drawn faces whose answers are drawn too, and how one of them was trained."""

import numpy as np
import pytest

from mien.datasets.packed import Split
from mien.evaluation.evaluate import Evaluation
from mien.evaluation.report import History, Subject
from mien.labels import FER7


def answers(split: Split, *, skill: float, seed: int, threshold: float = 0.0) -> Evaluation:
    """Probabilities that lean towards the truth by `skill`."""
    generator = np.random.default_rng(seed)
    powers = np.exp(generator.normal(size=(len(split), 7)) + skill * np.eye(7)[split.labels])
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    about = {"model": {"name": "drawn"}, "data": {"source": "drawn", "split": "validation"}}
    return Evaluation(FER7, split.labels, probabilities, split.names, threshold, about=about)


@pytest.fixture(scope="session")
def history() -> History:
    """Six epochs; validation is best at the fourth, and its loss lowest at the third."""
    accuracy, loss = (0.3, 0.4, 0.5, 0.6, 0.58, 0.59), (1.8, 1.5, 1.3, 1.35, 1.4, 1.5)
    rows = [
        {
            "epoch": i + 1, "train_loss": 1.9 - 0.25 * i, "train_accuracy": 0.25 + 0.11 * i, "validation_loss": loss[i],
            "validation_accuracy": accuracy[i], "lr": 0.001,
        }
        for i in range(6)
    ]  # fmt: skip
    return History(tuple(rows), measured_epoch=6)


@pytest.fixture(scope="session")
def subjects(cartoon_faces: Split, history: History) -> tuple[Subject, Subject]:
    """`weak`, a run with a history, and `strong/net`, calibrated, without."""
    weak = Subject("weak", answers(cartoon_faces, skill=1.0, seed=0), history=history)
    strong = answers(cartoon_faces, skill=2.5, seed=1, threshold=0.4)
    return weak, Subject("strong/net", strong, temperature=1.6, no_history="it came as a file")
