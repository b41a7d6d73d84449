"""`mien train` and its kin on a folder of one's own: what they name, what they print, and the exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tests.command import Outcome
from tests.drawing import draw_face

from mien.cli.messages import NAMED_FAULTS

pytest.importorskip("torch")

Mien = Callable[..., Outcome]
BAD = 2
SETTINGS = ("epochs=1", "batch_size=8", "warmup_steps=0", "input_size=16", "ferplus=none")
SET = [part for setting in SETTINGS for part in ("--set", setting)]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Twelve drawn faces of two classes in a folder whose name has a space; beside them one no picture and one cut."""
    rng = np.random.default_rng(7)
    root = tmp_path / "my faces"
    for label, emotion in {"Beaming": "happy", "down": "sad"}.items():
        (root / label).mkdir(parents=True)
        for number in range(6):
            PIL.Image.fromarray(draw_face(emotion, rng, 48)).save(root / label / f"{number}.png")
    (root / "Beaming/bad.png").write_bytes(b"junk")
    (root / "down/cut.png").write_bytes((root / "down/0.png").read_bytes()[:300])
    return root


def _unreadable(done: Outcome) -> list[str]:
    return [line for line in done.err.splitlines() if line.startswith("unreadable: ")]


def _train(mien: Mien, faces: Path, output: Path) -> Outcome:
    return mien("train", "resnet9-narrow", "--data", faces, "--output", output, "--device", "cpu", *SET)


def test_damaged_pictures_are_named_and_the_others_train(mien_command: Mien, faces: Path, tmp_path: Path) -> None:
    done = _train(mien_command, faces, tmp_path / "run")
    assert done.code == 1
    first, second = _unreadable(done)
    assert first.startswith(f"unreadable: {faces / 'Beaming/bad.png'}: no picture")
    assert second.startswith(f"unreadable: {faces / 'down/cut.png'}: damaged or cut short")
    assert "1 epochs, validation accuracy" in done.out
    assert (tmp_path / "run/best.pt").exists()
    exported = mien_command("export", tmp_path / "run", tmp_path / "model.onnx", "--data", faces)
    assert exported.code == 1
    assert _unreadable(exported) == [first, second]
    assert (tmp_path / "model.onnx").exists()


def test_the_command_to_go_on_with_can_be_typed(mien_command: Mien, faces: Path, tmp_path: Path) -> None:
    for path in ("Beaming/bad.png", "down/cut.png"):
        (faces / path).unlink()
    done = _train(mien_command, faces, tmp_path / "first run")
    assert done.code == 0
    assert f"mien export '{tmp_path / 'first run'}' model.onnx --data '{faces}'\n" in done.err


def test_of_many_damaged_pictures_the_first_are_named(mien_command: Mien, faces: Path, tmp_path: Path) -> None:
    for number in range(NAMED_FAULTS):
        (faces / f"down/bad{number:02}.png").write_bytes(b"junk")
    done = _train(mien_command, faces, tmp_path / "run")
    *named, rest = _unreadable(done)
    assert len(named) == NAMED_FAULTS
    assert rest == f"unreadable: {BAD} more, all named in {tmp_path / 'run/recipe.json'}"


def test_a_sweep_names_them_once(mien_command: Mien, faces: Path, tmp_path: Path) -> None:
    grid = ["--grid", "input_size=16,24", "--seeds", "1"]
    settings = [part for setting in SETTINGS if "size=16" not in setting for part in ("--set", setting)]
    options = ["--data", faces, "--output", tmp_path / "sweep", "--device", "cpu", *grid, *settings]
    done = mien_command("sweep", "resnet9-narrow", *options)
    assert done.code == 1
    assert len(_unreadable(done)) == BAD
    assert (tmp_path / "sweep/sweep.json").exists()


def test_a_preview_names_them(mien_command: Mien, faces: Path, tmp_path: Path) -> None:
    done = mien_command("data", "preview", faces, tmp_path / "sheet.png")
    assert (done.code, len(_unreadable(done))) == (1, BAD)
    assert (tmp_path / "sheet.png").exists()


def test_evaluate_measures_what_training_validated_on(mien_command: Mien, faces: Path, tmp_path: Path) -> None:
    """To the last digits of the log-loss, on pictures that are no squares and in colour."""
    for path in sorted(faces.glob("*/[0-9].png")):
        with PIL.Image.open(path) as picture:
            wide = picture.convert("RGB").resize((90, 60 + 5 * int(path.stem)))
        wide.save(path)
    run, onnx = tmp_path / "run", tmp_path / "model.onnx"
    _train(mien_command, faces, run)
    exported = json.loads(mien_command("export", run, onnx, "--data", faces, "--format", "json").out)
    done = mien_command("evaluate", onnx, "--data", faces, "--output", tmp_path / "figures")
    measured = json.loads((tmp_path / "figures/metrics.json").read_text())
    assert measured["n"] == 2
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert measured["accuracy"] == history[-1]["validation_accuracy"], done.err
    assert measured["log_loss"] == pytest.approx(exported["metrics"]["log_loss"], rel=1e-4)
