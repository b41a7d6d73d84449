"""The local engine's bounds: what waits, what runs at a time, what it leaves as it was."""

import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import PIL.Image
import pytest

from mien.batch import analysis, job, local, parts, plan
from mien.batch.analysis import GROUP_BYTES, GROUP_IMAGES
from mien.batch.local import ordered
from mien.batch.reading import Item
from mien.batch.sources import FILE, PARQUET, TAR, Unit
from mien.faces import whole
from tests.batch.conftest import Score, Silent


def test_ordered_keeps_order_and_takes_no_more_than_it_may() -> None:
    taken: list[int] = []
    most = 0

    def inputs() -> object:
        for number in range(50):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(3) as pool:
        results = ordered(pool, lambda n: (time.sleep(0.001 * (n % 3)), n)[1], inputs(), ahead=4)  # type: ignore[arg-type, func-returns-value]
        for place, result in enumerate(results):
            assert result == place
            most = max(most, len(taken) - place)
    assert most == 5  # four that wait, and the one whose turn it is


def test_ordered_passes_faults_on_and_cancels_the_rest() -> None:
    started: list[int] = []

    def call(number: int) -> int:
        started.append(number)
        if number == 2:
            raise ValueError("two")
        time.sleep(0.01)
        return number

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="two"):
        list(ordered(pool, call, range(100), ahead=8))
    assert max(started) < 12


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param([1] * 3, [3], id="few"),
        pytest.param([1] * GROUP_IMAGES, [GROUP_IMAGES, 0], id="a full group, and the end of the shard"),
        pytest.param([1] * (GROUP_IMAGES + 1), [GROUP_IMAGES, 1], id="one more"),
        pytest.param([GROUP_BYTES // 2] * 5, [2, 2, 1], id="large pictures wait in small groups"),
        pytest.param([], [0], id="an empty archive is a shard all the same"),
    ],
)
def test_groups(sizes: list[int], expected: list[int]) -> None:
    found = list(analysis.groups(7, (Item("a", data=bytes(size)) for size in sizes)))
    assert [len(group.items) for group in found] == expected
    assert [group.ends_shard for group in found] == [False] * (len(found) - 1) + [True]
    assert {group.shard for group in found} == {7}


def file(name: str) -> Unit:
    return Unit(FILE, name)


def rows(first: int, images: int, name: str = "a") -> Unit:
    return Unit(PARQUET, name, first, first + 1, images=images, state="9")


CUTS = {
    "files": ([file(n) for n in "abcde"], 2, [["a", "b"], ["c", "d"], ["e"]]),
    "a tar is a shard": ([file("a"), Unit(TAR, "t", images=None), file("b")], 9, [["a"], ["t"], ["b"]]),
    "row groups of a file are joined": (
        [rows(0, 3), rows(1, 3), rows(2, 3)],
        5,
        [[Unit(PARQUET, "a", 0, 2, 6, "9")], [Unit(PARQUET, "a", 2, 3, 3, "9")]],
    ),
    "those of two files are not": ([rows(0, 1), rows(0, 1, "b")], 5, [["a", "b"]]),
    "nothing": ([], 5, []),
}


@pytest.mark.parametrize(("units", "size", "expected"), CUTS.values(), ids=CUTS)
def test_cut(units: list[Unit], size: int, expected: list[list[object]]) -> None:
    shards = list(plan.cut(units, shard_images=size))
    assert [
        [unit if isinstance(wanted, Unit) else unit.address for unit, wanted in zip(shard, want, strict=True)]
        for shard, want in zip(shards, expected, strict=True)
    ] == expected


def test_a_plan_on_disk(tmp_path: Path) -> None:
    """Any shard is read alone; names that are no Unicode come back."""
    shards = [[file(f"{n}-\udcff.png"), file("größe.png")] for n in range(20)]
    planned = plan.write(tmp_path / "plan", shards)
    assert (planned.shards, planned.images) == (20, 40)
    for number in (0, 7, 19):
        assert plan.read(str(tmp_path / "plan"), number, shards=20) == shards[number]
    assert plan.write(tmp_path / "again", shards) == planned
    assert plan.write(tmp_path / "other", shards[:-1]).sha256 != planned.sha256
    assert plan.write(tmp_path / "tars", [[Unit(TAR, "a", images=None)]]).images is None


def test_a_plan_of_many_files_takes_no_memory(tmp_path: Path) -> None:
    """20,000 paths are 4 MB as objects."""
    tracemalloc.start()
    try:
        plan.write(tmp_path / "plan", plan.cut((file(f"{n:0120}.png") for n in range(20_000)), shard_images=100))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000


def test_threads_of_opencv_come_back_and_none_run_beneath(
    album: Path, tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[int, str]] = set()
    detect = whole.WholePicture.detect

    def spy(self: whole.WholePicture, images: object) -> object:
        seen.add((cv2.getNumThreads(), threading.current_thread().name.rpartition("_")[0]))
        return detect(self, images)  # type: ignore[arg-type]

    monkeypatch.setattr(whole.WholePicture, "detect", spy)
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        score(album, tmp_path / "out.parquet")
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
    assert seen == {(1, "mien-analyse")}


@pytest.mark.parametrize("fault", ["disk", "watch"])
def test_after_an_error_nothing_in_line_is_scored(
    album: Path, tmp_path: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Four groups are ahead of two threads: one is done, two may be in work, the fourth is left."""
    begun: list[int] = []
    failed = threading.Event()
    score = analysis.Scorer.score

    def slow(self: analysis.Scorer, group: analysis.Group) -> analysis.Scores:
        begun.append(group.shard)
        if len(begun) > 1:
            failed.wait(10)
            time.sleep(0.2)  # the error has to reach the end of the engine
        return score(self, group)

    def full(*_: object, **__: object) -> None:
        failed.set()
        raise OSError("no space left")

    monkeypatch.setattr(analysis.Scorer, "score", slow)
    monkeypatch.setattr(*((parts.TableWriter, "write", full) if fault == "disk" else (Silent, "done", full)))
    chosen = job.Settings(
        source=str(album), output=str(tmp_path / "out"), model=str(tiny_onnx), detector="none", shard_images=4
    )
    with pytest.raises(OSError, match="no space left"):
        job.run(chosen, local.engine(2), watch=Silent())
    assert len(begun) <= 3
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("mien-analyse")]


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat(tmp_path: Path, tiny_onnx: Path) -> None:
    """Peak resident memory of 4,000 pictures of a megapixel is that of 400, within 20 MB."""
    PIL.Image.effect_noise((1000, 1000), 50).convert("RGB").save(tmp_path / "a.jpg")
    code = (
        "import sys; from pathlib import Path; "
        "from mien.batch import job, local; from tests.batch.conftest import Silent; "
        "s = job.Settings(source=sys.argv[1], output=sys.argv[2], model=sys.argv[3], detector='none'); "
        "job.run(s, local.engine(2), watch=Silent()); "
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    peaks_kb = []
    for count in (400, 4000):
        (tmp_path / "list.txt").write_text(f"{tmp_path}/a.jpg\n" * count)
        arguments = [tmp_path / "list.txt", tmp_path / f"{count}.parquet", tiny_onnx]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        peaks_kb.append(int(done.stdout))
    assert peaks_kb[1] - peaks_kb[0] < 20_000, peaks_kb
