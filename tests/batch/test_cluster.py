"""The Ray engine: the local engine's rows, whoever is killed; and what it refuses."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mien import __version__
from mien.batch import cluster, parts
from mien.batch.cluster import ClusterSettings, ShardWorker
from mien.batch.stores import Folder
from mien.batch.work import PLAN_FILE, TRY_PREFIX, Counts, Done, Work
from mien.datasets.packed import Split
from mien.errors import ConfigError, DataError
from tests.batch.conftest import Score

REPOSITORY = Path(__file__).parents[2]
SHARD_IMAGES = 4
WORKER = b"ray::MapWorker"  # what Ray calls the process of an actor
QUICK = {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}  # 15 steps nicer, workers starve beside other programs

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="finds Ray's processes in /proc")


# --- a job whose processes can be killed ------------------------------------------------------------------------------


def parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def command_line(pid: int) -> bytes:
    """Empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def below(pid: int) -> dict[int, bytes]:
    """The processes that a process has started, and those that they have, with their command lines."""
    parents = {int(path.name): parent_of(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found: dict[int, bytes] = {}
    ring = {pid}
    while ring := {child for child, parent in parents.items() if parent in ring}:
        found |= {child: command_line(child) for child in ring}
    return found


@dataclass
class Job:
    """`mien batch --engine ray`, in a process of its own."""

    source: Path
    output: Path
    model: Path
    home: Path
    workers: int = 1
    orphans: dict[int, bytes] = field(default_factory=dict)  # of killed drivers: processes and their command lines

    def start(self) -> subprocess.Popen[str]:
        """Begin or go on."""
        command = [sys.executable, "-m", "mien", "batch", self.source, self.output, "--model", self.model, "--resume"]
        options = ["--detector", "none", "--shard-images", str(SHARD_IMAGES)]
        return subprocess.Popen(
            [*command, *options, "--engine", "ray", "--workers", str(self.workers)],
            cwd=REPOSITORY,
            env={**os.environ, **QUICK, "HOME": str(self.home), "RAY_AUTH_MODE": "disabled"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def landed(self) -> int:
        """Shards so far; a huge number when the table is there."""
        return 10**9 if self.output.exists() else len(parts.finished(Folder(f"{self.output}.parts")))

    def wait_for_more(self, driver: subprocess.Popen[str], than: int) -> int:
        """Until another shard has landed."""
        ends_s = time.monotonic() + 300
        while (now := self.landed()) <= than:
            if driver.poll() is not None or time.monotonic() > ends_s:
                raise AssertionError(f"no shard after {than}: {driver.stderr and driver.stderr.read()}")
            time.sleep(0.01)
        return now


def kill_driver(driver: subprocess.Popen[str]) -> dict[int, bytes]:
    """SIGKILL; Ray's own processes, which are returned, end a minute later by themselves."""
    others = below(driver.pid)
    driver.kill()
    driver.communicate()
    return others


def kill_a_worker(driver: subprocess.Popen[str]) -> bool:
    """SIGKILL one actor; False where none lives just now."""
    for pid, line in below(driver.pid).items():
        if line.startswith(WORKER):
            os.kill(pid, signal.SIGKILL)
            return True
    return False


@pytest.fixture
def ray_job(tmp_path: Path, cartoon_faces: Split, tiny_onnx: Path) -> Iterator[Job]:
    """Over 200 crops, one of them broken, in 50 shards."""
    source = tmp_path / "in"
    source.mkdir()
    for number in range(200):
        PIL.Image.fromarray(cartoon_faces.images[number % 70]).save(source / f"{number:03}.png")
    (source / "070.png").write_bytes(b"broken")
    (tmp_path / "home").mkdir()
    job = Job(source, tmp_path / "out.parquet", tiny_onnx, tmp_path / "home")
    yield job
    for pid, line in job.orphans.items():
        if command_line(pid) == line:  # else it is gone, or its number is another's
            os.kill(pid, signal.SIGKILL)


@on_linux
@pytest.mark.parametrize(
    ("driver_kills", "worker_kills", "workers"),
    [pytest.param(1, 1, 1, id="once each"), pytest.param(10, 10, 2, id="ten times each", marks=pytest.mark.soak)],
)
def test_killed_drivers_and_workers_lose_nothing(
    ray_job: Job, tmp_path: Path, score: Score, driver_kills: int, worker_kills: int, workers: int
) -> None:
    ray_job.workers = workers
    landed = 0
    for _ in range(driver_kills):
        driver = ray_job.start()
        landed = ray_job.wait_for_more(driver, landed)
        ray_job.orphans |= kill_driver(driver)
    assert landed < 50, "the job was done before the last kill"
    driver = ray_job.start()
    killed = 0
    while killed < worker_kills:
        landed = ray_job.wait_for_more(driver, landed)
        killed += kill_a_worker(driver)
    assert landed < 50, "the job was done before the last kill"
    data, messages = driver.communicate()
    assert (driver.returncode, data) == (1, ""), messages  # one picture is broken
    assert "200 images, 199 faces, 1 errors" in messages
    assert "Traceback" not in messages
    whole, _ = score(ray_job.source, tmp_path / "whole.parquet", shard_images=SHARD_IMAGES)
    assert pq.read_table(ray_job.output).equals(whole)
    assert len(whole) == 200


@on_linux
@pytest.mark.soak
def test_a_node_that_goes_in_the_middle_loses_nothing(ray_job: Job, tmp_path: Path, score: Score) -> None:
    """A cluster of three nodes on this machine, two with a worker; one of them goes away when shards have landed."""
    script = REPOSITORY / "tests" / "batch" / "lose_node.py"
    arguments = [ray_job.source, ray_job.output, ray_job.model, SHARD_IMAGES]
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **QUICK, "PYTHONPATH": str(REPOSITORY), "HOME": str(ray_job.home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    (landed,) = re.findall(r"removed a node: (\d+) shards had landed", done.stdout)  # beside Ray's own lines
    assert int(landed) < 50, "the job was done before the node went"
    whole, _ = score(ray_job.source, tmp_path / "whole.parquet", shard_images=SHARD_IMAGES)
    assert pq.read_table(ray_job.output).equals(whole)


# --- what can be told without Ray's processes -------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path: Path) -> Work:
    folder = tmp_path / "out.parquet.parts"
    folder.mkdir()
    (folder / PLAN_FILE).write_bytes(b"")
    return Work(
        job="j",
        folder=str(folder),
        shards=1,
        root=str(tmp_path),
        column=None,
        detector="none",
        version=__version__,
        provenance={},
        parameters={},
        witness=str(tmp_path),
    )


REFUSALS = {
    "another mien": ({"version": "0.0.1"}, "install the same on all nodes"),
    "no shared folder": ({"folder": "/nowhere/out.parts"}, "OUT must be in a place that all nodes share"),
    "no shared source": ({"witness": "/nowhere/a.jpg"}, "SOURCE must be in a place that all nodes share"),
}


@pytest.mark.parametrize(("change", "words"), REFUSALS.values(), ids=REFUSALS)
def test_a_node_that_cannot_do_the_work_says_so(work: Work, change: dict[str, Any], words: str) -> None:
    cluster.check_node(work, Folder(work.folder))
    changed = replace(work, **change)
    with pytest.raises(DataError, match=words):
        cluster.check_node(changed, Folder(changed.folder))


class Crashing:
    """An engine whose process dies before a shard has landed."""

    def run(self, shards: list[int]) -> Iterator[Done]:
        raise KeyboardInterrupt


class Landing:
    """An engine that lands empty shards."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def run(self, shards: list[int]) -> Iterator[Done]:
        for shard in shards:
            counts = Counts(images=3, faces=2, errors=1)
            schema = pa.schema([("source", pa.string())])
            with parts.table_in(Folder(self.work.folder), parts.name_of(shard), schema, rows=9) as table:
                table.close(parts.footer(self.work.job, shard, counts))
            yield Done(shard=shard, counts=counts, named=("a: b\nc",), landed=True)


def worker_with(work: Work, engine: object) -> ShardWorker:
    worker = ShardWorker.__new__(ShardWorker)
    worker._work, worker._folder, worker._engine = work, Folder(work.folder), engine  # type: ignore[assignment]
    return worker


def test_a_shard_that_ends_worker_after_worker_is_refused(work: Work) -> None:
    worker = worker_with(work, Crashing())
    for _ in range(cluster.MAX_TRIES):
        with pytest.raises(KeyboardInterrupt):
            worker({"shard": [3]})
    with pytest.raises(DataError, match="shard 3 has ended 10 workers"):
        worker({"shard": [3]})


def test_a_shard_that_has_landed_is_not_scored_again(work: Work) -> None:
    told = worker_with(work, Landing(work))({"shard": [3, 4]})
    assert told == {"shard": [3, 4], "images": [3, 3], "faces": [2, 2], "errors": [1, 1], "named": ["a: b c", "a: b c"]}
    assert not list(Path(work.folder).glob(f"{TRY_PREFIX}*"))
    again = worker_with(work, Crashing())({"shard": [3]})
    assert (again["images"], again["errors"], again["named"]) == ([3], [1], [""])


@pytest.mark.parametrize("options", [{"workers": 0}, {"worker_cpus": 0}, {"worker_gpus": -0.5}], ids=str)
def test_settings_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be 1 or more"):
        ClusterSettings(**options)


class FakeRay:
    """A cluster's resources."""

    def __init__(self, **resources: float) -> None:
        self._resources = resources

    def cluster_resources(self) -> dict[str, float]:
        return self._resources


@pytest.mark.parametrize(
    ("resources", "settings", "expected"),
    [
        pytest.param({"CPU": 16}, ClusterSettings(), 16, id="a worker a CPU"),
        pytest.param({"CPU": 16}, ClusterSettings(worker_cpus=3), 5, id="some CPUs a worker"),
        pytest.param({"CPU": 16, "GPU": 1}, ClusterSettings(worker_gpus=0.1), 10, id="ten workers share a GPU"),
        pytest.param({"CPU": 4, "GPU": 8}, ClusterSettings(worker_gpus=1), 4, id="CPUs are the limit"),
        pytest.param({"CPU": 4}, ClusterSettings(worker_gpus=1), None, id="no GPU"),
    ],
)
def test_room(resources: dict[str, float], settings: ClusterSettings, expected: int | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError, match="no worker fits: it needs 1 CPUs and 1 GPUs"):
            cluster._room(FakeRay(**resources), settings)
    else:
        assert cluster._room(FakeRay(**resources), settings) == expected


def test_the_sentence_inside_rays_wrapping_is_found() -> None:
    inner = DataError("node 7 does not see it")
    outer = RuntimeError("task failed")
    outer.__cause__ = RuntimeError("actor died")
    outer.__cause__.cause = inner  # type: ignore[attr-defined]
    assert cluster._explained(outer, [1]) is inner
    assert "shard 1 and 2 others do not land: task failed" in str(
        cluster._explained(RuntimeError("task failed"), [1, 2, 3])
    )


def test_work_and_folders_travel(work: Work) -> None:
    assert pickle.loads(pickle.dumps(work)) == work
    assert pickle.loads(pickle.dumps(Folder("memory://a/b"))).place("c") == "memory://a/b/c"
