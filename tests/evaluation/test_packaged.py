"""What int8 may cost: the recorded figures of the packaged network in both precisions, on the same faces."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import hub
from mien.datasets import packed
from mien.evaluation import metrics
from mien.runtime.predictor import Predictor

MEASURED = Path(__file__).parents[2] / "results" / "evaluation"
FACES = 3_589  # of PublicTest


def measured(name: str) -> dict[str, Any]:
    """What `mien evaluate NAME --output results/evaluation/NAME` wrote, of the very file that is packaged."""
    found: dict[str, Any] = json.loads((MEASURED / name / "metrics.json").read_text(encoding="utf-8"))
    assert found["model"]["sha256"] == hub.sha256_of(hub.resolve(name)), f"{name} was measured as another file"
    return found


def test_int8_costs_no_accuracy_and_no_calibration() -> None:
    """Less than 0.3 points of accuracy and of ECE, and 0.003 of log-loss; less ECE it may have by chance, see below."""
    int8, fp32 = measured("default"), measured("default-fp16")
    assert int8["n"] == fp32["n"] == FACES
    assert fp32["accuracy"] - int8["accuracy"] < 0.003
    for ece in (lambda of: of["ece"], lambda of: of["calibration"]["cross_fit"]["ece"]):
        assert ece(int8) - ece(fp32) < 0.003
    for log_loss in (lambda of: of["log_loss"], lambda of: of["calibration"]["cross_fit"]["log_loss"]):
        assert abs(log_loss(int8) - log_loss(fp32)) < 0.003


def test_int8_leaves_ece_as_it_was(fer2013_packed: Path) -> None:
    """The same answers within half a point; what ECE differs by is what drawing other faces would move it by.

    ECE counts faces in 15 bins, so that two models whose probabilities hardly differ are up to a point apart by chance.
    """
    faces = packed.load(fer2013_packed, only=("validation",)).split("validation")
    int8, fp32 = (_probabilities(name, faces) for name in ("default", "default-fp16"))
    assert np.abs(int8 - fp32).mean() < 0.005
    assert (int8.argmax(1) == fp32.argmax(1)).mean() > 0.98
    generator, n = np.random.default_rng(0), len(faces)
    draws = [generator.integers(0, n, n) for _ in range(500)]
    int8_ece, fp32_ece = (
        np.array([metrics.reliability(found[draw], faces.labels[draw]).ece for draw in draws]) for found in (int8, fp32)
    )
    low, high = np.percentile(int8_ece - fp32_ece, [2.5, 97.5])
    assert low < 0 < high
    assert high - low < 0.025  # else it would show nothing


def _probabilities(name: str, faces: packed.Split) -> NDArray[np.float32]:
    predictor = Predictor(hub.resolve(name))
    parts = [predictor.predict(faces.images[start : start + 256]) for start in range(0, len(faces), 256)]
    return np.concatenate(parts)
