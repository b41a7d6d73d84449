"""Pictures in a folder, good and bad, and a job over them without a command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mien.batch import job, local
from mien.batch.job import Settings, Summary
from mien.batch.plan import Plan
from mien.batch.work import Done
from mien.datasets.packed import Split

Score = Callable[..., tuple[pa.Table, Summary]]


class Silent:
    """Sees a job go on; keeps the news."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.finished = 0
        self.news: list[Done] = []
        self.assembled = False

    def listed(self, units: int) -> None:
        pass

    def begun(self, work: Plan, finished: int) -> None:
        self.plan, self.finished = work, finished

    def done(self, news: Done) -> None:
        self.news.append(news)

    def assembling(self) -> None:
        self.assembled = True


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory, cartoon_faces: Split) -> Path:
    """30 face crops in two folders, and one file that is no picture; read-only."""
    folder = tmp_path_factory.mktemp("album")
    for number, image in enumerate(cartoon_faces.images[:30]):
        path = folder / ("deep" if number % 3 == 0 else ".") / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(image).save(path)
    (folder / "broken.jpg").write_bytes(b"Dear reader")
    (folder / "notes.txt").write_text("no picture by its name")
    return folder


@pytest.fixture
def score(tiny_onnx: Path) -> Score:
    """`score(source, output, **settings)`: table and summary of a job with the tiny model, without detection."""

    def run(source: object, output: Path | str, *, threads: int = 2, **settings: Any) -> tuple[pa.Table, Summary]:
        chosen = {"model": str(tiny_onnx), "detector": "none", "shard_images": 8, **settings}
        summary = job.run(
            Settings(source=str(source), output=str(output), **chosen), local.engine(threads), watch=Silent()
        )
        return pq.read_table(output), summary

    return run
