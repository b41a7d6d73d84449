"""What `mien batch` does in a second, and where the time goes: stages on one core, threads, Ray workers, memory.

    python benchmarks/batch.py --output results/batch.json --page docs/sizing.md

Takes about six minutes on two free cores. Stages are CPU seconds of one thread; jobs are wall time of whole jobs over
640 x 480 JPEG photos with one face, and over 48 x 48 PNG crops without detection. Workers of Ray are one-CPU nodes of a
cluster on this machine (`ray.cluster_utils.Cluster`), timed from the first shard that lands to the last one. `--page`
writes the sizing tables from the figures (benchmarks/batch_sizing.py).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
from batch_sizing import write_page

import mien
from mien import bench, demo
from mien.batch import cluster, job, local, parts, rows
from mien.batch.job import Settings
from mien.batch.plan import Plan
from mien.batch.rows import Scored
from mien.batch.work import Done
from mien.errors import MienError
from mien.images import read_image, write_image
from mien.labels import FER7
from mien.results import Face, Quality
from mien.runtime.cpus import available_cpus

WORKLOADS = {
    "photos, centerface": ("photos.txt", "centerface"),
    "photos, yunet": ("photos.txt", "yunet"),
    "crops, no detector": ("crops.txt", "none"),
}
PER_CPU = {
    "photos, centerface": 80,
    "photos, yunet": 300,
    "crops, no detector": 6000,
}  # images of a timed job: some 10 s
STAGE_S = 3.0  # for each stage
OBJECT_STORE_BYTES = 100 << 20
ROWS = 20_000  # of the table whose size is measured


class Clock:
    """Notes when shards land."""

    def __init__(self) -> None:
        self.start_s = time.perf_counter()
        self.landed: list[tuple[float, float, int]] = []  # seconds and CPU seconds since the start, images
        self._images = 0

    def listed(self, units: int) -> None:
        """Not of interest."""

    def begun(self, work: Plan, finished: int) -> None:
        """Not of interest."""

    def done(self, news: Done) -> None:
        """Add up the images of a shard."""
        self._images += news.counts.images
        if news.landed:
            self.landed.append((time.perf_counter() - self.start_s, time.process_time(), self._images))
            self._images = 0

    def assembling(self) -> None:
        """Not of interest."""

    def rate(self) -> float:
        """Images a second from the first landing to the last."""
        return self._images_between() / (self.landed[-1][0] - self.landed[0][0])

    def cpu_s_each(self) -> float:
        """CPU seconds of this process for an image, between the same landings: other programs hardly move it."""
        return (self.landed[-1][1] - self.landed[0][1]) / self._images_between()

    def _images_between(self) -> int:
        return sum(images for _, _, images in self.landed[1:])


def write_inputs(folder: Path, images: int) -> None:
    """One photo and one crop, and lists that name them often enough."""
    write_image(bench.photo_of(read_image(demo.portrait()), bench.PHOTO_WH), folder / "photo.jpg")
    face = mien.load("default").analyze(folder / "photo.jpg")[0]
    PIL.Image.fromarray(face.crop).convert("L").save(folder / "crop.png")
    for name, file in (("photos.txt", "photo.jpg"), ("crops.txt", "crop.png")):
        (folder / name).write_text(f"{folder / file}\n" * images)


def cpu_s_each(call: Callable[[], object], count: int) -> float:
    """CPU seconds of this thread for one of the `count` things that a call does; the median of calls in `STAGE_S`."""
    call()
    spent: list[float] = []
    ends_s = time.perf_counter() + STAGE_S
    while time.perf_counter() < ends_s or len(spent) < 3:
        before_s = time.thread_time()
        call()
        spent.append((time.thread_time() - before_s) / count)
    return sorted(spent)[len(spent) // 2]


def stages(folder: Path, model: str) -> dict[str, dict[str, float]]:
    """CPU seconds an image takes in each stage, by workload."""
    cv2.setNumThreads(1)
    figures: dict[str, dict[str, float]] = {}
    for workload, (_, detector) in WORKLOADS.items():
        path = folder / ("crop.png" if detector == "none" else "photo.jpg")
        try:
            analyzer = mien.load(model, detector=detector, threads=1)
        except MienError as error:
            print(f"{workload}: not run: {error}", file=sys.stderr)
            continue
        picture = read_image(path)
        (found,) = analyzer.detector.detect([picture])
        crops = [analyzer.crops(picture, found)[0]] * 64
        faces = tuple(analyzer.analyze(picture))
        scored = [Scored("a.jpg", 640, 480, faces)] * 64
        schema = rows.schema_of(analyzer.labels)
        provenance = dict.fromkeys(rows.PROVENANCE, "x" * 40)
        timed: dict[str, tuple[Callable[[], object], int]] = {
            "decode": (partial(read_image, path), 1),
            "detect": (partial(analyzer.detector.detect, [picture]), 1),
            "classify": (partial(_classify, analyzer, picture, found, crops), 64),
            "table": (partial(rows.table_of, scored, schema, provenance), 64),
        }
        figures[workload] = {stage: cpu_s_each(call, count) for stage, (call, count) in timed.items()}
        print(
            workload, {stage: f"{1000 * value:.3f} ms" for stage, value in figures[workload].items()}, file=sys.stderr
        )
    cv2.setNumThreads(-1)
    return figures


def _classify(analyzer: mien.Analyzer, picture: Any, found: Any, crops: Sequence[Any]) -> None:
    """Cut 64 faces out and classify them in one call."""
    for _ in crops:
        analyzer.crops(picture, found)
    analyzer.predict_crops(np.stack(crops))


def settings(folder: Path, workload: str, model: str, images: int, output: str) -> Settings:
    """A job over the first `images` lines of a workload's list."""
    name, detector = WORKLOADS[workload]
    source = folder / f"{images}-{name}"
    source.write_text("".join((folder / name).read_text().splitlines(keepends=True)[:images]))
    return Settings(
        source=str(source),
        output=str(folder / output),
        model=model,
        detector=detector,
        shard_images=max(1, images // 24),
    )


def job_images(workload: str, cpus: int, scale: float) -> int:
    """Images of a timed job: at least so many that some shards land one after the other."""
    return max(8 * cpus, round(PER_CPU[workload] * cpus * scale))


def local_clock(folder: Path, workload: str, model: str, threads: int, scale: float) -> Clock:
    """A job of the local engine."""
    images = job_images(workload, threads, scale)
    clock = Clock()
    output = f"local-{threads}-{WORKLOADS[workload][1]}.parquet"
    job.run(settings(folder, workload, model, images, output), local.engine(threads), watch=clock)
    return clock


def ray_figures(folder: Path, workload: str, model: str, workers: int, scale: float) -> dict[str, float]:
    """The same on a cluster with so many one-CPU nodes; in a process of its own, as a driver is."""
    command = [sys.executable, __file__, "--ray-workers", str(workers), "--folder", str(folder), "--scale", str(scale)]
    done = subprocess.run(
        [*command, "--workload", workload, "--model", model],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **cluster.QUIET, "RAY_AUTH_MODE": "disabled"},
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def on_ray(folder: Path, workload: str, model: str, workers: int, scale: float) -> None:
    """Print the figures of one cluster as the last line of stdout."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - starts processes

    head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(workers):
        nodes.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
    nodes.wait_for_nodes()
    clock = Clock()
    engine = partial(cluster.run, cluster=cluster.ClusterSettings(address=nodes.address, workers=workers))
    try:
        images = job_images(workload, 2, scale)
        job.run(settings(folder, workload, model, images, f"ray-{workers}.parquet"), engine, watch=clock)
    finally:
        nodes.shutdown()
    print(json.dumps({"images_s": clock.rate(), "first_shard_s": clock.landed[0][0]}))


def row_bytes(path: Path) -> float:
    """What a row takes in a table in which no two faces are alike."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(len(FER7)), ROWS).astype(np.float32)
    pictures = []
    for number in range(ROWS):
        corner = rng.uniform(0, 400, 2)
        landmarks = rng.uniform(0, 400, (5, 2)).astype(np.float32)
        face = Face(
            box_xyxy=np.concatenate([corner, corner + rng.uniform(40, 200)]).astype(np.float32),
            landmarks=landmarks,
            score=float(rng.uniform()),
            labels=FER7,
            probabilities=probabilities[number],
            uncertain=False,
            quality=Quality(float(rng.uniform(40, 200)), *map(float, rng.uniform(0, 1, 3))),
            crop=np.zeros((1, 1, 3), np.uint8),
        )
        pictures.append(Scored(f"s3://bucket/photos/2026/{number:09}.jpg", 640, 480, (face,)))
    schema = rows.schema_of(FER7)
    table = rows.table_of(pictures, schema, dict.fromkeys(rows.PROVENANCE, "the same everywhere"))
    writer = parts.TableWriter(str(path), schema, rows=parts.ROW_GROUP_ROWS)
    writer.write(table)
    writer.close({})
    return path.stat().st_size / ROWS


def print_peak_kb(folder: Path, model: str, images: int) -> None:
    """Run a local job with two threads, and print the highest resident memory of this process."""
    chosen = settings(folder, "crops, no detector", model, images, f"peak-{images}.parquet")
    job.run(chosen, local.engine(2), watch=Clock())
    status = Path("/proc/self/status").read_text()  # getrusage would count the parent's memory before exec
    print(int(status.partition("VmHWM:")[2].split()[0]))


def peak_mb(folder: Path, model: str, images: int) -> float:
    """Resident memory of a local job at its highest."""
    command = [sys.executable, __file__, "--peak-of", str(images), "--folder", str(folder), "--model", model]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout) / 1024


def measure(folder: Path, model: str, scale: float) -> dict[str, Any]:
    """All figures, from jobs of `scale` times their usual length."""
    write_inputs(folder, 200_000)
    figures: dict[str, Any] = {"stages_cpu_s": stages(folder, model)}
    threads = sorted({1, 2, available_cpus()})
    clocks = {
        workload: {str(n): local_clock(folder, workload, model, n, scale) for n in threads}
        for workload in figures["stages_cpu_s"]
    }
    figures["local_images_s"] = {name: {n: clock.rate() for n, clock in of.items()} for name, of in clocks.items()}
    figures["local_cpu_s"] = {name: of["1"].cpu_s_each() for name, of in clocks.items()}
    figures["bytes"] = {
        "photo": (folder / "photo.jpg").stat().st_size,
        "crop": (folder / "crop.png").stat().st_size,
        "row": row_bytes(folder / "rows.parquet"),
    }
    figures["peak_mb"] = {
        str(images): peak_mb(folder, model, images) for images in (round(5_000 * scale), round(20_000 * scale))
    }
    workload = "photos, centerface"
    figures["ray"] = {"workload": workload} | {str(n): ray_figures(folder, workload, model, n, scale) for n in (1, 2)}
    return figures


def main() -> None:
    """Measure, write the JSON and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    parser.add_argument("--page", type=Path, help="write the tables of this page anew from the figures")
    parser.add_argument("--scale", type=float, default=1.0, help="length of the jobs: 0.2 for a try")
    parser.add_argument("--ray-workers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workload", help=argparse.SUPPRESS)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print_peak_kb(options.folder, options.model, options.peak_of)
        return
    if options.ray_workers:
        on_ray(options.folder, options.workload, options.model, options.ray_workers, options.scale)
        return
    about = bench.machine()
    with tempfile.TemporaryDirectory() as folder:
        figures = {"machine": about, "scale": options.scale, **measure(Path(folder), options.model, options.scale)}
    print(json.dumps(figures, indent=1))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.page:
        write_page(options.page, figures)


if __name__ == "__main__":
    main()
