"""Memory stays flat: in Python's own heap here, in the whole process in the soak test."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from mien.labels import FER7
from mien.video import table as table_module
from mien.video.frames import Frame
from mien.video.loop import PaceMeter
from mien.video.summary import Summary
from mien.video.timeline import MOST_BINS, Timeline
from tests.video.conftest import coded, tracked

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "video_memory.py"


def test_what_is_collected_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "ROWS_A_GROUP", 64)
    table = table_module.open_table(tmp_path / "faces.csv", FER7, about={})
    timeline, summary, meter = Timeline(FER7), Summary(), PaceMeter()
    image, faces = coded(1), [tracked("happy"), tracked("sad", track=2)]

    def go_on(first: int, last: int) -> int:
        for number in range(first, last):
            frame = Frame(image, float(number), number)
            table.write([table_module.row(frame, face) for face in faces])
            timeline.add(image, frame.time_s, faces)
            summary.add(frame.time_s, faces)
            meter.add(frame.time_s, now_s=frame.time_s + 0.01)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        settled = go_on(0, 384)  # the timeline's bins are as many as there may be
        later = go_on(384, 768)
    finally:
        tracemalloc.stop()
        table.close()
    assert later - settled < 20_000  # 100 bytes a frame and face would be 77,000
    assert max(len(line.bins) for line in timeline._lines.values()) <= MOST_BINS


@pytest.mark.soak
def test_ten_minutes_of_film() -> None:
    done = subprocess.run([sys.executable, str(BENCHMARK)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
