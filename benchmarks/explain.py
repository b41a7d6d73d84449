"""What explanations cost, and whether they mean anything, measured on a model.

    python benchmarks/explain.py --model default                    # cost: two threads, a 48 px crop
    python benchmarks/explain.py --model default --data DATA --faces 200     # and faithfulness, on validation images
    python benchmarks/explain.py --model RUN --data DATA --faces 50          # gradients too
    python benchmarks/explain.py --model baseline --data DATA --no-cost      # on a machine that does other work

Occlusion at patch 8, stride 4 asks for 122 predictions of a 48 px crop. They are sent in one batch, and beside that
one call a position; both in turn, so that whatever else the machine does falls on both. Bar: 250 ms in batches.
Faithfulness is deletion and insertion (Petsiuk et al. 2018) of the predicted label's map, beside smooth random maps
and the prior that faces are in the middle; the differences come with a bootstrap interval over the faces.
Results go to results/explain.json, under the model's name, and from there into the tables of docs/explanations.md.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import page
from numpy.typing import NDArray

from mien import hub
from mien.datasets import packed
from mien.explain import cam_map, occlusion_map
from mien.explain.checks import deletion_curve, faithfulness, insertion_curve
from mien.explain.explainer import ExplainablePredictor, explain, unavailable
from mien.explain.heatmap import METHODS
from mien.runtime.predictor import Predictor

RESULTS = page.ROOT / "results" / "explain.json"
DOCUMENT = page.ROOT / "docs" / "explanations.md"
THREADS = 2
REPEATS = 21
BAR_MS = 250.0
RESAMPLES = 2000


def main() -> None:
    """Parse the options, measure, and merge what was measured into the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="name, .onnx, run or checkpoint")
    parser.add_argument("--data", type=Path, help="packed data set: also measure faithfulness on its validation split")
    parser.add_argument("--faces", type=int, default=200)
    parser.add_argument("--no-cost", action="store_true", help="faithfulness alone, as on a machine with other work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()

    predictor = load(options.model)
    found: dict[str, Any] = {"model": predictor.spec.name, "machine": machine()}
    crop = portrait(predictor.spec.input.size_hw)
    if isinstance(predictor, Predictor):
        found["sha256"] = predictor.info.sha256
        if not options.no_cost:
            found["cost"] = cost(options.model, crop)
    if options.data is not None:
        found["faithfulness"] = measure_faithfulness(predictor, options.data, options.faces, options.seed)
    results = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
    results[predictor.spec.name] = {**results.get(predictor.spec.name, {}), **found}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.output == RESULTS:
        write_tables(results, DOCUMENT)
    print(json.dumps(found, indent=1))


def write_tables(results: dict[str, Any], document: Path) -> None:
    """Put what was measured between the document's markers."""
    for name, lines in (("cost", cost_table(results)), ("faithfulness", faithfulness_table(results))):
        page.replace_section(name, "\n".join(lines), document)


def cost_table(results: dict[str, Any]) -> list[str]:
    """A line a model: medians in milliseconds."""
    lines = [
        "| model | clock | one prediction | occlusion | one call a position | CAM |",
        "|---|---|---|---|---|---|",
    ]
    for model, found in results.items():
        for clock, name in (("cpu", "processor, one thread"), ("wall", "wall, two threads")):
            if times := found.get("cost", {}).get(clock):
                cam = f"{times['cam_ms']:.1f} ms" if "cam_ms" in times else "-"
                load = f" (load {found['cost']['load_average']:g})" if clock == "wall" else ""
                cells = f"{times['predict_ms']:.1f} ms | {times['occlusion_ms']:.0f} ms"
                lines.append(f"| {model} | {name}{load} | {cells} | {times['one_call_a_position_ms']:.0f} ms | {cam} |")
    return lines


def faithfulness_table(results: dict[str, Any]) -> list[str]:
    """A line a model and method: mean areas, and gains with their intervals."""
    lines = [
        "| model | method | deletion: map, random, centre | gain over random | gain over centre "
        "| insertion: map, random, centre | gain over random | gain over centre |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model, found in results.items():
        for method in METHODS:
            if method not in (table := found.get("faithfulness", {})):
                continue
            cells = []
            for kind in ("deletion", "insertion"):
                areas = table[method][kind]
                cells.append(", ".join(f"{areas[key]:.3f}" for key in ("map", "random", "centre")))
                for other in ("random", "centre"):
                    low, high = areas[f"gain_over_{other}_ci95"]
                    cells.append(f"{areas[f'gain_over_{other}']:+.3f} ({low:+.3f} to {high:+.3f})")
            lines.append(f"| {model}, n = {table['faces']} | {method} | {' | '.join(cells)} |")
    return lines


def load(name: str) -> ExplainablePredictor:
    """A model as `mien explain --model` takes it."""
    path = Path(name)
    if not path.is_dir() and path.suffix not in (".pt", ".ckpt"):
        return Predictor(hub.resolve(name), threads=THREADS)
    import torch  # noqa: PLC0415 - for runs only

    from mien.explain.gradients import TorchPredictor  # noqa: PLC0415
    from mien.training.run import load_model  # noqa: PLC0415

    torch.set_num_threads(THREADS)
    return TorchPredictor(*load_model(path))


def portrait(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A crop of NASA's portrait of Eileen Collins, which scikit-image ships."""
    from skimage import data  # noqa: PLC0415

    face: NDArray[np.uint8] = np.asarray(data.astronaut(), np.uint8)[60:180, 165:285]  # type: ignore[no-untyped-call]
    return np.asarray(cv2.resize(face, size_hw[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def cost(name: str, crop: NDArray[np.uint8]) -> dict[str, Any]:
    """Milliseconds of one map: wall clock on two threads; processor time on one, which a busy machine distorts less."""
    file = hub.resolve(name)
    return {
        "wall": timed(Predictor(file, threads=THREADS), crop, time.perf_counter),
        "cpu": timed(Predictor(file, threads=1), crop, time.process_time),
        "load_average": round(os.getloadavg()[0], 1),
        "crop_px": crop.shape[0],
        "threads": THREADS,
        "repeats": REPEATS,
        "bar_ms": BAR_MS,
    }


def timed(predictor: Predictor, crop: NDArray[np.uint8], clock: Callable[[], float]) -> dict[str, float]:
    """Medians of occlusion in batches and position by position, CAM, and a bare prediction, all in turn."""
    labels = predictor.spec.labels
    label = labels[int(predictor.predict(crop[None])[0].argmax())]

    def one_by_one(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate([predictor.predict(one[None]) for one in crops])

    tasks: dict[str, Callable[[], object]] = {
        "predict_ms": lambda: predictor.predict(crop[None]),
        "occlusion_ms": lambda: occlusion_map(predictor.predict, crop, label, labels=labels),
        "one_call_a_position_ms": lambda: occlusion_map(one_by_one, crop, label, labels=labels),
    }
    if not unavailable(predictor, "cam"):
        tasks["cam_ms"] = lambda: cam_map(predictor, crop, label)
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for repeat in range(REPEATS + 2):
        for name, task in tasks.items():
            start = clock()
            task()
            if repeat >= 2:  # the first ones warm up
                times[name].append((clock() - start) * 1000)
    ratios = np.array(times["one_call_a_position_ms"]) / np.array(times["occlusion_ms"])
    found = {name: round(median(values), 2) for name, values in times.items()}
    return {
        **found,
        "occlusion_best_ms": round(min(times["occlusion_ms"]), 2),
        "speed_up": round(float(median(ratios)), 2),
    }


def measure_faithfulness(predictor: ExplainablePredictor, data: Path, faces: int, seed: int) -> dict[str, Any]:
    """Mean areas over validation faces, and what a map gains over a random one and over the centre."""
    split = packed.load(data, only=("validation",)).split("validation")
    chosen = np.sort(np.random.default_rng(seed).choice(len(split), min(faces, len(split)), replace=False))
    crops = split.take(chosen).images
    labels = predictor.spec.labels
    methods = [method for method in METHODS if not unavailable(predictor, method)]
    rows: dict[str, list[list[float]]] = {method: [] for method in methods}
    for crop in np.asarray(crops):
        label = labels[int(predictor.predict(crop[None])[0].argmax())]
        maps = [explain(predictor, crop, [label], method=method)[0] for method in methods]
        chance = faithfulness(predictor.predict, crop, maps[0], labels=labels, seed=seed)  # the same for every method
        for heatmap in maps:
            row = []
            for draw, other in ((deletion_curve, chance.deletion), (insertion_curve, chance.insertion)):
                curve = draw(predictor.predict, crop, heatmap, labels=labels, seed=seed)
                row += [curve.auc, other.random_auc_mean, other.centre.auc]
            rows[heatmap.method].append(row)
    about = {"split": "validation", "faces": len(crops), "seed": seed, "digest": split.digest}
    return {**about, **{method: summary(np.array(areas), seed) for method, areas in rows.items()}}


def summary(areas: NDArray[np.float64], seed: int) -> dict[str, Any]:
    """Means and differences of `(faces, 6)` areas: map, random and centre, for deletion and insertion."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(areas), (RESAMPLES, len(areas)))
    table: dict[str, Any] = {}
    for k, kind in enumerate(("deletion", "insertion")):
        ours, random, centre = areas[:, 3 * k : 3 * k + 3].T
        table[kind] = {"map": round(float(ours.mean()), 4)}
        for name, other in (("random", random), ("centre", centre)):
            gain = (other - ours) if kind == "deletion" else (ours - other)  # above 0: the map is better
            low, high = np.percentile(gain[picks].mean(axis=1), [2.5, 97.5])
            table[kind][name] = round(float(other.mean()), 4)
            table[kind][f"gain_over_{name}"] = round(float(gain.mean()), 4)
            table[kind][f"gain_over_{name}_ci95"] = [round(float(low), 4), round(float(high), 4)]
    return table


def machine() -> str:
    """What it ran on, as far as Python knows."""
    return f"{platform.machine()}, {THREADS} threads, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
