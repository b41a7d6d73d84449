"""Out-of-fold probabilities by training: each part of the data is judged by a network that never saw it."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from mien.datasets.packed import Dataset, Split
from mien.evaluation.evaluate import score
from mien.evaluation.network import torch_predict
from mien.training import distributed, run, start
from mien.training.engine import Reporter
from mien.training.recipe import override
from mien.training.start import Order

Watch = Callable[[str, int], AbstractContextManager[Reporter]]
"""A title and a number of epochs to what shows the progress of a fold."""


def from_training(
    whole: Split, labels: tuple[str, ...], held_out: NDArray[np.int64], order: Order, *, watch: Watch
) -> NDArray[np.float32]:
    """Probabilities `(N, K)` of each image of `whole` by the ordered recipe, trained on the other folds.

    `held_out` (N,) is the fold of each image. The labels alone are learnt, no FER+ votes, unless the order says so.
    The last epoch judges, since choosing the best one would look at the held-out labels. Each fold is a run in
    `order.output`; runs that are there go on.

    Raises:
        MienError: the recipe is unknown, or training fails.
    """
    recipe = start.resolve_recipe(order)
    if "ferplus" not in order.settings:
        recipe = override(recipe, {"ferplus": "none"}, source="audit")
    probabilities = np.empty((len(whole), len(labels)), np.float32)
    folds, began_s = np.unique(held_out).tolist(), time.perf_counter()
    world = distributed.join(order.device)
    try:
        for number, fold in enumerate(folds):
            rows, rest = np.flatnonzero(held_out == fold), np.flatnonzero(held_out != fold)
            parts = {"train": whole.take(rest), "validation": whole.take(rows)}
            folder = order.output / f"fold-{fold}"
            job = run.Job(recipe, Dataset(labels, parts, {"fold": fold, "of": len(folds)}), folder)
            with run.locked(folder, world):
                engine = run.prepare(job, world, resume=(folder / "last.pt").exists())
                with watch(_title(number, len(folds), time.perf_counter() - began_s), recipe.epochs) as engine.reporter:
                    engine.run()
            model, spec = run.load_model(folder / "last.pt")
            probabilities[rows] = score(torch_predict(model, spec), parts["validation"].images)
    finally:
        distributed.leave()
    return probabilities


def _title(done: int, folds: int, seconds: float) -> str:
    """Such as "fold 2 of 5, about 12 min left"; the first fold has its own bar only."""
    left = f", about {seconds / done * (folds - done) / 60:.0f} min left" if done else ""
    return f"fold {done + 1} of {folds}{left}"
