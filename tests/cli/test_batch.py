"""`mien batch`: options to one call, exit codes, what it says on the way and at the end."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest

from mien.batch import cluster, local, parts
from mien.batch.plan import Plan
from mien.batch.work import Counts, Done, Work
from mien.cli import batch_progress
from mien.cli.batch_progress import Progress

Run = Callable[..., Any]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Five crops."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), np.uint8)):
        PIL.Image.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def batch(mien_command: Run, tiny_onnx: Path) -> Run:
    """`mien batch` with the tiny model and without detection."""
    return lambda *arguments: mien_command("batch", *arguments, "--model", tiny_onnx, "--detector", "none")


def test_all_well(batch: Run, album: Path, tmp_path: Path) -> None:
    run = batch(album, tmp_path / "out.parquet", "--shard-images", 2, "--threads", 2)
    assert (run.code, run.out) == (0, "")
    sums = "5 images, 5 faces, 0 errors; 5 images scored now"
    assert re.fullmatch(rf"mien: \S+/out.parquet: {sums} in [\d.]+ s, [\d,.]+ a second\n", run.err)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.names[:3] == ["source", "face", "error"]
    assert table.column("source").to_pylist() == [str(album / f"{number}.png") for number in range(5)]


def test_some_errors(batch: Run, album: Path, tmp_path: Path) -> None:
    (album / "3.png").write_bytes(b"")
    run = batch(album, tmp_path / "out.parquet")
    assert run.code == 1
    assert f"mien: {album}/3.png: is empty (0 bytes)" in run.err
    assert "5 images, 4 faces, 1 errors" in run.err
    again = batch(album, tmp_path / "out.parquet", "--resume")
    assert again.code == 1
    assert "0 images scored now, 1 of 1 shards were there" in again.err


def test_heic_is_an_error_and_other_files_are_counted(batch: Run, album: Path, tmp_path: Path) -> None:
    (album / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (album / "notes.md").write_text("no picture")
    (album / "raw.cr2").write_bytes(b"no picture either")
    run = batch(album, tmp_path / "out.parquet")
    assert run.code == 1
    assert f"mien: {album}/phone.HEIC: a HEIC picture, which mien does not read: save it as JPEG or PNG" in run.err
    assert "6 images, 5 faces, 1 errors" in run.err
    assert run.err.endswith(" a second, 2 other files skipped\n")


def test_interrupted_it_says_how_to_go_on(
    batch: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed: list[int] = []
    land = parts.name_of

    def name_of(shard: int) -> str:
        if len(landed) == 2:
            raise KeyboardInterrupt
        landed.append(shard)
        return land(shard)

    with monkeypatch.context() as pressed:
        pressed.setattr(parts, "name_of", name_of)
        run = batch(album, tmp_path / "out.parquet", "--shard-images", 1, "--threads", 1)
    assert (run.code, run.out) == (130, "")
    assert run.err == (
        f"mien: {tmp_path}/out.parquet: interrupted: the same command with --resume goes on from the finished shards\n"
    )
    again = batch(album, tmp_path / "out.parquet", "--shard-images", 1, "--resume")
    assert again.code == 0
    assert "2 of 5 shards were there" in again.err


def test_errors_only_and_no_flood_of_them(batch: Run, album: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(f"{album}/missing-{number}.png" for number in range(30)))
    run = batch(tmp_path / "list.txt", tmp_path / "out.parquet", "--shard-images", 4)
    assert run.code == 2
    assert run.err.count("no such file: check the path") == 20
    assert "mien: and 10 more: see the column `error`" in run.err
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("--engine", "spark"), "spark", id="unknown engine"),
        pytest.param(("--shard-images", "0"), "--shard-images", id="no images in a shard"),
        pytest.param(("--worker-gpus", "-1"), "--worker-gpus", id="less than no GPU"),
        pytest.param(("--address", "auto"), "--address is for --engine ray: add that", id="a cluster's address"),
        pytest.param(("--workers", "3"), "--workers is for --engine ray: add that", id="a cluster's workers"),
        pytest.param(("--worker-cpus", "1"), "--worker-cpus is for --engine ray: add that", id="a cluster's CPUs"),
        pytest.param(("--worker-gpus", "0"), "--worker-gpus is for --engine ray: add that", id="a cluster's GPUs"),
        pytest.param(
            ("--engine", "ray", "--threads", "2"), "--threads is for --engine local: give --worker-cpus", id="threads"
        ),
        pytest.param(("--column", "foo"), "could have a column 'foo': leave out --column", id="column of pictures"),
    ],
)
def test_bad_options(batch: Run, album: Path, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    run = batch(album, tmp_path / "out.parquet", *arguments)
    assert run.code == 2
    assert words in run.err


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".PQ"])
def test_an_ending_of_another_form(batch: Run, album: Path, tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"out{ending}"
    run = batch(album, output)
    assert run.code == 2
    assert f"mien: {output}: mien batch writes Parquet" in run.err
    assert "`mien predict SOURCE --format csv`" in run.err
    assert not output.exists()


def test_nothing_there(batch: Run, tmp_path: Path) -> None:
    run = batch(tmp_path / "nowhere", tmp_path / "out.parquet")
    assert (run.code, run.out) == (2, "")
    assert run.err == f"mien: {tmp_path}/nowhere: no such file or folder: check the path\n"


@pytest.mark.parametrize(
    ("missing", "options"),
    [("pyarrow", ()), ("fsspec", ()), ("ray", ("--engine", "ray"))],
    ids=["pyarrow", "fsspec", "ray"],
)
def test_missing_extra(
    batch: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, options: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    run = batch(album, tmp_path / "out.parquet", *options)
    assert run.code == 2
    assert "pip install" in run.err
    assert "mien[batch]" in run.err


def test_options_of_the_cluster(batch: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[cluster.ClusterSettings] = []

    def fake(work: Work, model: bytes, shards: list[int], *, cluster: cluster.ClusterSettings) -> Iterator[Done]:
        asked.append(cluster)
        yield from local.engine(1)(work, model, shards)

    monkeypatch.setattr(cluster, "run", fake)
    options = ("--address", "ray://head:10001", "--workers", 8, "--worker-cpus", 2, "--worker-gpus", 0.25)
    assert batch(album, tmp_path / "out.parquet", "--engine", "ray", *options).code == 0
    assert asked == [
        cluster.ClusterSettings(address="ray://head:10001", workers=8, worker_cpus=2, worker_gpus=0.25),
    ]


# --- progress ---------------------------------------------------------------------------------------------------------


def news(images: int, *, errors: int = 0, landed: bool = False) -> Done:
    return Done(shard=0, counts=Counts(images, images, errors), landed=landed)


PROGRESS = {
    "by pictures": (Plan("", 10, 1000), 0, [news(100)], 50.0, "100 images, 2.0/s, shard 1 of 10, 8 min left"),
    "with errors": (
        Plan("", 10, 1000),
        0,
        [news(100, errors=3, landed=True)],
        10.0,
        "100 images, 10.0/s, shard 2 of 10, 90 s left, 3 errors",
    ),
    "resumed, by shards": (
        Plan("", 10, 1000),
        6,
        [news(100, landed=True)],
        100.0,
        "100 images, 1.0/s, shard 8 of 10, 5 min left",
    ),
    "archives, nothing landed": (Plan("", 10, None), 0, [news(100)], 50.0, "100 images, 2.0/s, shard 1 of 10"),
    "archives": (
        Plan("", 101, None),
        0,
        [news(90, landed=True)],
        360.0,
        "90 images, 0.2/s, shard 2 of 101, 10.0 h left",
    ),
}


@pytest.mark.parametrize(("plan", "finished", "heard", "seconds", "expected"), PROGRESS.values(), ids=PROGRESS)
def test_progress(plan: Plan, finished: int, heard: list[Done], seconds: float, expected: str) -> None:
    progress = Progress(terminal=False)
    progress.begun(plan, finished)
    for each in heard:
        progress.done(each)
    assert progress.text(seconds) == expected


def test_progress_in_a_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_progress, "LOG_S", 0.0)
    with Progress(terminal=False) as progress:
        progress.listed(1234)
        progress.begun(Plan("", 2, 10), 0)
        progress.done(news(4))
        progress.assembling()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "mien: 1,234 files listed"
    assert lines[1].startswith("mien: 4 images, ")
    assert lines[2] == "mien: writing the table"


def test_progress_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_progress, "TERMINAL_S", 0.0)
    with Progress(terminal=True) as progress:
        progress.begun(Plan("", 2, 10), 0)
        progress.done(news(4))
        assert progress._status is not None
        assert str(progress._status.status).startswith("4 images, ")
    assert capsys.readouterr().out == ""
