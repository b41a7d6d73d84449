"""Jobs: complete, once, the same whatever the threads and interruptions; refused where they are not the same job."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import PIL.Image
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import mien
from mien.batch import job, local, parts, stores
from mien.batch.job import Settings
from mien.batch.rows import schema_of
from mien.batch.stores import Folder
from mien.batch.work import Counts, Done, Work
from mien.errors import ConfigError, DataError, MienError
from mien.labels import FER7
from mien.pipeline import Analyzer
from tests.batch.conftest import Score, Silent


class PulledPlugError(Exception):
    """Ends an engine in the middle."""


def stops_after(shards: int) -> Any:
    """The local engine, whose power goes when so many shards have landed."""

    def run(work: Work, model: bytes, todo: list[int]) -> Iterator[Done]:
        landed = 0
        for news in local.engine(1)(work, model, todo):
            yield news
            landed += news.landed
            if landed == shards:
                raise PulledPlugError

    return run


def settings(source: Path, output: Path | str, model: Path, **more: Any) -> Settings:
    return Settings(
        **{"source": str(source), "output": str(output), "model": str(model), "detector": "none", "shard_images": 8}
        | more
    )


def interrupt(chosen: Settings, shards: int = 2) -> None:
    with pytest.raises(PulledPlugError):
        job.run(chosen, stops_after(shards), watch=Silent())


# --- the table --------------------------------------------------------------------------------------------------------


def test_photos_with_several_none_and_broken(
    tiny_onnx: Path, grace_hopper: Path, astronaut: Path, tmp_path: Path, score: Score
) -> None:
    """Every column, against the analyzer's own answer."""
    both = np.full((620, 1040, 3), 90, np.uint8)
    for path, left in ((grace_hopper, 0), (astronaut, 520)):
        picture = np.asarray(PIL.Image.open(path).convert("RGB"))
        both[: picture.shape[0], left : left + picture.shape[1]] = picture
    folder = tmp_path / "photos"
    folder.mkdir()
    PIL.Image.fromarray(both).save(folder / "both.png")
    PIL.Image.new("RGB", (200, 150), (90, 90, 90)).save(folder / "wall.png")
    (folder / "x.jpg").write_bytes(b"")
    table, summary = score(folder, tmp_path / "out.parquet", detector="centerface")
    assert summary.total == Counts(images=3, faces=2, errors=1)
    rows = table.to_pylist()
    assert [(Path(row["source"]).name, row["face"], row["error"] is None) for row in rows] == [
        *(("both.png", 1, True), ("both.png", 2, True), ("wall.png", None, True), ("x.jpg", None, False))
    ]
    analyzer = mien.load(tiny_onnx)
    for row, face in zip(rows, analyzer.analyze(folder / "both.png"), strict=False):
        assert face.landmarks is not None
        np.testing.assert_allclose([row[side] for side in ("left", "top", "right", "bottom")], face.box_xyxy)
        np.testing.assert_allclose(row["landmarks"], face.landmarks.reshape(-1))
        np.testing.assert_allclose([row[label] for label in FER7], face.probabilities, atol=1e-6)
        assert (row["emotion"], row["uncertain"]) == (face.emotion, face.uncertain)
        assert row["score"] == pytest.approx(face.score)
        assert row["confidence"] == pytest.approx(face.confidence)
        for name in ("size_px", "blur", "tilt_deg", "turn_ratio"):
            assert row[name] == pytest.approx(getattr(face.quality, name), abs=1e-4)
        assert (row["width"], row["height"]) == (1040, 620)
    assert (rows[2]["width"], rows[2]["emotion"], rows[3]["width"]) == (200, None, None)
    info = analyzer.predictor.info
    for row in rows:
        assert (row["model"], row["model_sha256"]) == (info.name, info.sha256)
        assert (row["mien_version"], row["detector"]) == (mien.__version__, "centerface")
        parameters = json.loads(row["parameters"])
        assert parameters["threshold"] == info.threshold
        assert parameters["detector_score_threshold"] == 0.4
        assert parameters["provider"] == info.provider


def test_columns_are_as_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")
    table = page.partition("## Columns")[2].partition("\n## ")[0]
    documented = [
        name.strip(" `")
        for line in table.splitlines()
        if line.startswith("| `")
        for name in line.split("|")[1].split(",")
    ]
    assert documented == schema_of(FER7).names


def test_others_can_read_it(album: Path, tmp_path: Path, score: Score) -> None:
    table, _ = score(album, tmp_path / "out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet").height == len(table) == 31
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert frame["source"].tolist() == table.column("source").to_pylist()
    assert frame["error"].notna().sum() == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(album: Path, tmp_path: Path, score: Score, threads: int) -> None:
    once, _ = score(album, tmp_path / "a.parquet", threads=2)
    again, _ = score(album, tmp_path / "b.parquet", threads=threads)
    assert again.equals(once)


def test_shards_change_no_row(album: Path, tmp_path: Path, score: Score) -> None:
    small, summary = score(album, tmp_path / "a.parquet", shard_images=3)
    large, whole = score(album, tmp_path / "b.parquet", shard_images=1000)
    assert (summary.shards, whole.shards) == (11, 1)
    exact = [name for name in small.schema.names if pa.types.is_string(small.schema.field(name).type)]
    assert small.select(exact).equals(large.select(exact))
    for label in FER7:
        np.testing.assert_allclose(small.column(label).to_pylist()[:8], large.column(label).to_pylist()[:8], atol=1e-6)


def test_a_folder_of_parts(album: Path, tmp_path: Path, score: Score) -> None:
    whole, _ = score(album, tmp_path / "whole.parquet")
    table, summary = score(album, tmp_path / "folder")
    assert table.equals(whole)
    assert summary.shards == 4
    names = sorted(path.name for path in (tmp_path / "folder").iterdir())
    assert names == ["_job.json", "_plan", *(f"part-{shard:07}.parquet" for shard in range(4))]
    assert ds.dataset(tmp_path / "folder").count_rows() == len(whole)
    assert pl.scan_parquet(tmp_path / "folder" / "*.parquet").collect().height == len(whole)


def test_a_table_in_a_store(album: Path, tmp_path: Path, tiny_onnx: Path, score: Score) -> None:
    memory = fsspec.filesystem("memory")
    try:
        chosen = settings(album, "memory://results/out.parquet", tiny_onnx)
        interrupt(chosen)
        assert len(parts.finished(Folder("memory://results/out.parquet.parts"))) == 2
        resumed = Settings(**{name: getattr(chosen, name) for name in chosen.__slots__} | {"resume": True})
        job.run(resumed, local.engine(2), watch=Silent())
        whole, _ = score(album, tmp_path / "whole.parquet")
        with memory.open("/results/out.parquet") as file:
            assert pq.read_table(file).equals(whole)
        assert [path for path in memory.store if "part-" in path] == []
    finally:
        memory.store.clear()


def test_a_store_of_parts_that_fails(album: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its driver's error, whatever its kind, ends the job with a sentence; it goes on from there."""
    monkeypatch.setattr(stores, "RETRY_WAITS_S", ())
    memory = fsspec.filesystem("memory")
    put, count = type(memory).put_file, [0]

    def put_file(self: Any, source: str, target: str, **options: Any) -> None:
        count[0] += "part-" in target
        if count[0] == 2:
            raise RuntimeError("out of order")  # as little of an OSError as some drivers' errors
        put(self, source, target, **options)

    chosen = settings(album, "memory://failing/out.parquet", tiny_onnx)
    try:
        with monkeypatch.context() as broken:
            broken.setattr(type(memory), "put_file", put_file)
            with pytest.raises(DataError, match=r"the store fails \(out of order\): .* go on with --resume"):
                job.run(chosen, local.engine(1), watch=Silent())
        resumed = job.run(replace(chosen, resume=True), local.engine(1), watch=Silent())
        assert (resumed.resumed_shards, resumed.total.images) == (1, 31)
    finally:
        memory.store.clear()


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["out.parquet", "folder"])
def test_resume_goes_on_from_finished_shards(
    album: Path, tmp_path: Path, tiny_onnx: Path, score: Score, output: str
) -> None:
    chosen = settings(album, tmp_path / output, tiny_onnx)
    interrupt(chosen, shards=3)
    watch = Silent()
    summary = job.run(settings(album, tmp_path / output, tiny_onnx, resume=True), local.engine(1), watch=watch)
    assert (summary.resumed_shards, watch.finished, summary.scored.images) == (3, 3, 31 - 24)
    assert summary.total.images == 31
    whole, _ = score(album, tmp_path / "whole.parquet")
    assert pq.read_table(tmp_path / output).equals(whole)


def test_resume_of_nothing_begins_and_of_a_finished_job_ends(album: Path, tmp_path: Path, score: Score) -> None:
    first, _ = score(album, tmp_path / "out.parquet", resume=True)
    again, summary = score(album, tmp_path / "out.parquet", resume=True)
    assert again.equals(first)
    assert (summary.scored.images, summary.total.images, summary.resumed_shards) == (0, 31, 4)


def test_killed_after_assembling(album: Path, tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is there, its parts are as well."""
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "remove", lambda self, own: (_ for _ in ()).throw(PulledPlugError))
        with pytest.raises(PulledPlugError):
            score(album, tmp_path / "out.parquet")
    _, summary = score(album, tmp_path / "out.parquet", resume=True)
    assert summary.total.images == 31
    assert [path.name for path in tmp_path.glob("out*")] == ["out.parquet"]


def test_what_killed_writers_left_goes_away(album: Path, tmp_path: Path, tiny_onnx: Path, score: Score) -> None:
    interrupt(settings(album, tmp_path / "folder", tiny_onnx))
    (tmp_path / "folder" / ".part-0000003.parquet.0123456789ab.partial").write_bytes(b"half")
    (tmp_path / "folder" / "_try-0000003").write_bytes(b"4")
    score(album, tmp_path / "folder", resume=True)
    assert not [path for path in (tmp_path / "folder").iterdir() if path.name.startswith((".", "_try"))]


def test_what_a_kill_while_assembling_left_goes_away(
    album: Path, tmp_path: Path, tiny_onnx: Path, score: Score
) -> None:
    interrupt(settings(album, tmp_path / "out.parquet", tiny_onnx))
    others = [".out.parquet.mine.partial", ".another.parquet.0123456789ab.partial"]
    for name in (".out.parquet.0123456789ab.partial", *others):
        (tmp_path / name).write_bytes(b"half")
    score(album, tmp_path / "out.parquet", resume=True)
    assert sorted(path.name for path in tmp_path.glob(".*")) == sorted(others)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["film.mkv.partial", "notes.txt"])
def test_a_folder_of_others_is_refused_and_stays(
    album: Path, tmp_path: Path, score: Score, name: str, *, resume: bool
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"mine")
    with pytest.raises(ConfigError, match=f"holds other files \\({name}\\)"):
        score(album, tmp_path / "out", resume=resume)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_what_others_put_beside_the_parts_stays(album: Path, tmp_path: Path, tiny_onnx: Path, score: Score) -> None:
    interrupt(settings(album, tmp_path / "out.parquet", tiny_onnx))
    (tmp_path / "out.parquet.parts" / "notes.md").write_text("mine")
    for _ in range(2):  # what is done may be resumed, too
        score(album, tmp_path / "out.parquet", resume=True)
    assert [path.name for path in (tmp_path / "out.parquet.parts").iterdir()] == ["notes.md"]


CHANGES = {
    "another detector": ({"detector": "centerface"}, "detector was 'none' and is 'centerface'"),
    "another shard size": ({"shard_images": 9}, "the list of sources, --shard-images or --sort"),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("finished", [False, True])
def test_another_job_is_refused(
    album: Path, tmp_path: Path, tiny_onnx: Path, score: Score, change: Any, words: str, finished: bool
) -> None:
    output = tmp_path / "out.parquet"
    if finished:
        score(album, output)
    else:
        interrupt(settings(album, output, tiny_onnx))
    with pytest.raises(ConfigError, match=words):
        score(album, output, resume=True, **change)


def test_another_column_is_refused(album: Path, tmp_path: Path, score: Score) -> None:
    paths = [str(album / "01.png")]
    pq.write_table(pa.table({"path": paths, "image_path": paths}), tmp_path / "in.parquet")
    score(tmp_path / "in.parquet", tmp_path / "out.parquet")
    with pytest.raises(ConfigError, match="column was None and is 'image_path'"):
        score(tmp_path / "in.parquet", tmp_path / "out.parquet", resume=True, column="image_path")


def test_another_list_or_model_is_refused(album: Path, tmp_path: Path, tiny_onnx: Path, score: Score) -> None:
    from tests.tiny_model import write_tiny_model  # noqa: PLC0415 - onnx is slow to import

    interrupt(settings(album, tmp_path / "out.parquet", tiny_onnx))
    with pytest.raises(ConfigError, match="the list of sources"):
        score(album / "deep", tmp_path / "out.parquet", resume=True)
    other = write_tiny_model(tmp_path / "other.onnx", seed=1)
    with pytest.raises(ConfigError, match="sha256 was"):
        score(album, tmp_path / "out.parquet", resume=True, model=str(other))


def test_nothing_is_written_over(album: Path, tmp_path: Path, tiny_onnx: Path, score: Score) -> None:
    score(album, tmp_path / "out.parquet")
    with pytest.raises(ConfigError, match="exists: remove it"):
        score(album, tmp_path / "out.parquet")
    interrupt(settings(album, tmp_path / "folder", tiny_onnx))
    with pytest.raises(ConfigError, match="holds 2 finished shards: go on with --resume"):
        score(album, tmp_path / "folder")
    with pytest.raises(ConfigError, match="holds other files"):
        score(album / "deep", album)
    (tmp_path / "dir.parquet").mkdir()
    with pytest.raises(ConfigError, match="is a folder: name a file"):
        score(album, tmp_path / "dir.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "mine.parquet")
    with pytest.raises(ConfigError, match="is of another job"):
        score(album, tmp_path / "mine.parquet", resume=True)


@pytest.mark.parametrize("output", ["out.parquet", "deep/out.parquet", "parts", "."])
@pytest.mark.parametrize("resume", [False, True])
def test_a_table_among_its_sources_is_refused(tmp_path: Path, score: Score, output: str, resume: bool) -> None:
    """Its parts would be sources of the next run."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"Dear reader")
    with pytest.raises(ConfigError, match="name an OUT outside"):
        score(photos, photos / output, resume=resume)
    assert [path.name for path in photos.iterdir()] == ["a.jpg"]
    score(photos, tmp_path / "photos.parquet", resume=resume)


DAMAGE = {
    "cut short": (lambda data: data[:100], "is damaged"),
    "of another job": (None, "is of another job"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_part_is_named(
    album: Path, tmp_path: Path, tiny_onnx: Path, score: Score, damage: Any, words: str
) -> None:
    interrupt(settings(album, tmp_path / "out.parquet", tiny_onnx))
    part = tmp_path / "out.parquet.parts" / "part-0000001.parquet"
    first = part.with_name("part-0000000.parquet")
    part.write_bytes(first.read_bytes() if damage is None else damage(part.read_bytes()))
    with pytest.raises(DataError, match=rf"part-0000001.parquet {words}.*--resume"):
        score(album, tmp_path / "out.parquet", resume=True)
    assert not (tmp_path / "out.parquet").exists()
    part.unlink()
    table, _ = score(album, tmp_path / "out.parquet", resume=True)
    assert len(table) == 31


def test_shards_that_vanish_are_missed(album: Path, tmp_path: Path, tiny_onnx: Path) -> None:
    """An engine that says it is done and has landed nothing, as a worker with a disk of its own would."""
    chosen = settings(album, tmp_path / "out.parquet", tiny_onnx)
    with pytest.raises(DataError, match="4 shards did not land"):
        job.run(chosen, lambda work, model, shards: (news for news in ()), watch=Silent())


def test_settings_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        Settings(source="a", output="b", shard_images=0)


def test_an_unknown_model_is_refused_before_anything_is_listed(tmp_path: Path, score: Score) -> None:
    with pytest.raises(MienError, match="neither a file nor a name"):
        score(tmp_path / "nowhere", tmp_path / "out.parquet", model="nothing")


# --- one bad picture --------------------------------------------------------------------------------------------------


def test_a_picture_that_makes_analysis_fail_stops_no_other(
    album: Path, tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = score(album, tmp_path / "whole.parquet")
    bad = np.asarray(PIL.Image.open(album / "07.png").convert("RGB"))
    analyze_many = Analyzer.analyze_many

    def fails(self: Analyzer, images: Sequence[Any]) -> Any:
        if any(np.array_equal(photo.image, bad) for photo in images):
            raise ValueError("five points in one")
        return analyze_many(self, images)

    monkeypatch.setattr(Analyzer, "analyze_many", fails)
    table, summary = score(album, tmp_path / "out.parquet")
    assert summary.total == Counts(images=31, faces=29, errors=2)
    errors = dict(zip(table.column("source").to_pylist(), table.column("error").to_pylist(), strict=True))
    assert errors[str(album / "07.png")] == "five points in one"
    kept = ["source", "emotion"]
    others = pa.compute.not_equal(table.column("source"), str(album / "07.png"))
    assert table.filter(others).select(kept).equals(whole.filter(others).select(kept))


def test_a_model_at_fault_ends_the_job(
    album: Path, tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Analyzer, images: Sequence[Any]) -> Any:
        raise mien.errors.ModelError("not finite")

    monkeypatch.setattr(Analyzer, "analyze_many", fails)
    with pytest.raises(mien.errors.ModelError, match="not finite"):
        score(album, tmp_path / "out.parquet")
