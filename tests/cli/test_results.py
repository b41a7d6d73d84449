"""`mien results`: a run to a record, records to the page."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.command import Outcome

from mien.cli import results
from mien.datasets import packed
from mien.datasets.folder import pack_class_folder
from mien.evaluation.tta import VIEWS
from mien.runtime.predictor import Predictor
from mien.training import run
from mien.training.distributed import World
from mien.training.recipe import Recipe

Mien = Callable[..., Outcome]


@pytest.fixture(scope="module")
def trained(cartoon_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    recipe = Recipe(model="baseline", epochs=1, batch_size=64, warmup_steps=0)
    run.prepare(run.Job(recipe, packed.load(cartoon_dataset, only=("train", "validation")), folder), World()).run()
    return folder


def test_choices_are_those_of_the_library() -> None:
    assert {choice.value for choice in results.TtaName} == set(VIEWS)


def test_add_then_write(mien_command: Mien, trained: Path, cartoon_dataset: Path, tmp_path: Path) -> None:
    records, page = tmp_path / "records", tmp_path / "docs" / "results.md"
    options = ("--data", cartoon_dataset, "--records", records, "--device", "cpu", "--tta", "flip")
    added = mien_command("results", "add", trained, *options)
    assert (added.code, added.out) == (0, f"{records / 'tiny.json'}\n"), added.err
    record = json.loads((records / "tiny.json").read_text())
    evaluated = mien_command("evaluate", trained, "--data", cartoon_dataset, "--tta", "flip", "--format", "json")
    measured = json.loads(evaluated.out)
    for key in ("accuracy", "accuracy_ci95", "accuracy_without_twins", "log_loss", "ece", "confusion", "calibration"):
        assert record["metrics"][key] == measured[key]
    written = mien_command("results", "write", "--output", page, "--records", records)
    assert (written.code, written.out) == (0, f"{page}\n")
    fault = mien_command("results", "write", "--output", cartoon_dataset, "--records", records)
    assert fault.code == 2
    assert "cannot write it" in fault.err
    row = next(line for line in page.read_text().splitlines() if line.startswith("| tiny |"))
    assert f"| 2 | {100 * record['metrics']['accuracy']:.2f} ± " in row


def test_a_run_that_left_images_out(mien_command: Mien, cartoon_dataset: Path, tmp_path: Path) -> None:
    """Its validation faces are fewer, so it is measured on the same list alone."""
    names = json.loads((cartoon_dataset / "validation" / "names.json").read_text())
    listed = tmp_path / "names.txt"
    listed.write_text("".join(f"validation\t{name}\n" for name in names[:3]))
    data = ("--data", cartoon_dataset, "--exclude", listed)
    quick = [word for one in ("epochs=1", "batch_size=70", "warmup_steps=0") for word in ("--set", one)]
    trained = mien_command("train", "baseline", *data, "--output", tmp_path / "few", "--device", "cpu", *quick)
    assert trained.code == 0, trained.err
    records = ("--records", tmp_path / "records", "--device", "cpu")
    refused = mien_command("results", "add", tmp_path / "few", "--data", cartoon_dataset, *records)
    assert refused.code == 2
    assert "--exclude" in refused.err
    added = mien_command("results", "add", tmp_path / "few", *data, *records)
    assert added.code == 0, added.err
    assert json.loads((tmp_path / "records" / "few.json").read_text())["metrics"]["n"] == len(names) - 3


def test_each_run_of_a_sweep_on_a_folder(mien_command: Mien, own_folder: Path, tmp_path: Path) -> None:
    """The sweep splits the folder once, by its first seed: so do the record and the exported file of each run."""
    quick = [word for one in ("epochs=1", "batch_size=32", "warmup_steps=0", "ferplus=none") for word in ("--set", one)]
    sweep = ("--data", own_folder, "--output", tmp_path / "sweep", "--grid", "lr=0.001", "--seeds", "2", *quick)
    done = mien_command("sweep", "baseline", *sweep, "--device", "cpu")
    assert done.code == 0, done.err
    dataset = pack_class_folder(own_folder, seed=0)
    for seed in (0, 1):
        folder = tmp_path / "sweep" / "lr=0.001" / f"seed-{seed}"
        options = ("--data", own_folder, "--records", tmp_path / "records", "--device", "cpu")
        added = mien_command("results", "add", folder, *options)
        assert added.code == 0, added.err
        record = json.loads((tmp_path / "records" / f"seed-{seed}.json").read_text())
        assert record["metrics"]["data"]["digest"] == dataset.split("validation").digest
        exported = mien_command("export", folder, file := tmp_path / f"{seed}.onnx", "--data", own_folder)
        assert "are not those of the run" not in exported.err
        assert Predictor(file).spec.metrics["digest"] == dataset.split("validation").digest


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        pytest.param(["add", "nowhere", "--data", "DATA"], "nowhere is no run", id="no run"),
        pytest.param(["add", "RUN", "--data", "nowhere"], "no prepared data set", id="no data"),
        pytest.param(["add", "RUN", "--data", "DATA", "--device", "abacus"], "--device abacus", id="no such device"),
        pytest.param(["write", "--output", "DATA"], "holds no records", id="no records, and nothing is written"),
    ],
)
def test_faults_are_sentences(
    mien_command: Mien, trained: Path, cartoon_dataset: Path, tmp_path: Path, arguments: list[str], match: str
) -> None:
    known = {"RUN": trained, "DATA": cartoon_dataset}
    done = mien_command("results", *(known.get(one, one) for one in arguments), "--records", tmp_path / "records")
    assert done.code == 2
    assert match in done.err
    assert not (tmp_path / "records").exists()
