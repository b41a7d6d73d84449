"""Training, distilling, sweeps, calibration and records never open the test split."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.command import Outcome

from mien.datasets import packed
from mien.errors import DataError
from mien.training import run
from mien.training.distributed import World
from mien.training.recipe import Recipe

Mien = Callable[..., Outcome]

TINY = ("--set", "epochs=1", "--set", "batch_size=70", "--set", "warmup_steps=0", "--device", "cpu")


@pytest.fixture(scope="module")
def poisoned(cartoon_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed data set whose every test file is damaged: whoever opens one fails."""
    root = tmp_path_factory.mktemp("poisoned") / "data"
    shutil.copytree(cartoon_dataset, root)
    files = list((root / "test").iterdir())
    assert {"images.npy", "labels.npy", "names.json"} <= {file.name for file in files}
    for file in files:
        file.write_bytes(b"poison")
    return root


@pytest.fixture(scope="module")
def trained(poisoned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    recipe = Recipe(model="baseline", epochs=1, batch_size=70, warmup_steps=0)
    run.prepare(run.Job(recipe, packed.load(poisoned, only=("train", "validation")), folder), World()).run()
    return folder


def test_the_poison_works(poisoned: Path) -> None:
    with pytest.raises(DataError, match="damaged"):
        packed.load(poisoned)


def test_evaluation_opens_it_by_name_alone(mien_command: Mien, poisoned: Path, trained: Path) -> None:
    done = mien_command("evaluate", trained, "--data", poisoned, "--split", "test")
    assert (done.code, "damaged" in done.err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["train", "baseline", "--data", "DATA", "--output", "out", *TINY], id="train"),
        pytest.param(
            ["distill", "baseline", "--teacher", "RUN", "--data", "DATA", "--output", "o", *TINY], id="distill"
        ),
        pytest.param(
            ["sweep", "baseline", "--data", "DATA", "--output", "out", "--grid", "lr=0.1,0.01", "--seeds", "1", *TINY],
            id="sweep",
        ),
        pytest.param(["export", "RUN", "model.onnx", "--data", "DATA"], id="calibration"),
        pytest.param(["evaluate", "RUN", "--data", "DATA"], id="evaluate"),
        pytest.param(["results", "add", "RUN", "--data", "DATA", "--device", "cpu"], id="results"),
        pytest.param(["data", "preview", "DATA", "sheet.png"], id="preview"),
    ],
)
def test_never_opened(
    mien_command: Mien,
    poisoned: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    done = mien_command(*({"DATA": poisoned, "RUN": trained}.get(one, one) for one in arguments))
    assert done.code == 0, done.err
