"""What batch norm's statistics are worth: those of the run, of augmented and of plain training images, side by side.

    python benchmarks/norm_statistics.py --data DATA RUN...

takes trained runs whose recipe left the statistics as training made them (norm_images = 0), measures each with all
three on the validation faces, and writes results/norm_statistics.json and the table of docs/training.md. The weights
stay the same. About two minutes a run of `resnet9-narrow` on one core.
"""

import argparse
import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import page
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.datasets import packed
from mien.datasets.packed import Split
from mien.evaluation import metrics
from mien.evaluation.network import torch_predict
from mien.models.pixels import normalise
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
    options = parser.parse_args()
    dataset = packed.load(options.data, only=("train", "validation"))
    table = {}
    for folder in options.runs:
        found = measure(folder, dataset.split("train"), dataset.split("validation"), options.images, options.seed)
        table[folder.name] = found
        print(_row(folder.name, found), flush=True)
    figures = {"images": options.images, "seed": options.seed, "runs": table}
    page.keep("norm_statistics", figures, {"norm statistics": section(figures)}, page.ROOT / "docs" / "training.md")


def measure(folder: Path, train: Split, validation: Split, images: int, seed: int) -> dict[str, Any]:
    """Accuracy and log-loss of one run with each kind of statistics, and what plain images gain over the run's own.

    Raises:
        SystemExit: the run has statistics of plain images already, or none at all.
    """
    model, spec = run.load_model(folder)
    recipe = recipes.from_dict(spec.training["recipe"], source=str(folder))
    if recipe.norm_images or not any(isinstance(one, nn.BatchNorm2d) for one in model.modules()):
        raise SystemExit(f"{folder}: norm_images is {recipe.norm_images}, or nothing is normalised: nothing to compare")
    faces = data.place(train, spec.labels, recipes.Recipe(), torch.device("cpu"))
    rows = torch.randperm(len(faces), generator=torch.Generator().manual_seed(seed))[:images]
    generator = torch.Generator().manual_seed(seed)

    def batches(*, augmented: bool) -> Iterator[Tensor]:
        for batch in rows.tensor_split(math.ceil(len(rows) / BATCH)):
            pixels = faces.pixels(batch, spec.input)
            if augmented:  # as in the last epochs: neither erased nor mixed
                draws = augment.draw(recipe, len(pixels), generator, calm=True)
                pixels = augment.view(pixels, draws, padding=recipe.padding, size_hw=spec.input.size_hw)
            yield normalise(pixels, spec.input)

    def estimated(*, augmented: bool) -> NDArray[np.float32]:
        other = deepcopy(model)
        norms.estimate(other, other, batches(augmented=augmented))
        return torch_predict(other, spec)(validation.images)

    found = {
        "trained": torch_predict(model, spec)(validation.images),
        "augmented": estimated(augmented=True),
        "plain": estimated(augmented=False),
    }
    labels = np.asarray(validation.labels)
    right = {kind: one.argmax(1) == labels for kind, one in found.items()}
    gain = right["plain"].astype(int) - right["trained"].astype(int)
    return {
        "network": recipe.model,
        "epochs": recipe.epochs,
        "n": len(labels),
        "accuracy": {kind: round(float(one.mean()), 5) for kind, one in right.items()},
        "log_loss": {kind: round(metrics.log_loss(one, labels), 4) for kind, one in found.items()},
        "gain": round(float(gain.mean()), 5),
        "gain_ci95": [round(v, 5) for v in metrics.bootstrap_interval(lambda at: float(gain[at].mean()), len(gain))],
    }


def section(figures: dict[str, Any]) -> str:
    """The table of the page."""
    heads = ["run", "network", "epochs", "the run's own", "augmented images", "plain images", "gain (95 %), points"]
    return page.table(heads, [_cells(name, found) for name, found in figures["runs"].items()], text_columns=2)


def _cells(name: str, found: dict[str, Any]) -> list[str]:
    def both(kind: str) -> str:
        return f"{found['accuracy'][kind]:.2%} / {found['log_loss'][kind]:.3f}".replace("%", " %")

    low, high = (f"{100 * one:+.2f}" for one in found["gain_ci95"])
    gain = f"{100 * found['gain']:+.2f} ({low} to {high})"
    return [name, found["network"], str(found["epochs"]), both("trained"), both("augmented"), both("plain"), gain]


def _row(name: str, found: dict[str, Any]) -> str:
    return " | ".join(_cells(name, found))


if __name__ == "__main__":
    main()
