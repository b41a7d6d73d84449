"""Sweeps: combinations and seeds, means and deviations, what is kept and what is refused."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.conftest import QUICK

from mien.errors import ConfigError, DataError, MienError
from mien.training import run, start, sweep
from mien.training.distributed import World
from mien.training.start import Order

GRID: dict[str, list[Any]] = {"lr": [1e-3, 1e-5]}  # lower: logits so near each other that rounding decides


@pytest.fixture(scope="module")
def order(cartoon_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Order:
    settings = {**QUICK, "epochs": 1, "ema": 0.0}
    output = tmp_path_factory.mktemp("sweeps") / "lr"
    return Order(recipe="baseline", settings=settings, data=cartoon_dataset, output=output, device="cpu")


@pytest.fixture(scope="module")
def done(order: Order) -> sweep.Sweep:
    return sweep.sweep(order, GRID, seeds=2)


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        pytest.param(["lr=0.001,1e-4"], {"lr": [0.001, 0.0001]}, id="numbers"),
        pytest.param(["optimizer=sgd,adamw"], {"optimizer": ["sgd", "adamw"]}, id="words"),
        pytest.param(["erasing_area=[0.02, 0.2],[0.1,0.3]"], {"erasing_area": [[0.02, 0.2], [0.1, 0.3]]}, id="lists"),
        pytest.param(["a=1", "b = true, false"], {"a": [1], "b": [True, False]}, id="several"),
    ],
)
def test_a_grid_is_read(grid: list[str], expected: dict[str, list[Any]]) -> None:
    assert sweep.parse_grid(grid) == expected


@pytest.mark.parametrize(
    ("grid", "match"),
    [
        pytest.param(["lr"], "key=a,b,c", id="no values"),
        pytest.param(["lr="], "key=a,b,c", id="empty values"),
        pytest.param(["lr=1", "lr=2"], "there twice", id="a key twice"),
        pytest.param(["lr=1,2,1"], "a value is there twice", id="a value twice"),
        pytest.param(["seed=1,2"], "--seeds", id="seeds"),
    ],
)
def test_a_grid_that_is_none(grid: list[str], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        sweep.parse_grid(grid)


def test_combinations() -> None:
    found = sweep.combinations({"a": [1, 2], "b": ["x", "y"]})
    assert found == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]


def test_the_table_is_that_of_the_runs(done: sweep.Sweep, order: Order) -> None:
    table = json.loads((order.output / "sweep.json").read_text())
    assert table == json.loads(json.dumps(done.to_dict()))
    assert [row["seeds"] for row in table["rows"]] == [[0, 1], [0, 1]]
    for row in table["rows"]:
        values = []
        for seed in row["seeds"]:
            folder = order.output / f"lr={row['settings']['lr']}" / f"seed-{seed}"
            values.append(json.loads((folder / "history.jsonl").read_text().splitlines()[-1]))
        accuracy = [value["validation_accuracy"] for value in values]
        assert row["accuracy"]["mean"] == pytest.approx(np.mean(accuracy))
        assert row["accuracy"]["standard_deviation"] == pytest.approx(np.std(accuracy, ddof=1))
        assert row["log_loss"]["mean"] == pytest.approx(np.mean([v["validation_loss"] for v in values]), rel=1e-4)
    best = max(table["rows"], key=lambda row: row["accuracy"]["mean"])
    assert table["chosen"] == best["settings"] == table["rows"][0]["settings"]


def test_the_csv_has_the_same_figures(done: sweep.Sweep, order: Order) -> None:
    with (order.output / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, expected in zip(rows, done.rows, strict=True):
        assert float(row["lr"]) == expected.settings["lr"]
        for figure in sweep.FIGURES:
            assert float(row[f"{figure}_mean"]) == expected.mean(figure)
            assert float(row[f"{figure}_sd"]) == expected.deviation(figure)


def test_finished_trials_are_kept_and_killed_ones_go_on(
    done: sweep.Sweep, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    (order.output / "lr=0.001" / "seed-1" / "trial.json").unlink()  # as if killed before it was measured
    begun: list[str] = []
    resumed: list[bool] = []
    prepare = run.prepare

    def spy(job: run.Job, world: World, *, resume: bool = False) -> Any:
        begun.append(job.output.name)
        resumed.append(resume)
        return prepare(job, world, resume=resume)

    monkeypatch.setattr(run, "prepare", spy)
    again = sweep.sweep(order, GRID, seeds=2)
    assert (begun, resumed) == (["seed-1"], [True])
    assert again.to_dict() == done.to_dict()


def test_a_trial_that_another_process_trains(order: Order, tmp_path: Path) -> None:
    apart = replace(order, output=tmp_path / "sweep")
    held = run.locked(apart.output / "lr=0.001" / "seed-1", World())
    with held, pytest.raises(ConfigError, match="seed-1 is being trained into"):
        sweep.sweep(apart, GRID, seeds=2)


@pytest.mark.parametrize(
    ("settings", "grid", "error", "match"),
    [
        pytest.param({"batch_size": 70}, GRID, ConfigError, "another recipe", id="another recipe"),
        pytest.param({}, {"speed": [1]}, ConfigError, "unknown keys speed", id="no such setting"),
        pytest.param({}, {"lr": [1e-3, "fast"]}, ConfigError, "lr is 'fast'", id="a wrong value, before any training"),
    ],
)
def test_what_is_refused(
    done: sweep.Sweep,
    order: Order,
    settings: dict[str, Any],
    grid: dict[str, list[Any]],
    error: type[MienError],
    match: str,
) -> None:
    before = (order.output / "sweep.json").read_text()
    with pytest.raises(error, match=match):
        sweep.sweep(replace(order, settings={**order.settings, **settings}), grid, seeds=2)
    assert (order.output / "sweep.json").read_text() == before


def test_a_trial_begun_with_other_settings(done: sweep.Sweep, order: Order) -> None:
    path = order.output / "lr=1e-05" / "seed-0" / "trial.json"
    text = path.read_text()
    path.unlink()
    for other, match in ({"epochs": 5}, "begun with epochs = 1"), ({"norm_images": 20}, "begun with norm_images = 0"):
        with pytest.raises(ConfigError, match=match):
            sweep.sweep(replace(order, settings={**order.settings, **other}), {"lr": [1e-5]}, seeds=1)
    path.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        sweep.sweep(order, {"lr": [1e-5]}, seeds=1)
    path.write_text(text)


def test_a_trial_that_is_older_than_a_setting_counts(
    done: sweep.Sweep, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = order.output / "lr=1e-05" / "seed-0" / "trial.json"
    text = path.read_text()
    table = json.loads(text)
    del table["recipe"]["norm_images"]
    path.write_text(json.dumps(table))
    monkeypatch.setattr(run, "prepare", None)  # nothing is run
    (again,) = sweep.sweep(order, {"lr": [1e-5]}, seeds=1).rows
    assert again.trials[0].accuracy == table["accuracy"]
    path.write_text(text)


def test_one_seed_has_no_deviation() -> None:
    row = sweep.Row({"lr": 1}, (sweep.Trial({"lr": 1}, 0, 0.5, 0.4, 1.2),))
    assert (row.mean("log_loss"), row.deviation("log_loss")) == (1.2, None)


def test_own_folders_are_split_alike_for_every_seed(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    load = start.load_data

    def spy(path: Path, size_hw: tuple[int, int], *, seed: int) -> Any:
        seeds.append(seed)
        return load(path, size_hw, seed=seed)

    monkeypatch.setattr(start, "load_data", spy)
    sweep.sweep(order, GRID, seeds=2)  # all of it is there already
    assert seeds == [0]
