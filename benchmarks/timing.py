"""Calls timed in turn, so that whatever else the machine does meets all of them; and what they are made with."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

import mien
from mien.errors import MienError
from mien.pipeline import Analyzer

DETECTORS = ("centerface", "yunet")


def analyzers(model: str = "default", detectors: Sequence[str] = DETECTORS) -> Iterator[tuple[str, Analyzer]]:
    """The model with each detector that is at hand; the others are named on stderr."""
    for name in detectors:
        try:
            yield name, mien.load(model, detector=name)
        except MienError as error:
            print(f"{name}: not run: {error}", file=sys.stderr)


def in_turn(calls: Mapping[str, Callable[[], object]], *, rounds: int, repeat: int = 1) -> dict[str, dict[str, float]]:
    """Milliseconds of each call: medians over the rounds of wall time and of CPU time (all threads), and the least wall
    time. A round makes every call `repeat` times, in another order each time; the first round does not count.
    """
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            for _ in range(repeat):
                calls[name]()
            once = ((time.perf_counter() - wall_s) / repeat, (time.process_time() - cpu_s) / repeat)
            if number:
                spent[name].append(once)
    result = {}
    for name, pairs in spent.items():
        wall, cpu = 1000 * np.array(pairs).T
        result[name] = {
            "wall_ms": float(np.median(wall)),
            "cpu_ms": float(np.median(cpu)),
            "least_ms": float(wall.min()),
        }
    return result
