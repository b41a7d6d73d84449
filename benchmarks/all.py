"""Every benchmark that times something, in turn: figures under results/, and their sections of the pages.

    python benchmarks/all.py --data DATA              # on a machine that does nothing else; about an hour on two cores
    python benchmarks/all.py --list                   # the commands, what each writes, and about how long it takes
    python benchmarks/all.py --data DATA --only predict roofline
    python benchmarks/all.py --try                    # each as short as it goes; writes no figures and no page

DATA is what `mien data prepare` wrote; without it, what needs faces with labels is left out and named. A benchmark that
fails, or misses a bar of its own, does not stop the others; the exit code is 1 then. Accuracy does not depend on what
else the machine does, so what measures only that is not here: see docs/results.md and docs/robustness.md.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mien.runtime.cpus import available_cpus

ROOT = Path(__file__).parents[1]
DATA = "DATA"  # stands for the data set in a command
BUSY_RATIO = 0.5  # of the CPUs: above it other programs run


@dataclass(frozen=True)
class Benchmark:
    """A command, and what it is good for."""

    name: str
    minutes: float  # about, on two idle cores
    arguments: str  # after `python`
    writes: str
    short: str | None  # the same for a try; None: it is as long
    first: str = ""  # what the first run takes besides


BENCHMARKS = (
    Benchmark(
        "predict",
        2,
        "benchmarks/predict.py --output results/predict.json --page docs/profile.md",
        "results/predict.json, docs/profile.md",
        "benchmarks/predict.py --repetitions 1",
    ),
    Benchmark(
        "roofline",
        1,
        "benchmarks/roofline.py",
        "results/roofline.json, docs/benchmarks.md",
        "benchmarks/roofline.py --rounds 1 --try",
    ),
    Benchmark(
        "runtime-options",
        4,
        "benchmarks/runtime_options.py",
        "results/runtime_options.json, docs/benchmarks.md",
        "benchmarks/runtime_options.py --rounds 1 --models default --try",
    ),
    Benchmark(
        "decoding",
        3,
        "benchmarks/decoding.py",
        "results/decoding.json, docs/benchmarks.md",
        "benchmarks/decoding.py --repetitions 1 --try",
    ),
    Benchmark(
        "profiles",
        1,
        "benchmarks/profiles.py",
        "results/profile.json, docs/profile.md",
        "benchmarks/profiles.py --pictures 3 --try",
    ),
    Benchmark(
        "batch",
        6,
        "benchmarks/batch.py --output results/batch.json --page docs/sizing.md",
        "results/batch.json, docs/sizing.md",
        "benchmarks/batch.py --scale 0.02",
    ),
    Benchmark(
        "video",
        10,
        "benchmarks/video.py --data DATA",
        "results/video.json",
        "benchmarks/video.py --quick --detectors yunet --parts speed delay",
    ),
    Benchmark(
        "video-memory",
        8,
        "benchmarks/video_memory.py --detector yunet --output results/video_memory.json",
        "results/video_memory.json",
        "benchmarks/video_memory.py --minutes 0.4 --detector yunet",
    ),
    Benchmark("explain", 2, "benchmarks/explain.py", "results/explain.json, docs/explanations.md", None),
    Benchmark(
        "web",
        5,
        "benchmarks/web_load.py",
        "results/web_load.json, docs/serving.md",
        "benchmarks/web_load.py --seconds 3 --clients 1 --try",
    ),
    Benchmark(
        "peers",
        8,
        "benchmarks/peers.py --data DATA",
        "results/peers.json, docs/benchmarks.md, docs/images/peers.*",
        "benchmarks/peers.py --data DATA --limit 20 --rounds 1 --starts 1 --only fer",
        first=", the first time 20 more and 15 GB: it installs the peers",
    ),
)


def words_of(benchmark: Benchmark, *, short: bool) -> list[str]:
    """What stands after `python`; empty where there is no short form."""
    return (benchmark.short or "" if short else benchmark.arguments).split()


def why_not(words: list[str], *, data: Path | None) -> str | None:
    """Why a command cannot run."""
    if not words:
        return "it has no short form"
    return "give --data" if data is None and DATA in words else None


def table() -> str:
    """All benchmarks, and the sum of their minutes."""
    lines = [
        f"{one.name:<16} {one.minutes:>3g} min  python {one.arguments}\n{'':<26}writes {one.writes}{one.first}"
        for one in BENCHMARKS
    ]
    return "\n".join([*lines, f"{'all':<16} {sum(one.minutes for one in BENCHMARKS):>3g} min on two idle cores"])


def run(name: str, words: list[str]) -> int:
    """Run one in the repository's folder, with what it says on this terminal; its exit code."""
    print(f"\n=== {name}: python {' '.join(words)}", flush=True)
    began_s = time.monotonic()
    code = subprocess.run([sys.executable, *words], cwd=ROOT, check=False).returncode
    print(f"=== {name}: exit code {code} after {(time.monotonic() - began_s) / 60:.1f} min", flush=True)
    return code


def main() -> int:
    """Run what is asked for; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="packed data set with a validation split")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in BENCHMARKS], help="these, in the same order")
    parser.add_argument("--try", dest="short", action="store_true", help="each as short as it goes; keep nothing")
    parser.add_argument("--list", action="store_true", help="print the commands, and run none")
    options = parser.parse_args()
    if options.list:
        print(table())
        return 0
    data = None if options.data is None else options.data.resolve()
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY_RATIO * available_cpus():
        print(f"load average {os.getloadavg()[0]:.1f}: other programs run, and the figures will be too slow")
    codes: dict[str, int] = {}
    for benchmark in BENCHMARKS:
        if options.only and benchmark.name not in options.only:
            continue
        words = words_of(benchmark, short=options.short)
        if reason := why_not(words, data=data):
            print(f"\n=== {benchmark.name}: not run: {reason}")
            continue
        codes[benchmark.name] = run(benchmark.name, [str(data) if word == DATA else word for word in words])
    failed = [name for name, code in codes.items() if code]
    print(f"\n{len(codes)} run; failed or under a bar: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
