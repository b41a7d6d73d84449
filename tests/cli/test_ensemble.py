"""`mien ensemble` and `mien distill` from the command line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.drawing import draw_split
from tests.tiny_model import write_tiny_model
from typer.testing import CliRunner

from mien import cli
from mien.datasets.folder import pack_class_folder
from mien.errors import ConfigError, DataError, MienError, ModelError
from mien.labels import FER7
from mien.runtime.predictor import Predictor
from mien.training import run

TrainedThere = Callable[[Path, int], Path]

QUICK = ("baseline", "--set", "epochs=1", "--set", "batch_size=70", "--set", "warmup_steps=0", "--device", "cpu")


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture(scope="module")
def taught(tiny_onnx: Path, cartoon_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of one epoch, whose teacher is the tiny model."""
    output = tmp_path_factory.mktemp("distilled") / "run"
    result = CliRunner().invoke(
        cli.app,
        ["distill", *QUICK, "--teacher", str(tiny_onnx), "--data", str(cartoon_dataset), "--output", str(output)],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    return output


def test_run_remembers_its_teachers(taught: Path, tiny_onnx: Path) -> None:
    about = run.load_start(str(taught)).about
    assert [one["sha256"] for one in about["teachers"]] == [Predictor(tiny_onnx).info.sha256]


def test_resume_wants_the_same_teachers(taught: Path, cartoon_dataset: Path, runner: CliRunner) -> None:
    options = ["--teacher", str(taught), "--data", str(cartoon_dataset), "--output", str(taught), "--resume"]
    with pytest.raises(ConfigError, match="learned from tiny"):
        runner.invoke(cli.app, ["distill", *QUICK, *options], catch_exceptions=False)


def test_members_of_both_kinds_join(taught: Path, tiny_onnx: Path, tmp_path: Path, runner: CliRunner) -> None:
    out = tmp_path / "both.onnx"
    result = runner.invoke(
        cli.app,
        ["ensemble", str(taught), str(tiny_onnx), str(out), "--weights", "3,1", "--name", "both"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    crops = draw_split(2, seed=5).images
    joined, tiny = Predictor(out), Predictor(tiny_onnx)
    model, spec = run.load_model(taught)
    from mien.evaluation.network import torch_predict  # noqa: PLC0415 - torch comes with it

    expected = 0.75 * torch_predict(model, spec)(crops) + 0.25 * tiny.predict(crops)
    assert np.abs(joined.predict(crops) - expected).max() < 1e-4
    assert joined.info.name == "both"


def test_calibrated_on_validation(tiny_onnx: Path, cartoon_dataset: Path, tmp_path: Path, runner: CliRunner) -> None:
    out = tmp_path / "two.onnx"
    arguments = ["ensemble", str(tiny_onnx), str(tiny_onnx), str(out), "--data", str(cartoon_dataset)]
    result = runner.invoke(cli.app, arguments, catch_exceptions=False)
    assert "validation accuracy" in result.stdout
    assert Predictor(out).spec.metrics["n"] == 70
    arguments = ["evaluate", str(out), "--data", str(cartoon_dataset), "--format", "json"]
    evaluated = json.loads(runner.invoke(cli.app, arguments, catch_exceptions=False).stdout)
    assert evaluated["accuracy"] == Predictor(out).spec.metrics["accuracy"]


def test_calibrated_on_a_folder_of_ones_own(
    tiny_onnx: Path, own_folder: Path, tmp_path: Path, runner: CliRunner
) -> None:
    arguments = ["ensemble", str(tiny_onnx), str(tmp_path / "own.onnx"), "--data", str(own_folder)]
    result = runner.invoke(cli.app, arguments, catch_exceptions=False)
    assert "validation accuracy" in result.stdout
    assert Predictor(tmp_path / "own.onnx").spec.metrics["n"] == len(FER7) * 2  # one in five


@pytest.mark.parametrize("seeds", [pytest.param((3, 3), id="of one split"), pytest.param((0, 1), id="of two splits")])
def test_calibrated_and_measured_on_what_trained_no_member(
    seeds: tuple[int, int], own_folder: Path, trained_there: TrainedThere, tmp_path: Path, runner: CliRunner
) -> None:
    members = [str(trained_there(tmp_path / f"{i}.onnx", seed)) for i, seed in enumerate(seeds)]
    validated = [set(pack_class_folder(own_folder, seed=seed).split("validation").names) for seed in seeds]
    shared = set.intersection(*validated)
    out, data = str(tmp_path / "both.onnx"), ["--data", str(own_folder)]
    result = runner.invoke(cli.app, ["ensemble", *members, out, *data], catch_exceptions=False)
    assert Predictor(Path(out)).spec.metrics["n"] == len(shared)
    narrowed = f"calibrated on the {len(shared)} faces that none of them trained on"
    assert (narrowed in result.stderr) == (len(set(seeds)) > 1)
    result = runner.invoke(cli.app, ["evaluate", out, *data, "--format", "json"], catch_exceptions=False)
    measured = json.loads(result.stdout)
    assert (measured["n"], measured["data"]["split"]) == (len(shared), "validation")
    assert measured["accuracy"] == Predictor(Path(out)).spec.metrics["accuracy"]


def test_members_that_leave_no_fair_face_are_refused(
    own_folder: Path, trained_there: TrainedThere, tmp_path: Path, runner: CliRunner
) -> None:
    members = [str(trained_there(tmp_path / f"{seed}.onnx", seed)) for seed in range(4)]
    arguments = ["ensemble", *members, str(tmp_path / "all.onnx"), "--data", str(own_folder)]
    with pytest.raises(DataError, match="each of its images trained one of them"):
        runner.invoke(cli.app, arguments, catch_exceptions=False)
    assert not (tmp_path / "all.onnx").exists()


def test_members_that_validated_on_other_faces_are_named(
    taught: Path, tiny_onnx: Path, own_folder: Path, cartoon_dataset: Path, tmp_path: Path, runner: CliRunner
) -> None:
    """Though another member of the same name validated on these."""
    digest = pack_class_folder(own_folder).split("validation").digest
    namesake = replace(
        Predictor(tiny_onnx).spec, name="baseline", training={"data": {"digests": {"validation": digest}}}
    )
    write_tiny_model(tmp_path / "namesake.onnx", spec=namesake)
    for data, others in ((cartoon_dataset, []), (own_folder, [tmp_path / "namesake.onnx"])):
        arguments = ["ensemble", taught, *others, tiny_onnx, tmp_path / "joined.onnx", "--data", data]
        result = runner.invoke(cli.app, [str(one) for one in arguments], catch_exceptions=False)
        assert (f"the validation faces of {data} are not those of baseline" in result.stderr) == bool(others)
        assert "of tiny" not in result.stderr


@pytest.mark.parametrize("arguments", [
    pytest.param(["evaluate", "ensemble", "--data", "."], id="evaluate"),
    pytest.param(["predict", "face.png", "--model", "ensemble"], id="predict"),
    pytest.param(["export", "ensemble", "out.onnx"], id="export"),
    pytest.param(["train", "ensemble", "--data", ".", "--output", "run"], id="train"),
])  # fmt: skip
def test_its_name_alone_says_how_to_make_one(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: CliRunner
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "face.png").write_bytes(b"")
    with pytest.raises(MienError, match=r"mien ensemble MEMBERS\.\.\. ensemble\.onnx"):
        runner.invoke(cli.app, arguments, catch_exceptions=False)


def test_a_file_that_serves_is_no_run(tiny_onnx: Path, tmp_path: Path, runner: CliRunner) -> None:
    with pytest.raises(ModelError, match="is what serves already: name the run"):
        runner.invoke(cli.app, ["export", str(tiny_onnx), str(tmp_path / "again.onnx")], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        pytest.param(["default", "OUT/x.pt"], ConfigError, "must end in .onnx", id="not .onnx"),
        pytest.param(["TINY", "OUT/x.onnx", "--weights", "a"], ConfigError, "commas", id="no number"),
        pytest.param(["TINY", "TINY", "OUT/x.onnx", "--weights", "inf,1"], ModelError, "a finite one", id="infinite"),
        pytest.param(["TINY", "OUT/x.onnx", "--weights", "1,2"], ModelError, "each of the 1", id="too many"),
        pytest.param(["gone.onnx", "OUT/x.onnx"], ModelError, "neither a file nor a name", id="no member"),
    ],
)
def test_refusals(
    arguments: list[str], kind: type[Exception], message: str, tiny_onnx: Path, tmp_path: Path, runner: CliRunner
) -> None:
    filled = [a.replace("TINY", str(tiny_onnx)).replace("OUT", str(tmp_path)) for a in arguments]
    with pytest.raises(kind, match=message):
        runner.invoke(cli.app, ["ensemble", *filled], catch_exceptions=False)
