"""`mien sweep`: the table on stdout, the trials on stderr."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.command import Outcome

Mien = Callable[..., Outcome]

TINY = ("--set", "epochs=1", "--set", "batch_size=70", "--set", "warmup_steps=0", "--device", "cpu")


def test_sweep(mien_command: Mien, cartoon_dataset: Path, tmp_path: Path) -> None:
    options = ("--data", cartoon_dataset, "--output", tmp_path / "out", "--grid", "lr=0.001", "--seeds", "2", *TINY)
    done = mien_command("sweep", "baseline", *options)
    assert done.code == 0, done.err
    head, row = done.out.strip().splitlines()
    assert head.split() == ["lr", "seeds", "accuracy", "macro-F1", "log-loss"]
    assert row.split()[:2] == ["0.001", "2"]
    assert row.count("±") == 3
    assert "trial 2 of 2: lr=0.001, seed 1" in done.err
    again = mien_command("sweep", "baseline", *options, "--format", "json")
    assert json.loads(again.out) == json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert "trial" not in again.err  # finished ones are kept


@pytest.mark.parametrize(
    ("grid", "match"),
    [
        pytest.param("speed=1,2", "unknown keys speed", id="no such setting"),
        pytest.param("lr", "key=a,b,c", id="no values"),
    ],
)
def test_faults_are_sentences(mien_command: Mien, cartoon_dataset: Path, tmp_path: Path, grid: str, match: str) -> None:
    done = mien_command("sweep", "baseline", "--data", cartoon_dataset, "--output", tmp_path / "out", "--grid", grid)
    assert (done.code, match in done.err) == (2, True)
    assert not (tmp_path / "out").exists()
