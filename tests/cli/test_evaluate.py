"""`mien evaluate` on drawn faces: data on stdout, notes on stderr, exit codes, files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from mien.cli import app
from mien.cli import options as shared
from mien.datasets import packed
from mien.errors import ConfigError, DataError, MienError, ModelError
from mien.evaluation.tta import VIEWS
from mien.faces import detect
from mien.labels import FER7

INTERFACE = ("accuracy", "accuracy_ci95", "macro_f1", "log_loss", "ece", "n", "per_class", "confusion")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path, cartoon_faces: packed.Split) -> Path:
    """Two crops a class, and what does not belong there."""
    for i in range(14):
        label = FER7[cartoon_faces.labels[i]]
        (tmp_path / "mine" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(cartoon_faces.images[i]).save(tmp_path / "mine" / label / f"{i}.png")
    (tmp_path / "mine" / ".DS_Store").write_bytes(b"x")
    return tmp_path / "mine"


def test_choices_are_those_of_the_library() -> None:
    assert {choice.value for choice in shared.TtaName} == set(VIEWS)
    assert {choice.value for choice in shared.DetectorName} == set(detect.NAMES)


def test_prepared_data(tiny_onnx: Path, cartoon_dataset: Path, tmp_path: Path) -> None:
    done = run(tiny_onnx, "--data", cartoon_dataset, "--output", tmp_path / "out", "--format", "json")
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert shown == json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(INTERFACE) <= shown.keys()
    assert (shown["n"], shown["tta"], shown["data"]["split"]) == (70, "none", "validation")
    assert shown["data"]["digest"] == packed.load(cartoon_dataset).split("validation").digest
    assert shown["model"]["file"] == "tiny.onnx"
    assert shown["n_without_twins"] is not None
    assert str(tmp_path) not in done.stdout  # nothing about this machine in what is published
    assert (tmp_path / "out" / "confusion-shares.svg").exists()


def test_the_table_has_every_class_and_figure(tiny_onnx: Path, cartoon_dataset: Path) -> None:
    done = run(tiny_onnx, "--data", cartoon_dataset, "--tta", "full")
    assert done.exit_code == 0, done.output
    for word in (
        *FER7,
        "accuracy",
        "95 % interval",
        "macro-F1",
        "log-loss",
        "ECE",
        "if calibrated",
        "weighted",
        "without twins",
    ):
        assert word in done.stdout


@pytest.mark.parametrize("options", [("--help",), ("--format", "table"), ("--format", "json")])
def test_a_reader_that_leaves_is_no_fault(options: tuple[str, ...], tiny_onnx: Path, cartoon_dataset: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does once it has its lines
    mien = (sys.executable, "-c", "from mien.cli import main; main()")
    arguments = ("evaluate", str(tiny_onnx), "--data", str(cartoon_dataset), *options)
    done = subprocess.run([*mien, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, "Error" in done.stderr) == (0, False), done.stderr


def test_a_folder_gives_what_the_same_crops_give(
    tiny_onnx: Path, folder: Path, cartoon_faces: packed.Split, tmp_path: Path
) -> None:
    splits = {"validation": cartoon_faces.take(np.arange(14))}
    packed.save(packed.Dataset(FER7, splits), tmp_path / "packed")
    sources = (folder, tmp_path / "packed")
    tables = [json.loads(run(tiny_onnx, "--data", source, "--format", "json").stdout) for source in sources]
    assert tables[0]["log_loss"] == pytest.approx(tables[1]["log_loss"], rel=1e-5)
    assert tables[0]["confusion"] == tables[1]["confusion"]
    assert tables[0]["accuracy_without_twins"] is None


def test_an_unreadable_picture_is_named_and_the_others_count(tiny_onnx: Path, folder: Path) -> None:
    (folder / "sad" / "broken.png").write_bytes(b"no picture")
    done = run(tiny_onnx, "--data", folder, "--format", "json")
    assert done.exit_code == 1
    assert "broken.png" in done.stderr
    assert json.loads(done.stdout)["n"] == 14


def test_photos_without_a_face_are_counted(tiny_onnx: Path, grace_hopper: Path, tmp_path: Path) -> None:
    for label in ("happy", "sad"):
        (tmp_path / "photos" / label).mkdir(parents=True)
    (tmp_path / "photos" / "happy" / "portrait.jpg").write_bytes(grace_hopper.read_bytes())
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "photos" / "sad" / "wall.png")
    done = run(tiny_onnx, "--data", tmp_path / "photos", "--detector", "centerface", "--format", "json")
    assert done.exit_code == 0, done.output
    table = json.loads(done.stdout)
    assert (table["n"], table["data"]["n_without_face"]) == (1, 1)
    assert table["data"]["accuracy_if_missed_faces_are_errors"] == pytest.approx(table["accuracy"] / 2)
    assert "wall.png: no face found" in done.stderr


def test_the_test_split_is_opened_only_by_name(
    tiny_onnx: Path, cartoon_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    load_split = packed._load_split
    monkeypatch.setattr(packed, "_load_split", lambda folder: opened.append(folder) or load_split(folder))
    assert run(tiny_onnx, "--data", cartoon_dataset).exit_code == 0
    assert {folder.name for folder in opened} == {"train", "validation"}
    failed = run(tiny_onnx, "--data", cartoon_dataset, "--split", "test")
    assert isinstance(failed.exception, DataError)
    assert "test split is empty" in str(failed.exception)


@pytest.mark.parametrize(
    ("model", "data", "options", "error", "match"),
    [
        pytest.param("none.onnx", "DATA", [], ModelError, "none.onnx", id="no such model"),
        pytest.param("MODEL", "nowhere", [], DataError, "no such file or folder", id="no such data"),
        pytest.param("MODEL", "empty", [], DataError, "class folders", id="folder without images"),
        pytest.param("MODEL", "DATA", ["--detector", "none"], ConfigError, "leave out --detector", id="crops"),
    ],
)
def test_faults_are_sentences(
    model: str, data: str, options: list[str], error: type[MienError], match: str,
    tiny_onnx: Path, cartoon_dataset: Path, tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    chosen = cartoon_dataset if data == "DATA" else tmp_path / data
    done = run(tiny_onnx if model == "MODEL" else tmp_path / model, "--data", chosen, *options)
    assert isinstance(done.exception, error)
    assert match in str(done.exception)
