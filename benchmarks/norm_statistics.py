"""What batch norm's statistics are worth: those of the run, of augmented and of plain training images, side by side.

    python benchmarks/norm_statistics.py --data DATA RUN...

measures each run with all three, on the validation faces as FER-2013 crops them and on the same faces in photos
(benchmarks/pipeline.py, centerface, aligned), and writes results/norm_statistics.json and the table of
docs/training.md. The weights stay the same. On one core, four minutes for the photos and two a run of `resnet9-narrow`.
"""

import argparse
import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import page
import pipeline
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien import hub
from mien.datasets import packed
from mien.datasets.packed import Split
from mien.evaluation import metrics
from mien.evaluation.network import torch_predict
from mien.faces import detect
from mien.models.pixels import normalise
from mien.pipeline import Analyzer
from mien.runtime.predictor import Predictor
from mien.training import augment, data, norms, run
from mien.training import recipe as recipes

BATCH = 256


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, help="packed data set, as the runs had it")
    parser.add_argument("--images", type=int, default=2048, help="training images (default 2048)")
    parser.add_argument("--seed", type=int, default=0, help="which images")
    parser.add_argument("--photos", type=int, default=2000, help="validation faces pasted into photos (default 2000)")
    options = parser.parse_args()
    dataset = packed.load(options.data, only=("train", "validation"))
    validation = dataset.split("validation")
    chosen = np.random.default_rng(options.seed).permutation(len(validation))[: options.photos]
    photos = photo_crops(validation, np.sort(chosen), options.seed)
    table = {}
    for folder in options.runs:
        table[folder.name] = measure(
            folder, dataset.split("train"), validation, photos, images=options.images, seed=options.seed
        )
        for where in ("crops", "photos"):
            print(folder.name, where, *_cells(table[folder.name][where]), sep=" | ", flush=True)
    figures = {"images": options.images, "photos": options.photos, "seed": options.seed, "runs": table}
    page.keep("norm_statistics", figures, {"norm statistics": section(figures)}, page.ROOT / "docs" / "training.md")


def photo_crops(validation: Split, chosen: NDArray[np.int64], seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The crops `(n, 48, 48, 3)` that serving cuts from photos of the faces, and which faces were found."""
    analyzer, detector = Predictor(hub.resolve("default")), detect.create("centerface")
    crops, faces, start = [], [], 0
    for batch in pipeline.photos(np.asarray(validation.images[chosen]), seed):
        found = detector.detect([one.photo for one in batch])
        analysed = Analyzer(analyzer, pipeline.Given(found)).analyze_many([one.photo for one in batch])
        for pasted, detections, there in zip(batch, found, analysed, strict=True):
            if matches := [i for i, box in enumerate(detections.boxes_xyxy) if pipeline.matches(pasted, box)]:
                crops.append(there[matches[0]].crop)
                faces.append(chosen[start])
            start += 1
    return np.stack(crops), np.array(faces)


def measure(
    folder: Path,
    train: Split,
    validation: Split,
    photos: tuple[NDArray[np.uint8], NDArray[np.int64]],
    *,
    images: int,
    seed: int,
) -> dict[str, Any]:
    """Accuracy of one run with each kind of statistics on crops and photos, and what plain images gain over its own.

    Raises:
        SystemExit: the run has no batch norm.
    """
    model, spec = run.load_model(folder)
    recipe = recipes.from_dict(spec.training["recipe"], source=str(folder))
    if not any(isinstance(one, nn.BatchNorm2d) for one in model.modules()):
        raise SystemExit(f"{folder}: nothing is normalised: nothing to compare")
    faces = data.place(train, spec.labels, recipes.Recipe(), torch.device("cpu"))
    rows = torch.randperm(len(faces), generator=torch.Generator().manual_seed(seed))[:images]
    generator = torch.Generator().manual_seed(seed)

    def batches(*, augmented: bool) -> Iterator[Tensor]:
        for batch in rows.tensor_split(math.ceil(len(rows) / BATCH)):
            pixels = faces.pixels(batch, spec.input)
            if augmented:  # as mien augments by default in the last epochs: neither erased nor mixed
                size_hw = spec.input.size_hw
                draws = augment.draw(recipes.Recipe(), len(pixels), generator, calm=True, size_hw=size_hw)
                pixels = augment.view(pixels, draws, padding="reflection", size_hw=size_hw)
            yield normalise(pixels, spec.input)

    def estimated(*, augmented: bool) -> nn.Module:
        other = deepcopy(model)
        norms.estimate(other, other, batches(augmented=augmented))
        return other

    networks = {"own": model, "augmented": estimated(augmented=True), "plain": estimated(augmented=False)}
    labels, (crops, at) = np.asarray(validation.labels), photos
    on_crops = {kind: torch_predict(one, spec)(validation.images).argmax(1) == labels for kind, one in networks.items()}
    on_photos = {kind: torch_predict(one, spec)(crops).argmax(1) == labels[at] for kind, one in networks.items()}
    return {
        "network": recipe.model,
        "norm_images": recipe.norm_images,
        "crops": _compared(on_crops),
        "photos": _compared(on_photos),
    }


def _compared(right: dict[str, NDArray[np.bool_]]) -> dict[str, Any]:
    gain = right["plain"].astype(int) - right["augmented"].astype(int)
    low, high = metrics.bootstrap_interval(lambda at: float(gain[at].mean()), len(gain))
    return {
        "n": len(gain),
        "accuracy": {kind: round(float(one.mean()), 5) for kind, one in right.items()},
        "plain_over_augmented": round(float(gain.mean()), 5),
        "ci95": [round(low, 5), round(high, 5)],
    }


def section(figures: dict[str, Any]) -> str:
    """The table of the page."""
    heads = ["run", "on", "the run's own", "augmented images", "plain images", "plain over augmented (95 %), points"]
    rows = [
        [name, where, *_cells(found[where])] for name, found in figures["runs"].items() for where in ("crops", "photos")
    ]
    return page.table(heads, rows, text_columns=2)


def _cells(found: dict[str, Any]) -> list[str]:
    low, high = (f"{100 * one:+.2f}" for one in found["ci95"])
    gain = f"{100 * found['plain_over_augmented']:+.2f} ({low} to {high})"
    return [*(f"{100 * found['accuracy'][kind]:.2f} %" for kind in ("own", "augmented", "plain")), gain]


if __name__ == "__main__":
    main()
