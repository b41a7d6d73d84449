"""Two processes learn what one learns: the batch size is the total one, and only rank 0 writes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tests.training.conftest import MakeEngine
from torch import nn

from mien.datasets.packed import Dataset
from mien.errors import ConfigError
from mien.training import checkpoint, distributed, run
from mien.training.distributed import World
from mien.training.recipe import Recipe

SETTINGS = [
    "model=baseline",
    "dropout=0.0",
    "epochs=2",
    "batch_size=28",
    "warmup_steps=0",
    "mixup=0.2",
    "optimizer=sgd",  # Adam divides by the gradient's size, so rounding of tiny gradients shows in the weights
    "lr=0.005",
    "precision=fp32",
]


@pytest.fixture(scope="module")
def runs(cartoon_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("distributed")
    found = {}
    for processes in (1, 2):
        output = folder / str(processes)
        found[processes] = output
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "mien"]
        order = ["train", "baseline", "--data", str(cartoon_dataset), "--output", str(output), "--device", "cpu"]
        changes = [word for setting in SETTINGS for word in ("--set", setting)]
        done = subprocess.run(
            [sys.executable, *launch, *order, *changes], check=False, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("validation accuracy") == 1  # only rank 0 speaks
    return found


def test_weights_are_equal_to_a_millionth(runs: dict[int, Path]) -> None:
    one, two = (checkpoint.load(runs[n] / "last.pt") for n in (1, 2))
    for name, value in one.model.items():
        torch.testing.assert_close(two.model[name], value, atol=1e-6, rtol=0)


def test_the_history_counts_all_processes(runs: dict[int, Path]) -> None:
    one, two = (checkpoint.load(runs[n] / "last.pt").history for n in (1, 2))
    for ours, theirs in zip(one, two, strict=True):
        assert theirs["train_loss"] == pytest.approx(ours["train_loss"], abs=1e-5)
        assert theirs["train_accuracy"] == pytest.approx(ours["train_accuracy"], abs=1e-9)


def test_sums_of_an_unfinished_epoch_are_those_of_all(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes stop inside an epoch and go on: rank 0 keeps what both had, rank 1 begins with nothing."""
    engine = make_engine()
    engine.sums = {"loss": 1.5, "correct": 2.0, "n": 3.0, "seconds": 8.0}
    theirs = torch.tensor([0.5, 1.0, 4.0, 0.0], dtype=torch.float64)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda values: values.add_(theirs))
    engine.world = World(rank=0, size=2)
    state = engine.state()
    assert state.sums == {"loss": 2.0, "correct": 3.0, "n": 7.0, "seconds": 8.0}
    assert engine.sums["n"] == 3.0
    engine.restore(state)
    assert engine.sums == state.sums
    engine.world = World(rank=1, size=2)
    engine.restore(state)
    assert engine.sums == {"loss": 0.0, "correct": 0.0, "n": 0.0, "seconds": 0.0}


class Parallel(nn.Module):
    """In the place of DistributedDataParallel: the network inside, and how often it was to wait."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside, self.waited = inside, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inside(images)
        return found

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self.waited += 1
        yield


@pytest.mark.parametrize("compiled", [False, True], ids=["as it is", "compiled"])
def test_gradients_are_exchanged_once_a_batch(
    cartoons: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    """A process with fewer pieces than another would wait for ever if each piece were exchanged."""
    monkeypatch.setattr("mien.training.engine.DistributedDataParallel", Parallel)
    monkeypatch.setattr(torch, "compile", nn.Sequential)
    recipe = Recipe(accumulate=4, compile=compiled)
    engine = run.prepare(run.Job(recipe, cartoons, tmp_path / "run"), World(rank=0, size=2))
    engine.begin_sums()
    engine.backward(torch.arange(32))
    assert isinstance(engine.forward, Parallel)
    assert (engine.forward.inside is engine.model) is not compiled
    assert engine.forward.waited == 3


@pytest.mark.parametrize("images", [1, 2])
def test_a_process_without_work_adds_nothing(
    cartoons: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    """The kernel regulariser counts once a batch, on however many processes."""
    monkeypatch.setattr("mien.training.engine.DistributedDataParallel", Parallel)
    monkeypatch.setattr("mien.training.losses.l2_penalty", lambda model: 1000 * next(model.parameters()).sum())
    recipe, shares = Recipe(l2=1.0), []
    for rank in range(2):
        engine = run.prepare(run.Job(recipe, cartoons, tmp_path / str(rank)), World(rank=rank, size=2))
        engine.begin_sums()
        engine.backward(torch.arange(images))
        gradient = next(engine.model.parameters()).grad
        assert gradient is not None
        shares.append(float(gradient.mean()))
    assert sum(shares) / 2 == pytest.approx(1000, rel=0.01)


def test_slices_cover_a_batch_once() -> None:
    rows = [i for rank in range(3) for i in range(20)[World(rank, 3).rows(20)]]
    assert rows == list(range(20))


@pytest.mark.parametrize("device", ["quantum", "cuda:99"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ConfigError, match=f"--device {device}: not usable here"):
        distributed.pick_device(device)
