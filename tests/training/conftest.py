"""Fixtures of the training tests: a network without batch norm and dropout, and runs on drawn faces."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mien.datasets import packed
from mien.datasets.packed import Dataset
from mien.training import recipe as recipes
from mien.training import run
from mien.training.distributed import World
from mien.training.engine import Engine, Reporter
from mien.training.recipe import Recipe

QUICK: dict[str, Any] = {"model": "baseline", "epochs": 2, "batch_size": 32, "warmup_steps": 0, "lr": 1e-3}

MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def cartoons(cartoon_dataset: Path) -> Dataset:
    return packed.load(cartoon_dataset, only=("train", "validation"))


@pytest.fixture
def make_engine(cartoons: Dataset, tmp_path: Path) -> MakeEngine:
    """`make_engine(key=value, ...)`: an engine on drawn faces; `output=` and `resume=` as for a run."""

    def make(
        *, output: Path = tmp_path / "run", resume: bool = False, reporter: Reporter | None = None, **settings: Any
    ) -> Engine:
        recipe = recipes.override(Recipe(), {**QUICK, **settings}, source="test")
        return run.prepare(run.Job(recipe, cartoons, output), World(), resume=resume, reporter=reporter)

    return make


def equal_weights(first: Engine, second: Engine, *, atol: float = 0.0) -> bool:
    """Whether all weights agree, to the bit unless `atol`."""
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    return all(torch.allclose(ours[name].float(), theirs[name].float(), atol=atol, rtol=0) for name in ours)
