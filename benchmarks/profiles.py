"""Where the CPU time of predict, video and batch goes: cProfile, by the time that each function itself takes.

    python benchmarks/profiles.py [--detector yunet] [--pictures 40]

One thread, so that a function's time is its own; the clock is the process's CPU time, which other programs do not move.
Writes results/profile.json and the tables of docs/profile.md; what was done about each line stands there, by hand.
"""

import argparse
import cProfile
import os
import pstats
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from page import ROOT, keep, table

import mien
from mien import bench, demo, hub
from mien.batch.analysis import Group, Scorer
from mien.batch.reading import Item
from mien.batch.work import Work
from mien.images import read_image, write_image
from mien.pipeline import Analyzer
from mien.video.track import FaceTracker

PAGE = ROOT / "docs" / "profile.md"
LINES = 12
PHOTO_WH = (640, 480)


@dataclass(frozen=True)
class Workload:
    """Something to be profiled."""

    name: str
    what: str
    unit: str
    units: int
    call: Callable[[], object]


def workloads(folder: Path, detector: str, pictures: int) -> list[Workload]:
    """Predict, video and batch over the demo's portrait."""
    analyzer = mien.load(detector=detector, threads=1)
    photo = folder / "photo.jpg"
    picture = bench.photo_of(read_image(demo.portrait()), PHOTO_WH)
    write_image(picture, photo)
    large = folder / "large.jpg"
    write_image(bench.photo_of(read_image(demo.portrait()), (4000, 3000)), large)
    film = [np.roll(picture, (i, 2 * i), axis=(0, 1)) for i in range(pictures)]
    data = photo.read_bytes()
    items = tuple(Item(f"{i}.jpg", data=data) for i in range(pictures))
    scorer = Scorer(_work(folder, detector), hub.resolve("default").read_bytes())
    return [
        Workload(
            "predict",
            "`Analyzer.analyze` of a JPEG of 640 x 480",
            "photo",
            pictures,
            lambda: [analyzer.analyze(photo) for _ in range(pictures)],
        ),
        Workload(
            "large",
            "`Analyzer.analyze` of a JPEG of 12 megapixels, one face",
            "photo",
            5,
            lambda: [analyzer.analyze(large) for _ in range(5)],
        ),
        Workload(
            "video", "`FaceTracker.update`, frames of 640 x 480", "frame", pictures, lambda: _follow(analyzer, film)
        ),
        Workload(
            "batch",
            "`Scorer.score`, a group of JPEGs of 640 x 480",
            "picture",
            pictures,
            lambda: scorer.score(Group(0, items, ends_shard=True)),
        ),
    ]


def _follow(analyzer: Analyzer, film: list[np.ndarray[Any, np.dtype[np.uint8]]]) -> None:
    tracker = FaceTracker(analyzer)
    for number, frame in enumerate(film):
        tracker.update(frame, number / bench.FRAMES_PER_S)


def _work(folder: Path, detector: str) -> Work:
    return Work(
        job="profile",
        folder=os.fspath(folder),
        shards=1,
        root=os.fspath(folder),
        column=None,
        detector=detector,
        version=mien.__version__,
        provenance={"model": "", "model_sha256": "", "mien_version": "", "detector": detector},
        parameters={},
    )


def profiled(workload: Workload) -> list[dict[str, Any]]:
    """The functions with the most time of their own, after one call that warms up."""
    workload.call()
    profiler = cProfile.Profile(time.process_time)
    profiler.enable()
    workload.call()
    profiler.disable()
    stats: Any = pstats.Stats(profiler)
    total_s = stats.total_tt
    rows = []
    for (file, _, function), (_, calls, own_s, _, _) in stats.stats.items():
        row = {"function": _called(file, function), "calls": calls / workload.units}
        rows.append({**row, "ms": 1000 * own_s / workload.units, "share": own_s / total_s})
    rows.sort(key=lambda row: -row["ms"])
    rest = {"function": "everything else", "calls": None, "ms": sum(row["ms"] for row in rows[LINES:])}
    return [*rows[:LINES], {**rest, "share": sum(row["share"] for row in rows[LINES:])}]


def _called(file: str, function: str) -> str:
    if file.startswith("~"):
        return function.strip("<>").removeprefix("built-in method ").removeprefix("method ")
    path = Path(file)
    place = path.relative_to(ROOT / "src") if path.is_relative_to(ROOT / "src") else Path(*path.parts[-2:])
    return f"{place.as_posix()}: {function}"


def section(workload: Workload, rows: list[dict[str, Any]], detector: str) -> str:
    """The table of a workload."""
    heads = ["function", f"calls a {workload.unit}", "CPU ms of its own", "share"]
    cells = [
        [
            f"`{row['function']}`" if row["calls"] is not None else row["function"],
            "" if row["calls"] is None else f"{row['calls']:,.1f}",
            f"{row['ms']:.3f}",
            f"{100 * row['share']:.1f} %",
        ]
        for row in rows
    ]
    whole_ms = sum(row["ms"] for row in rows)
    return f"{workload.what}, {detector}: {whole_ms:.2f} ms of CPU time a {workload.unit}.\n\n{table(heads, cells)}"


def main() -> None:
    """Profile, keep, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", choices=["centerface", "yunet"], default="centerface")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "profiles", help="where the photos are made")
    parser.add_argument("--try", dest="only_try", action="store_true", help="print, and write neither figures nor page")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    found, sections = {}, {}
    for workload in workloads(options.folder, options.detector, options.pictures):
        rows = profiled(workload)
        found[workload.name] = {"what": workload.what, "unit": workload.unit, "rows": rows}
        sections[f"profile-{workload.name}"] = text = section(workload, rows, options.detector)
        print(text, "\n")
    if not options.only_try:
        about = {"machine": bench.machine(1), "detector": options.detector}
        keep("profile", {**about, "profiles": found}, sections, PAGE)


if __name__ == "__main__":
    main()
