"""How long `mien predict` takes: cold start, one crop on one core, a 640 x 480 photo end to end.

    python benchmarks/predict.py [--output FILE.json] [--page docs/profile.md]

Wall time is what a user waits; CPU time (user and system, over all threads) is what the machine works, and is hardly
moved by other programs that run meanwhile. Both are medians over repetitions, the detectors in turn in one run. Bars,
for two free cores: `import mien` under 0.15 s, `mien --help` under 0.3 s, first result under 1.5 s, one crop under 5 ms
on one core, a photo under 150 ms with centerface and under 50 ms with yunet. `--page` writes the times of starting.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from page import replace_section, table
from timing import analyzers

from mien import bench, demo, hub
from mien.images import read_image, write_image
from mien.runtime import providers
from mien.runtime.predictor import Predictor


@dataclass(frozen=True)
class Timing:
    """Medians of one thing that was timed."""

    what: str
    wall_ms: float
    cpu_ms: float
    bar_ms: float | None = None
    repetitions: int = 0

    def row(self) -> str:
        """One line of the table."""
        bar = "" if self.bar_ms is None else f"{self.bar_ms:>8,.0f}  {'yes' if self.wall_ms < self.bar_ms else 'NO'}"
        return f"{self.what:<58} {self.wall_ms:>9,.2f} {self.cpu_ms:>9,.2f} {bar}"


def timed(what: str, call: Callable[[], object], *, repetitions: int, bar_ms: float | None = None) -> Timing:
    """Medians over repetitions, after two that do not count."""
    call(), call()
    walls, cpus = [], []
    for _ in range(repetitions):
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        call()
        walls.append(time.perf_counter() - wall_s)
        cpus.append(time.process_time() - cpu_s)
    return Timing(what, 1000 * float(np.median(walls)), 1000 * float(np.median(cpus)), bar_ms, repetitions)


def cold(what: str, command: Sequence[str], *, repetitions: int, bar_ms: float | None = None) -> Timing:
    """From the start of a process to the first line on its stdout; CPU time of the whole process."""
    walls, cpus = [], []
    for _ in range(repetitions):
        before, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise SystemExit(f"{' '.join(command)} wrote nothing")
            walls.append(time.perf_counter() - wall_s)
            process.stdout.read()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return Timing(what, 1000 * float(np.median(walls)), 1000 * float(np.median(cpus)), bar_ms, repetitions)


def on_one_core(call: Callable[[], Timing]) -> Timing:
    """Keep this process on one core meanwhile, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        return call()
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        return call()
    finally:
        os.sched_setaffinity(0, cores)


def measure(model: str, photo: Path, repetitions: int) -> list[Timing]:
    """All timings."""
    python = sys.executable
    timings = [cold("python itself, starting", [python, "-c", "print(0)"], repetitions=repetitions)]
    libraries = "import cv2, numpy, onnxruntime, PIL.Image; print(0)"
    timings.append(
        cold("import numpy, OpenCV, ONNX Runtime, Pillow", [python, "-c", libraries], repetitions=repetitions)
    )
    timings += [cold("import mien", [python, "-c", "import mien; print(0)"], repetitions=repetitions, bar_ms=150)]
    timings += [cold("mien --help", [python, "-m", "mien", "--help"], repetitions=repetitions, bar_ms=300)]
    crop = read_image(photo)[None, 100:148, 300:348]
    predictor = Predictor(hub.resolve(model), threads=1)
    many = 30 * repetitions
    timings.append(
        on_one_core(lambda: timed("one crop, one core", lambda: predictor.predict(crop), repetitions=many, bar_ms=5))
    )
    bars_ms = {"centerface": 150.0, "yunet": 50.0}
    for detector, analyzer in analyzers(model):
        command = [python, "-m", "mien", "predict", str(photo), "--model", model, "--detector", detector]
        if len(analyzer.analyze(photo)) != 1:
            raise SystemExit(f"{detector} does not find the one face of the portrait")
        what = f"mien predict, cold start to the first result, {detector}"
        timings.append(cold(what, command, repetitions=repetitions, bar_ms=1500))
        picture = read_image(photo)
        what = f"640 x 480, detection alone, {detector}"
        timings.append(timed(what, partial(analyzer.detector.detect, [picture]), repetitions=3 * repetitions))
        what = f"640 x 480 JPEG to probabilities, {detector}"
        timings.append(
            timed(what, partial(analyzer.analyze, photo), repetitions=3 * repetitions, bar_ms=bars_ms[detector])
        )
    return timings


def start_section(figures: Mapping[str, Any]) -> str:
    """What starts a process, as Markdown."""
    starts = [one for one in figures["timings"] if one["what"].startswith(("python", "import", "mien"))]
    rows = []
    for one in starts:
        met = one["bar_ms"] is not None and one["wall_ms"] < one["bar_ms"]
        bar = "" if one["bar_ms"] is None else f"{one['bar_ms']:,.0f}, {'met' if met else 'MISSED'}"
        rows.append([one["what"], f"{one['wall_ms']:,.0f}", f"{one['cpu_ms']:,.0f}", bar])
    about = figures["machine"]
    return (
        f"{about['cpu']}, {about['cpus']} cores; medians of {starts[0]['repetitions']} processes, from their start to "
        f"their first line of output.\n\n{table(['process', 'ms', 'CPU ms', 'bar, ms'], rows)}"
    )


def main() -> None:
    """Measure, print the table, write the JSON and the page's section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    parser.add_argument("--page", type=Path, help="write the section `start` of this page from the figures")
    options = parser.parse_args()
    about = bench.machine()
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        write_image(bench.photo_of(read_image(demo.portrait()), bench.PHOTO_WH), photo)
        timings = measure(options.model, photo, options.repetitions)
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'median, milliseconds':<58} {'wall':>9} {'CPU':>9} {'bar':>8}  met")
    for timing in timings:
        print(timing.row())
    info = Predictor(providers.file_of(options.model), threads=1).info.to_dict()
    figures = {"machine": about, "model": info, "timings": [asdict(timing) for timing in timings]}
    if options.page:
        replace_section("start", start_section(figures), options.page)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
