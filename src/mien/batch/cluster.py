"""The engine of many processes: Ray Data maps shards over actors, each of which loads the model once.

Only the numbers of shards travel through Ray. A worker reads a shard's pictures where they are and lands its rows
itself, so memory stays flat on every node, whatever the sizes of shards and pictures. A shard that a dying worker or
node leaves is scored again by another one; one that has landed is not.
"""

import logging
import os
import socket
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien import __version__
from mien.batch import parts, stores
from mien.batch.local import NAMED, LocalEngine
from mien.batch.stores import Folder
from mien.batch.work import PLAN_FILE, TRY_PREFIX, Counts, Done, Work
from mien.errors import ConfigError, DataError, MienError, require

MAX_BLOCKS = 20_000  # of shards, in Ray's own tables at a time
MAX_TRIES = 10  # of a shard whose workers die: Ray tries for ever, and a picture may be what ends them
OBJECT_STORE_BYTES = 128 << 20  # of a private Ray: shards travel as numbers, a model has some megabytes
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming behaviour: workers without GPUs keep their environment
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Where to run, and how much of it a worker takes."""

    address: str | None = None  # of a Ray cluster; else $RAY_ADDRESS, else a private Ray on this machine
    workers: int | None = None  # at most; as many as the CPUs (and GPUs) there are allow
    worker_cpus: int = 1
    worker_gpus: float = 0.0  # 0.25: four workers share a GPU

    def __post_init__(self) -> None:
        if self.worker_cpus < 1 or (self.workers is not None and self.workers < 1) or self.worker_gpus < 0:
            raise ConfigError("workers and their CPUs must be 1 or more, their GPUs 0 or more")


class ShardWorker:
    """An actor: a loaded model that scores shards by their numbers."""

    def __init__(self, work: Work, model_ref: list[Any], threads: int) -> None:
        """Check that this node sees what the driver saw, and load the model.

        Raises:
            DataError: the node does not share the job's folder or its source, or has another mien.
        """
        ray = require("ray", "batch")
        self._work = work
        self._folder = Folder(work.folder)
        check_node(work, self._folder)
        self._stack = ExitStack()
        self._engine = self._stack.enter_context(LocalEngine(work, ray.get(model_ref[0]), threads=threads))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Land the shards of a batch, and tell the counts of each."""
        shards = [int(shard) for shard in batch["shard"]]
        told = {shard: self._landed(shard) for shard in shards}
        return {
            "shard": shards,
            "images": [told[shard].counts.images for shard in shards],
            "faces": [told[shard].counts.faces for shard in shards],
            "errors": [told[shard].counts.errors for shard in shards],
            "named": ["\n".join(told[shard].named) for shard in shards],
        }

    def _landed(self, shard: int) -> "_Told":
        """Score a shard, unless a worker that then died has; one that ends worker after worker is refused."""
        told = _Told()
        if self._folder.has(parts.name_of(shard)):
            told.counts = parts.counts_of(self._folder, [shard], job=self._work.job)
            return told
        name = f"{TRY_PREFIX}{shard:07}"
        tries = 1 + int(self._folder.text(name) or 0)
        if tries > MAX_TRIES:
            raise DataError(
                f"shard {shard} has ended {MAX_TRIES} workers: a picture in it may crash a decoder; "
                "see Ray's logs, and go on with --resume"
            )
        with self._folder.writing(name) as path:
            Path(path).write_text(str(tries), encoding="ascii")
        for news in self._engine.run([shard]):
            told.hear(news)
        self._folder.delete(name)
        return told


class _Told:
    """News of a shard, added up."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.named: list[str] = []

    def hear(self, news: Done) -> None:
        """Add one."""
        self.counts += news.counts
        self.named += [text.replace("\n", " ") for text in news.named[: NAMED - len(self.named)]]


def check_node(work: Work, folder: Folder) -> None:
    """Whether this machine can do the work.

    Raises:
        DataError: it has another mien, or does not see the job's folder or source.
    """
    node = socket.gethostname()
    if work.version != __version__:
        raise DataError(f"{node} has mien {__version__}, the driver {work.version}: install the same on all nodes")
    try:
        stores.size_of(folder.place(PLAN_FILE))
    except OSError as error:
        raise DataError(
            f"{node} does not see {work.folder} ({error}): OUT must be in a place that all nodes share"
        ) from error
    if work.witness is not None and not Path(work.witness).exists():
        raise DataError(f"{node} does not see {work.witness}: SOURCE must be in a place that all nodes share")


def run(work: Work, model: bytes, shards: list[int], *, cluster: ClusterSettings) -> Generator[Done]:
    """Score shards on a cluster, in rounds until all have landed.

    Raises:
        MienError: a worker cannot begin, or a shard ends every worker that tries it.
    """
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    ray = require("ray", "batch")
    require("ray.data", "batch")
    _connect(ray, cluster)
    try:
        folder = Folder(work.folder)
        model_ref = ray.put(model)
        missing = list(shards)
        while missing:
            fault: Exception | None = None
            try:
                yield from _round(ray, work, [model_ref], missing, cluster)
            except ray.exceptions.RayError as error:
                fault = error
            left = sorted(set(missing) - parts.finished(folder))
            if len(left) == len(missing):
                raise _explained(fault, left) from fault
            missing = left
    finally:
        ray.shutdown()


def _connect(ray: Any, cluster: ClusterSettings) -> None:
    address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        cpus = cluster.workers * cluster.worker_cpus if cluster.workers else None
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES, "num_cpus": cpus}
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise ConfigError(f"Ray at {address}: {error}: check --address, or leave it out") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # other shards go on; the next round tries what is missing


def _round(ray: Any, work: Work, model_ref: list[Any], shards: list[int], cluster: ClusterSettings) -> Iterator[Done]:
    """One pass over the shards that are missing; news as blocks of shards are done."""
    workers = min(cluster.workers or _room(ray, cluster), len(shards))
    data = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=min(len(shards), MAX_BLOCKS))
    scored = data.map_batches(
        ShardWorker,
        fn_constructor_args=(work, model_ref, cluster.worker_cpus),
        batch_size=None,
        # from 1: workers of a lost node are not waited for, and an idle one makes room for a restarted one
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=1
        ),
        num_cpus=cluster.worker_cpus,
        num_gpus=cluster.worker_gpus or None,
    )
    for batch in scored.iter_batches(batch_size=None, prefetch_batches=0):
        columns = (batch[name].tolist() for name in ("shard", "images", "faces", "errors", "named"))
        for shard, images, faces, errors, named in zip(*columns, strict=True):
            counts = Counts(images, faces, errors)
            yield Done(shard=shard, counts=counts, named=tuple(named.split("\n")) if named else (), landed=True)


def _room(ray: Any, cluster: ClusterSettings) -> int:
    """How many workers the cluster has room for now."""
    resources = ray.cluster_resources()
    room = [int(resources.get("CPU", 0) // cluster.worker_cpus)]
    if cluster.worker_gpus:
        room.append(int(resources.get("GPU", 0) / cluster.worker_gpus + 1e-6))
    if min(room) < 1:
        needs = f"{cluster.worker_cpus} CPUs" + (f" and {cluster.worker_gpus} GPUs" if cluster.worker_gpus else "")
        raise ConfigError(f"no worker fits: it needs {needs}, the cluster has {resources}: ask for less")
    return min(room)


def _explained(fault: Exception | None, shards: list[int]) -> MienError:
    """The sentence that a worker failed with, wherever in Ray's wrapping it is."""
    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, MienError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    what = f": {str(fault).strip().splitlines()[-1]}" if fault is not None else ""
    return DataError(
        f"shard {shards[0]} and {len(shards) - 1:,} others do not land{what}: see Ray's logs, or try --engine local"
    )
