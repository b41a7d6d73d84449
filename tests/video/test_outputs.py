"""All files of a film together: what is there stays where one of them cannot be made."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mien.errors import VideoError
from mien.labels import FER7
from mien.video.frames import SourceInfo
from mien.video.outputs import Outputs, Paths

ANALYZER: Any = SimpleNamespace(labels=FER7, provenance={"name": "tiny"})


@pytest.mark.parametrize(("option", "name"), [("film", "film.mp4"), ("timeline", "in/the/way/timeline.png")])
def test_an_old_table_outlives_what_cannot_be_made(tmp_path: Path, option: str, name: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text("of yesterday")
    (tmp_path / "film.mp4").mkdir()
    (tmp_path / "in").write_text("no folder")
    paths = Paths(table=table, **{option: tmp_path / name})
    with pytest.raises(VideoError, match="cannot be written"):
        Outputs(paths, ANALYZER, SourceInfo(name="source.mp4"))
    assert table.read_text() == "of yesterday"
