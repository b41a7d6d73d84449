"""How a training run went, epoch by epoch, read from its folder without torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import ModelError
from mien.evaluation.metrics import Floats

KEYS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


@dataclass(frozen=True, slots=True)
class History:
    """One row a finished epoch, each with `KEYS`; accuracies are in 0..1, losses in nats.

    Training figures are those of the augmented faces as they went by, under the loss of the recipe.
    """

    rows: tuple[Mapping[str, float], ...]
    measured_epoch: int  # whose weights the run stands for

    def __post_init__(self) -> None:
        if not self.rows or any(key not in row for row in self.rows for key in KEYS):
            raise ValueError(f"a history has at least one epoch, and of each {', '.join(KEYS)}")

    def column(self, key: str) -> Floats:
        """`(E,)` values of one of `KEYS`."""
        return np.array([row[key] for row in self.rows], np.float64)

    @property
    def best_epoch(self) -> int:
        """The epoch of the highest validation accuracy, the first of equals."""
        return int(self.column("epoch")[self.column("validation_accuracy").argmax()])

    @property
    def gap(self) -> Floats:
        """`(E,)` training accuracy less validation accuracy: what grows when a network learns its images by heart."""
        return self.column("train_accuracy") - self.column("validation_accuracy")

    @property
    def loss_rise(self) -> float:
        """Validation loss at the end less its lowest: what grows when a network becomes too sure (nats)."""
        loss = self.column("validation_loss")
        return float(loss[-1] - loss.min())

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form."""
        best = self.rows[int(self.column("validation_accuracy").argmax())]
        return {
            "epochs": len(self.rows),
            "measured_epoch": self.measured_epoch,
            "best_epoch": self.best_epoch,
            "best_validation_accuracy": best["validation_accuracy"],
            "gap_at_best_epoch": best["train_accuracy"] - best["validation_accuracy"],
            "gap_at_last_epoch": float(self.gap[-1]),
            "validation_loss_rise": self.loss_rise,
            "rows": [dict(row) for row in self.rows],
        }


def history_of(rows: Sequence[Mapping[str, float]], *, keep: str) -> History | None:
    """The history in `rows`; None where no epoch has finished. `keep` is the recipe's: last or best."""
    if not rows:
        return None
    ended = History(tuple(rows), int(rows[-1]["epoch"]))
    return History(ended.rows, ended.best_epoch) if keep == "best" else ended


def read_history(run: Path) -> History | None:
    """The history of a run folder; None where no epoch has finished.

    Raises:
        ModelError: the folder is no run, or its files are damaged.
    """
    try:
        keep = json.loads((run / "recipe.json").read_text(encoding="utf-8"))["recipe"]["keep"]
        path = run / "history.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return history_of([json.loads(line) for line in lines], keep=keep)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{run} has no readable recipe.json and history.jsonl ({error}): name a run folder") from error
