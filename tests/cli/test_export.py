"""`mien export` and then `mien evaluate` of the file, from a run on drawn faces."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from mien import models
from mien.bundle import ModelSpec
from mien.cli import app, export
from mien.errors import ConfigError, MienError, ModelError
from mien.export.exporter import PRECISIONS
from mien.labels import FER7
from mien.runtime.predictor import Predictor
from mien.training import run as runs


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A run folder that loads as the newborn baseline."""
    torch.manual_seed(0)
    model, training = models.create("baseline").eval(), {"recipe": {"seed": 0}, "data": {}}
    spec = ModelSpec(name="baseline", labels=FER7, licence="for tests only", training=training)
    monkeypatch.setattr(runs, "load_model", lambda path: (model, spec))
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_choices_are_those_of_the_library() -> None:
    assert tuple(choice.value for choice in export.PrecisionName) == PRECISIONS


def test_export_and_evaluate_agree_with_the_run(trained: Path, cartoon_dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "out" / "baseline.onnx"
    done = run("export", trained, file, "--data", cartoon_dataset, "--name", "mine", "--format", "json")
    assert done.exit_code == 0, done.output
    table = json.loads(done.stdout)
    assert table["parity"]["max_difference"] < 1e-4
    assert table["parity"]["equal_decisions"] == 1.0
    spec = Predictor(file).spec
    assert (spec.name, spec.licence, spec.temperature) == ("mine", "for tests only", table["temperature"])
    of_file = json.loads(run("evaluate", file, "--data", cartoon_dataset, "--format", "json").stdout)
    of_run = json.loads(run("evaluate", trained, "--data", cartoon_dataset, "--format", "json").stdout)
    assert of_file["accuracy"] == pytest.approx(of_run["accuracy"], abs=1.5 / 70)  # a tie may fall the other way
    assert of_file["accuracy"] == pytest.approx(table["metrics"]["accuracy"], abs=1e-9)


@pytest.mark.parametrize(("recorded", "warns"), [
    pytest.param({"digests": {"validation": "a" * 64}}, False, id="the run's own"),
    pytest.param({"digests": {"validation": "b" * 64}}, True, id="others"),
    pytest.param({}, False, id="the run does not say"),
])  # fmt: skip
def test_other_validation_faces_are_named(
    recorded: dict[str, object], warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = ModelSpec(name="baseline", labels=FER7, training={"data": recorded})
    export._compare("a" * 64, spec, Path("faces"))
    shown = capsys.readouterr()
    assert ("validation faces of faces are not those of the run" in shown.err) == warns
    assert not shown.out


def test_the_table_says_what_was_checked(trained: Path, tmp_path: Path) -> None:
    done = run("export", trained, tmp_path / "plain.onnx")
    assert done.exit_code == 0, done.output
    assert "equal decisions" in done.stdout
    assert "not calibrated" in done.stderr


@pytest.mark.parametrize(
    ("out", "options", "error", "match"),
    [
        pytest.param("model.pt", [], ConfigError, "must end in .onnx", id="not .onnx"),
        pytest.param("model.onnx", ["--precision", "int8"], ConfigError, "--data", id="int8 without data"),
    ],
)
def test_faults_are_sentences(
    trained: Path, tmp_path: Path, out: str, options: list[str], error: type[MienError], match: str
) -> None:
    done = run("export", trained, tmp_path / out, *options)
    assert isinstance(done.exception, error)
    assert match in str(done.exception)


def test_no_such_run(tmp_path: Path) -> None:
    done = run("export", tmp_path / "nowhere", tmp_path / "x.onnx")
    assert isinstance(done.exception, ModelError)
    assert "nowhere" in str(done.exception)
