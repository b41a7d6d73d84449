"""Prometheus metrics: of this process, or of all workers where `PROMETHEUS_MULTIPROC_DIR` names their folder."""

import os
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own name; counts and names of processes are written there
SERVED = "served_"  # and the number of a worker's process: a file without content
BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 20.0)


class Metrics:
    """What an operator watches."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, waiting: Callable[[], int]) -> None:
        """`waiting` tells the queue's length when the metrics are read."""
        self._registry = CollectorRegistry()
        self._waiting = waiting
        self.requests = Counter(
            "mien_requests", "Requests by endpoint and status.", ["endpoint", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "mien_request_seconds", "Time of a request.", ["endpoint"], buckets=BUCKETS_S, registry=self._registry
        )
        self.images = Counter("mien_images", "Pictures analysed.", registry=self._registry)
        self.faces = Counter("mien_faces", "Faces found.", registry=self._registry)
        self.queue = Gauge(
            "mien_queue_depth",
            "Requests that wait for their turn.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        self.queue.set(self._waiting())
        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def observe_queue(self) -> None:
        """Note the queue's length, for the worker that answers `/metrics` next."""
        self.queue.set(self._waiting())


def sweep_dead_workers(folder: Path) -> None:
    """Remove the gauges of killed workers; their counters stay in the sums."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not _alive(pid):
            path.unlink(missing_ok=True)


def note_serving() -> None:
    """Leave word, where workers share a folder, that this one has begun to serve."""
    if folder := os.environ.get(FOLDER):
        Path(folder, f"{SERVED}{os.getpid()}").touch()


def workers_that_served(folder: Path) -> set[int]:
    """Numbers of the processes that called `note_serving`, also of those that have ended."""
    return {int(path.name.removeprefix(SERVED)) for path in folder.glob(f"{SERVED}*")}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
