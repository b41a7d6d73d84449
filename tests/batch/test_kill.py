"""SIGKILL at any moment loses no row and doubles none."""

import os
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pyarrow.parquet as pq
import pytest

from mien.datasets.packed import Split
from tests.batch.conftest import Score

REPOSITORY = Path(__file__).parents[2]
KILLS = 10


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.soak)])
def test_local_job_killed_ten_times(
    tmp_path: Path, cartoon_faces: Split, tiny_onnx: Path, score: Score, seed: int
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number in range(140):
        PIL.Image.fromarray(cartoon_faces.images[number % 70]).save(source / f"{number:03}.png")
    (source / "070.png").write_bytes(b"broken")
    output = tmp_path / "out.parquet"
    killer = [sys.executable, REPOSITORY / "tests" / "batch" / "killer.py", str(KILLS), str(seed)]
    done = subprocess.run(
        [*killer, source, output, tiny_onnx],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    landed = [int(line) for line in done.stdout.split()]
    assert len(landed) == KILLS
    assert len(set(landed)) > KILLS // 2, "the kills must fall into different moments of the job"
    whole, _ = score(source, tmp_path / "whole.parquet")
    assert pq.read_table(output).equals(whole)
    assert whole.column("source").to_pylist() == [str(source / f"{number:03}.png") for number in range(140)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == ["out.parquet"]
