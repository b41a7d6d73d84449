"""What int8 may cost: the recorded figures of the packaged network in both precisions, on the same faces."""

import json
from pathlib import Path
from typing import Any

from mien import hub

MEASURED = Path(__file__).parents[2] / "results" / "evaluation"
FACES = 3_589  # of PublicTest


def measured(name: str) -> dict[str, Any]:
    """What `mien evaluate NAME --output results/evaluation/NAME` wrote, of the very file that is packaged."""
    found: dict[str, Any] = json.loads((MEASURED / name / "metrics.json").read_text(encoding="utf-8"))
    assert found["model"]["sha256"] == hub.sha256_of(hub.resolve(name)), f"{name} was measured as another file"
    return found


def test_int8_costs_no_accuracy_and_no_calibration() -> None:
    """Less than 0.3 points of accuracy; ECE within 0.3 points, less than sampling alone moves it by."""
    int8, fp32 = measured("default"), measured("default-fp16")
    assert int8["n"] == fp32["n"] == FACES
    assert fp32["accuracy"] - int8["accuracy"] < 0.003
    for ece in (lambda of: of["ece"], lambda of: of["calibration"]["cross_fit"]["ece"]):
        assert abs(ece(int8) - ece(fp32)) < 0.003
