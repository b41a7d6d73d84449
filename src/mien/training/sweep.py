"""Sweeps: a recipe with each combination of settings, each with several seeds, compared on validation faces alone."""

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from mien.datasets import exclusions
from mien.datasets.packed import Dataset
from mien.errors import ConfigError, DataError
from mien.evaluation import evaluate as ev
from mien.evaluation.network import torch_predict
from mien.files import write_whole
from mien.training import checkpoint, distributed, run, start
from mien.training import recipe as recipes
from mien.training.distributed import World
from mien.training.engine import Reporter
from mien.training.start import Order

FIGURES = ("accuracy", "macro_f1", "log_loss")  # of the validation faces; the first one chooses

Grid = Mapping[str, Sequence[Any]]
Watch = Callable[[str, int], AbstractContextManager[Reporter]]
"""Called with the name and the epochs of a trial that begins."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One finished run of a sweep, measured on the validation faces."""

    settings: Mapping[str, Any]  # of the grid
    seed: int
    accuracy: float
    macro_f1: float
    log_loss: float  # as trained: no temperature


@dataclass(frozen=True, slots=True)
class Row:
    """All trials of one combination."""

    settings: Mapping[str, Any]
    trials: tuple[Trial, ...]  # one a seed

    def mean(self, figure: str) -> float:
        """Mean over the seeds of one of FIGURES."""
        return float(mean(getattr(trial, figure) for trial in self.trials))

    def deviation(self, figure: str) -> float | None:
        """Sample standard deviation over the seeds; None for one seed."""
        return float(stdev(getattr(trial, figure) for trial in self.trials)) if len(self.trials) > 1 else None


@dataclass(frozen=True, slots=True)
class Sweep:
    """A finished sweep."""

    recipe: str
    rows: tuple[Row, ...]  # the highest mean validation accuracy first
    digests: Mapping[str, str]  # of the training and validation faces

    def to_dict(self) -> dict[str, Any]:
        """The content of sweep.json."""
        rows = [
            {
                "settings": dict(row.settings),
                "seeds": [trial.seed for trial in row.trials],
                **{
                    figure: {
                        "mean": row.mean(figure),
                        "standard_deviation": row.deviation(figure),
                        "values": [getattr(trial, figure) for trial in row.trials],
                    }
                    for figure in FIGURES
                },
            }
            for row in self.rows
        ]
        chosen = {"chosen": dict(self.rows[0].settings), "chosen_by": "mean accuracy on the validation split"}
        return {"recipe": self.recipe, **chosen, "digests": dict(self.digests), "rows": rows}


def parse_grid(grid: Iterable[str]) -> dict[str, list[Any]]:
    """`key=a,b,c` strings, as `--grid` takes them; commas inside brackets do not separate.

    Raises:
        ConfigError: one has no `=`, no values, or a key that came before; or it is `seed`, which has its own option.
    """
    table: dict[str, list[Any]] = {}
    for axis in grid:
        key, equals, values = (part.strip() for part in axis.partition("="))
        if not equals or not values:
            raise ConfigError(f"--grid {axis}: write it as key=a,b,c")
        if key in table:
            raise ConfigError(f"--grid {key} is there twice: write all its values into one")
        if key == "seed":
            raise ConfigError(
                "seeds are no axis of the grid: say how many with --seeds, and the first with --set seed=N"
            )
        pieces = re.split(r",(?![^\[]*\])", values)
        table[key] = [recipes.parse_settings([f"{key}={piece}"])[key] for piece in pieces]
        if len({_folder({key: value}) for value in table[key]}) < len(pieces):
            raise ConfigError(f"--grid {axis}: a value is there twice")
    return table


def combinations(grid: Grid) -> list[dict[str, Any]]:
    """Every combination of the grid's values, the last key running fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def sweep(
    order: Order, grid: Grid, *, seeds: int = 3, watch: Watch | None = None, loaded: start.Loaded | None = None
) -> Sweep:
    """Run every combination with every seed below `order.output`, and write sweep.json and sweep.csv there.

    Finished trials of an earlier call are kept, a killed one goes on where it was. The seeds are the recipe's own
    and those that follow. The test split is not opened. `loaded` is told of the data set at each size.

    Raises:
        ConfigError: the grid has an unknown setting or a wrong value; nothing has been trained then. Or a folder
            holds a trial of other settings or data.
        MienError: a trial cannot be carried out.
    """
    base = start.resolve_recipe(order)
    plans = [
        (settings, recipes.override(base, {**settings, "seed": base.seed + number}, source="--grid"))
        for settings in combinations(grid)
        for number in range(seeds)
    ]
    world = distributed.join(order.device)
    try:
        if world.size > 1:
            raise ConfigError("a sweep runs in one process: start it without torchrun")
        sets: dict[tuple[int, int], Dataset] = {}  # by size: anyone's own images are packed at the network's
        trials = []
        for number, (settings, recipe) in enumerate(plans):
            size_hw = start.input_size(recipe, None)
            if size_hw not in sets:
                sets[size_hw] = _data(order, size_hw, seed=base.seed)
                if loaded is not None:
                    loaded(sets[size_hw])
            job = run.Job(recipe, sets[size_hw], order.output / _folder(settings) / f"seed-{recipe.seed}")
            title = f"trial {number + 1} of {len(plans)}: {_folder(settings)}, seed {recipe.seed}"
            trials.append(_trial(job, settings, world, watch=watch, title=title))
    finally:
        distributed.leave()
    rows = [
        Row(settings, tuple(trial for trial in trials if trial.settings == settings)) for settings in combinations(grid)
    ]
    first = next(iter(sets.values()))
    digests = {name: first.split(name).digest for name in ("train", "validation")}
    done = Sweep(order.recipe, tuple(sorted(rows, key=lambda row: -row.mean("accuracy"))), digests)
    write(done, order.output)
    return done


def write(done: Sweep, folder: Path) -> None:
    """sweep.json and sweep.csv.

    Raises:
        ConfigError: they cannot be written.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    keys = list(done.rows[0].settings)
    writer.writerow([*keys, "seeds", *(f"{figure}_{what}" for figure in FIGURES for what in ("mean", "sd"))])
    for row in done.rows:
        figures = (number for figure in FIGURES for number in (row.mean(figure), row.deviation(figure)))
        writer.writerow([*row.settings.values(), len(row.trials), *figures])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sweep.json").write_text(json.dumps(done.to_dict(), indent=1) + "\n", encoding="utf-8")
        (folder / "sweep.csv").write_text(table.getvalue(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}: name another --output") from error


def _data(order: Order, size_hw: tuple[int, int], *, seed: int) -> Dataset:
    """The same faces for every trial, whatever its seed."""
    dataset = start.load_data(order.data, size_hw, seed=seed)
    return dataset if order.exclude is None else exclusions.without(dataset, order.exclude, root=order.data)


def _trial(job: run.Job, settings: Mapping[str, Any], world: World, *, watch: Watch | None, title: str) -> Trial:
    """A finished trial as it stands in its folder, else run now."""
    about = {
        "recipe": job.recipe.to_dict(),
        "digests": {name: job.data.split(name).digest for name in ("train", "validation")},
    }
    path = job.output / "trial.json"
    if path.exists():
        return _finished(path, settings, about)
    with run.locked(job.output, world):
        if begun := (job.output / "last.pt").exists():
            _one_recipe(job)
        engine = run.prepare(job, world, resume=begun)
        if watch is None:
            engine.run()
        else:
            with watch(title, job.recipe.epochs) as engine.reporter:
                engine.run()
    trial = _measure(job, settings, world)
    write_whole(path, json.dumps({**about, **asdict(trial)}, indent=1))
    return trial


def _one_recipe(job: run.Job) -> None:
    """What else may change on resuming would be another trial."""
    begun = recipes.from_dict(checkpoint.load(job.output / "last.pt").about["recipe"], source=str(job.output)).to_dict()
    now = job.recipe.to_dict()
    if changed := [key for key in run.RESUMABLE if begun[key] != now[key]]:
        key = changed[0]
        raise ConfigError(f"{job.output} was begun with {key} = {begun[key]}, not {now[key]}: name another --output")


def _finished(path: Path, settings: Mapping[str, Any], about: Mapping[str, Any]) -> Trial:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        recipe = recipes.from_dict(table["recipe"], source=str(path))  # settings that are newer than the trial included
        was = {"recipe": recipe.to_dict(), "digests": table["digests"]}
        trial = Trial(settings, table["seed"], *(table[figure] for figure in FIGURES))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}): remove it to measure the trial again") from error
    if was != about:
        raise ConfigError(f"{path.parent} holds a trial of another recipe or other data: name another --output")
    return trial


def _measure(job: run.Job, settings: Mapping[str, Any], world: World) -> Trial:
    """The weights that the run stands for, on the validation faces."""
    model, spec = run.load_model(job.output)
    split = ev.judged(job.data.split("validation"), job.data.labels, spec.labels)
    found = ev.evaluate(torch_predict(model.to(world.device), spec), split, labels=spec.labels).to_dict()
    return Trial(settings, job.recipe.seed, *(found[figure] for figure in FIGURES))


def _folder(settings: Mapping[str, Any]) -> str:
    """A folder's name for a combination: `lr=0.001_mixup=0.2`."""
    return "_".join(re.sub(r"[^\w.=+-]+", "-", f"{key}={value}").strip("-") for key, value in settings.items())
