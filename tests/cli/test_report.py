"""`mien report` and `mien evaluate --robustness` as they are typed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tiny_model import tiny_spec, write_tiny_model

from mien import hub
from mien.cli import evaluate_robustness
from mien.cli.opened import Opened, names_of
from mien.datasets import packed
from mien.datasets.folder import pack_class_folder
from mien.labels import FER7
from mien.training import recipe as recipes
from mien.training import run
from mien.training.distributed import World
from mien.training.recipe import Recipe

Command = Callable[..., Any]  # gives an Outcome of tests/command.py
TrainedThere = Callable[[Path, int], Path]


@pytest.fixture(scope="module")
def small(cartoon_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 14 faces to validate on."""
    whole = packed.load(cartoon_dataset)
    splits = {name: whole.split(name).take(np.arange(n)) for name, n in (("train", 64), ("validation", 14))}
    root = tmp_path_factory.mktemp("small") / "data"
    packed.save(packed.Dataset(whole.labels, splits, whole.provenance), root)
    return root


@pytest.fixture(scope="module")
def trained(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    settings = {"model": "baseline", "epochs": 2, "batch_size": 32, "warmup_steps": 0}
    recipe = recipes.override(Recipe(), settings, source="test")
    run.prepare(run.Job(recipe, packed.load(small, only=("train", "validation")), folder), World()).run()
    return folder


def test_a_run_and_a_file_side_by_side(
    mien_command: Command, trained: Path, tiny_onnx: Path, small: Path, tmp_path: Path
) -> None:
    done = mien_command("report", trained, tiny_onnx, "--data", small, "--output", tmp_path / "out", "--no-faces")
    assert (done.code, done.out.strip()) == (0, str(tmp_path / "out" / "index.html")), done.err
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<title>Report: first, tiny</title>" in page
    assert "an .onnx file carries weights and no training history" in page
    table = json.loads((tmp_path / "out" / "report.json").read_text())
    first, tiny = table["models"]
    assert (first["history"]["epochs"], tiny["history"]) == (2, None)
    assert tiny["calibration_stages"]["as_it_answers"]["temperature"] == 1.5
    assert str(tmp_path) not in page + json.dumps(table)  # nothing about this machine in what is published
    evaluated = mien_command("evaluate", tiny_onnx, "--data", small, "--format", "json")
    assert json.loads(evaluated.out)["confusion"] == tiny["metrics"]["confusion"]


def test_views_and_exclusions_are_those_of_evaluate(
    mien_command: Command, tiny_onnx: Path, small: Path, tmp_path: Path
) -> None:
    names = packed.load(small, only=("validation",)).split("validation").names
    (tmp_path / "out.txt").write_text(f"validation\t{names[0]}\nvalidation\t{names[3]}\n")
    common = (tiny_onnx, "--data", small, "--tta", "flip", "--exclude", tmp_path / "out.txt")
    done = mien_command("report", *common, "--output", tmp_path / "out")
    assert done.code == 0, done.err
    (found,) = json.loads((tmp_path / "out" / "report.json").read_text())["models"]
    evaluated = json.loads(mien_command("evaluate", *common, "--format", "json").out)
    for key in ("n", "confusion", "log_loss", "tta", "data"):
        assert found["metrics"][key] == evaluated[key], key
    assert found["metrics"]["n"] == len(names) - 2
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "without 2 that a list of exclusions names, answers averaged over 2 views of each face" in page


def test_robustness_of_two_models_in_one_call(
    mien_command: Command, tiny_onnx: Path, small: Path, tmp_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other.onnx", seed=1)
    common = ("evaluate", tiny_onnx, "--robustness", "--against", other, "--data", small, "--limit", 9)
    done = mien_command(*common, "--output", tmp_path / "out", "--format", "json")
    assert done.code == 0, done.err
    table = json.loads(done.out)
    assert table == json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert [model["name"] for model in table["models"]] == ["tiny", "other"]
    assert (table["n"], table["limit"], table["reference"]) == (9, 9, "other")
    assert table["models"][0]["mean_corruption_error"] > 0
    assert len(table["models"][0]["corruptions"]) == 10
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"robustness.csv", "robustness.md", "robustness-accuracy.svg", "robustness-samples.png"} <= names
    assert mien_command(*common, "--format", "json").out == done.out  # noise and all
    shown = mien_command(*common)
    assert "Mean corruption error of tiny beside other: " in shown.out
    assert "occluded mouth" in shown.out


@pytest.mark.parametrize("order", [1, -1])
def test_models_are_measured_on_what_none_of_them_trained_on(
    mien_command: Command, tiny_onnx: Path, own_folder: Path, trained_there: TrainedThere, tmp_path: Path, order: int
) -> None:
    own = own_folder
    files = [tiny_onnx, *(trained_there(tmp_path / f"of-{seed}.onnx", seed) for seed in (0, 1))][::order]
    validated = [set(pack_class_folder(own, seed=seed).split("validation").names) for seed in (0, 1)]
    shared = sorted(set.intersection(*validated))
    assert 0 < len(shared) < len(validated[0])
    done = mien_command("report", *files, "--data", own, "--output", tmp_path / "out", "--no-faces")
    assert done.code == 0, done.err
    table = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [one["metrics"]["n"] for one in table["models"]] == [len(shared)] * 3
    rows = (tmp_path / "out" / "models" / "of-0" / "predictions.csv").read_text().splitlines()
    assert sorted(row.partition(",")[0] for row in rows[1:]) == shared
    names = ", ".join(f"of-{seed} (seed {seed})" for seed in (0, 1)[::order])
    assert f"{names} split {own} differently: measured on {len(shared)} images that none trained on" in done.err
    first, *others = files
    against = (word for other in others for word in ("--against", other))
    done = mien_command("evaluate", first, "--robustness", *against, "--data", own, "--format", "json")
    assert json.loads(done.out)["n"] == len(shared), done.err


def test_models_that_share_no_fair_image_are_refused(
    mien_command: Command, own_folder: Path, trained_there: TrainedThere, tmp_path: Path
) -> None:
    files = [trained_there(tmp_path / f"of-{seed}.onnx", seed) for seed in range(4)]
    done = mien_command("report", *files, "--data", own_folder, "--output", tmp_path / "out")
    assert (done.code, (tmp_path / "out").exists()) == (2, False)
    assert "of-3 (seed 3) were trained on" in done.err


def test_models_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    (tmp_path / "runs" / "default").mkdir(parents=True)
    opened = Opened(tiny_spec(np.zeros((7, 8), np.float32)), lambda crops: np.empty((0, 7), np.float32), {})
    named = {
        ("default", "a/net.onnx"): ["default", "net"],
        ("default", str(tmp_path / "runs" / "default")): ["default (packaged)", "default (run)"],
        ("a/net.onnx", "b/net.onnx", "net.pt"): ["net (onnx) 1", "net (onnx) 2", "net (pt)"],
    }
    for arguments, expected in named.items():
        assert names_of(arguments, [opened] * len(arguments)) == expected


def test_the_packaged_baseline_is_the_reference_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Opened(tiny_spec(np.zeros((7, 8), np.float32)), lambda crops: np.empty((0, 7), np.float32), {})
    monkeypatch.setattr(hub, "packaged", lambda: ("baseline", "default"))
    monkeypatch.setattr(evaluate_robustness, "open_model", lambda name: opened)
    rivals = evaluate_robustness.rivals
    assert rivals(None, "default", tuple(reversed(FER7))) == [("baseline", opened)]
    assert rivals(["b.onnx", "c.onnx"], "default", FER7) == [("b.onnx", opened), ("c.onnx", opened)]
    assert capsys.readouterr().err == ""
    for model, labels in (("baseline", FER7), ("pets.onnx", ("cat", "dog"))):
        assert rivals(None, model, labels) == []
        assert "add --against MODEL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("report", "none.onnx", "--output", "OUT"), "none.onnx", id="no such model"),
        pytest.param(("report", "MODEL", "--output", "FILE"), "cannot be written", id="the folder is a file"),
        pytest.param(("evaluate", "MODEL", "--against", "default"), "belong to --robustness", id="against alone"),
        pytest.param(("evaluate", "MODEL", "--limit", "5"), "belong to --robustness", id="limit alone"),
    ],
)
def test_faults_are_sentences(
    arguments: tuple[str, ...], words: str, mien_command: Command, tiny_onnx: Path, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    stands_for = {"MODEL": tiny_onnx, "OUT": tmp_path / "out", "FILE": tmp_path / "file"}
    done = mien_command(*(stands_for.get(one, one) for one in arguments), "--data", small)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
