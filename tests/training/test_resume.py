"""A killed run, resumed, is the run that was never killed: to the bit, on the CPU."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.conftest import MakeEngine

from mien.errors import ConfigError, ModelError
from mien.training import checkpoint, run
from mien.training.distributed import World

DRIVER = """
import os, signal, sys
from pathlib import Path
import torch
from mien.datasets import packed
from mien.training import checkpoint, run
from mien.training.distributed import World
from mien.training.recipe import Recipe

data, output, moment, resume = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "resume"
recipe = Recipe(
    model="vgg-narrow", epochs=3, batch_size=28, warmup_steps=3, mixup=0.2, checkpoint_steps=2, ema=0.9, norm_images=40,
    blur=0.04, noise=0.1,
)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Killer:
    def step(self, epoch, step, steps, *, loss, images):
        if moment == "inside an epoch" and (epoch, step) == (1, 4):
            die()
    def epoch(self, row):
        if moment == "between epochs" and row["epoch"] == 1:
            die()

torch_save, saved = torch.save, 0
def save(table, file):
    global saved
    saved += 1
    if moment == "inside a checkpoint" and saved == 6:
        file.write(b"half a checkpoint")
        file.flush()
        die()
    torch_save(table, file)
torch.save = save

torch.set_num_threads(2)
job = run.Job(recipe, packed.load(data, only=("train", "validation")), output)
run.prepare(job, World(), reporter=Killer(), resume=resume).run()
"""


def drive(data: Path, output: Path, moment: str, *, resume: bool = False) -> int:
    arguments = [sys.executable, "-c", DRIVER, str(data), str(output), moment, "resume" if resume else "start"]
    return subprocess.run(arguments, check=False, timeout=300).returncode


@pytest.fixture(scope="module")
def never_killed(cartoon_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert drive(cartoon_dataset, output, "never") == 0
    return output


@pytest.mark.parametrize("moment", ["inside an epoch", "between epochs", "inside a checkpoint"])
def test_killed_and_resumed_is_never_killed(
    cartoon_dataset: Path, never_killed: Path, tmp_path: Path, moment: str
) -> None:
    output = tmp_path / "killed"
    assert drive(cartoon_dataset, output, moment) == -signal.SIGKILL
    assert drive(cartoon_dataset, output, "never", resume=True) == 0
    ours, theirs = (checkpoint.load(folder / "last.pt") for folder in (output, never_killed))
    for name, value in theirs.model.items():
        assert torch.equal(ours.model[name], value), name
    assert theirs.averaged is not None
    for name, value in theirs.averaged.items():
        assert ours.averaged is not None
        assert torch.equal(ours.averaged[name], value), name
    best = (checkpoint.load(folder / "best.pt") for folder in (output, never_killed))
    assert len({(state.epoch, state.best) for state in best}) == 1
    assert untimed(output) == untimed(never_killed)


def untimed(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in rows]


def test_a_finished_run_resumes_to_itself(make_engine: MakeEngine) -> None:
    first = make_engine()
    first.run()
    again = make_engine(resume=True)
    again.run()
    assert again.history == first.history


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:5000]), "damaged", id="cut short"),
        pytest.param(lambda path: path.write_bytes(b"no checkpoint"), "damaged", id="something else"),
        pytest.param(lambda path: path.unlink(), "does not exist", id="gone"),
        pytest.param(lambda path: torch.save({"model": {}}, path), "damaged", id="no format"),
        pytest.param(lambda path: path.write_bytes(b"\x80\x02cx\ny\xff\n."), "damaged", id="a pickle of no text"),
        pytest.param(lambda path: (path.parent / "recipe.json").write_text("[]"), "is no run", id="no recipe"),
        pytest.param(lambda path: (path.parent / "recipe.json").write_bytes(b"\xff"), "is no run", id="no text"),
    ],
)
def test_a_damaged_checkpoint_is_named(make_engine: MakeEngine, tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    make_engine(epochs=1).run()
    damage(tmp_path / "run" / "last.pt")
    with pytest.raises(ModelError, match=message):
        run.load_model(tmp_path / "run")


def test_a_checkpoint_executes_nothing(make_engine: MakeEngine, tmp_path: Path) -> None:
    make_engine(epochs=1).run()
    path = tmp_path / "run" / "last.pt"
    torch.save({"format": 1, "model": Evil(tmp_path / "touched")}, path)
    with pytest.raises(ModelError, match="damaged"):
        checkpoint.load(path)
    assert not (tmp_path / "touched").exists()


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_weights_files_carry_a_run(make_engine: MakeEngine, tmp_path: Path) -> None:
    make_engine(epochs=1, model="vgg-narrow").run()
    run.save_weights(tmp_path / "run", tmp_path / "half.safetensors")
    (whole, spec), (half, again) = (run.load_model(tmp_path / name) for name in ("run", "half.safetensors"))
    images = torch.rand(4, 1, 48, 48)
    torch.testing.assert_close(half(images), whole(images), atol=2e-3, rtol=0)
    assert (spec.name, spec.labels, spec.input) == (again.name, again.labels, again.input)
    np.testing.assert_allclose(spec.classifier_weights(), again.classifier_weights(), atol=1e-3)


def test_another_number_of_epochs_is_a_new_horizon_that_the_run_keeps(make_engine: MakeEngine, tmp_path: Path) -> None:
    make_engine(epochs=1).run()
    engine = make_engine(epochs=3, resume=True)
    engine.run()
    assert [row["epoch"] for row in engine.history] == [1, 2, 3]
    about = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert about["horizons"] == [{"from_epoch": 1, "epochs": 1}, {"from_epoch": 2, "epochs": 3}]
    with pytest.raises(ConfigError, match="3 epochs behind it"):
        make_engine(epochs=2, resume=True)


def test_a_run_may_end_where_it_stands(make_engine: MakeEngine, tmp_path: Path) -> None:
    make_engine(epochs=3).run_epoch(0)
    make_engine(epochs=1, resume=True).run()
    about = checkpoint.load(tmp_path / "run" / "last.pt").about
    assert about["recipe"]["epochs"] == 1
    assert about["horizons"] == [{"from_epoch": 1, "epochs": 3}, {"from_epoch": 2, "epochs": 1}]


class StopError(Exception):
    """In the place of a kill."""


class Stopper:
    """Breaks off at a step of the second epoch."""

    def step(self, epoch: int, step: int, steps: int, *, loss: float, images: int) -> None:
        if (epoch, step) == (1, 3):
            time.sleep(0.5)
            raise StopError

    def epoch(self, row: Mapping[str, float]) -> None:
        pass


def test_inside_an_epoch_a_run_cannot_end_and_keeps_its_time(make_engine: MakeEngine) -> None:
    with pytest.raises(StopError):
        make_engine(epochs=2, checkpoint_steps=1, reporter=Stopper()).run()
    with pytest.raises(ConfigError, match="epochs = 2 or more"):
        make_engine(epochs=1, checkpoint_steps=1, resume=True)
    stopped = make_engine(epochs=2, checkpoint_steps=1, resume=True)
    before_s = stopped.sums["seconds"]
    assert before_s > 0
    stopped.run()
    row = stopped.history[-1]
    assert row["seconds"] > before_s
    assert row["images_per_s"] < len(stopped.train) / before_s


def test_two_processes_do_not_train_into_one_folder(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from mien.training import distributed, run\n"
        "with run.locked(Path(sys.argv[1]), distributed.World()):\n print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError, match="is being trained into"), run.locked(tmp_path / "run", World()):
            pass
        process.kill()
    with run.locked(tmp_path / "run", World()):
        pass


def test_pictures_that_a_network_cannot_take(make_engine: MakeEngine) -> None:
    with pytest.raises(ConfigError, match="cannot take pictures of 36 x 36"):
        make_engine(model="timm:vit_tiny_patch16_224", input_size=48, early=0.5)
    with pytest.raises(ConfigError, match="a single image of 32 x 32"):
        make_engine(model="timm:resnet18", input_size=32, batch_size=4, accumulate=4)
