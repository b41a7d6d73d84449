"""Weights between those that a run began with and those that it ended with: clean faces, and damaged ones.

    python benchmarks/start_share.py START END --data DATA

END is a run that went on from START, a run or its .safetensors file, with `start_share = 0`. For shares of START from 1
to 0 the weights are mixed, batch norm's statistics taken anew from plain training images, and all validation faces
judged, as they are, at the middle strength of `mien evaluate --robustness`, and some of them as serving cuts them from
photos (benchmarks/pipeline.py, centerface, aligned): results/start_share.json and the table of docs/training.md. Eight
minutes on one core.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import page
import torch
from norm_statistics import photo_crops
from numpy.typing import NDArray

from mien.datasets import packed
from mien.datasets.packed import Split
from mien.evaluation.corruptions import CORRUPTIONS, corrupt
from mien.evaluation.network import torch_predict
from mien.models.pixels import normalise
from mien.training import data, norms, run
from mien.training import recipe as recipes

SHARES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
DAMAGE = ("noise", "blur", "low-resolution", "jpeg")  # the first two as in training, the others never seen there
STRENGTH = 3
BATCH = 256

Faces = Mapping[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]
"""Crops and labels of each kind."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path)
    parser.add_argument("end", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="packed data set")
    parser.add_argument("--images", type=int, default=2048, help="training images for the statistics (default 2048)")
    parser.add_argument("--photos", type=int, default=2000, help="validation faces pasted into photos (default 2000)")
    options = parser.parse_args()
    dataset = packed.load(options.data, only=("train", "validation"))
    validation = dataset.split("validation")
    faces = {"clean": (np.asarray(validation.images), validation.labels)}
    faces |= {name: (corrupt(faces["clean"][0], name, STRENGTH), validation.labels) for name in DAMAGE}
    chosen = np.random.default_rng(0).permutation(len(validation))[: options.photos]
    crops, at = photo_crops(validation, np.sort(chosen), seed=0)
    faces["photos"] = (crops, validation.labels[at])
    shares = measure(options.start, options.end, dataset.split("train"), faces, images=options.images)
    figures = {
        "start": options.start.name.removesuffix(".safetensors"),
        "end": options.end.name,
        "images": options.images,
        "photos": len(crops),
        "strength": STRENGTH,
        "shares": shares,
    }
    page.keep("start_share", figures, {"start share": section(figures)}, page.ROOT / "docs" / "training.md")


def measure(start: Path, end: Path, train: Split, faces: Faces, *, images: int) -> list[dict[str, Any]]:
    """Share of the start, and the accuracy of its mixture on each kind of faces."""
    begun, (model, spec) = run.load_start(str(start)).weights, run.load_model(end)
    ended = {name: value.clone() for name, value in model.state_dict().items()}
    known = data.place(train, spec.labels, recipes.Recipe(), torch.device("cpu"))
    rows = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))[:images]
    found = []
    for share in SHARES:
        mixed = {
            name: torch.lerp(value, begun[name].to(value), share)
            for name, value in ended.items()
            if value.is_floating_point()
        }
        model.load_state_dict({**ended, **mixed})
        batches = rows.tensor_split(math.ceil(images / BATCH))
        norms.estimate(model, model, (normalise(known.pixels(batch, spec.input), spec.input) for batch in batches))
        predict = torch_predict(model.eval(), spec)
        right = {name: predict(crops).argmax(1) == labels for name, (crops, labels) in faces.items()}
        found.append({"start": share, **{name: round(float(one.mean()), 5) for name, one in right.items()}})
        print(found[-1], flush=True)
    return found


def section(figures: Mapping[str, Any]) -> str:
    """The table of the page."""
    heads = ["share of the start", "as they are", "in photos"]
    heads += [f"{CORRUPTIONS[name].title} ({CORRUPTIONS[name].levels[STRENGTH - 1]:g})" for name in DAMAGE]
    rows = [
        [f"{one['start']:g}", *(f"{100 * one[name]:.2f}" for name in ("clean", "photos", *DAMAGE))]
        for one in figures["shares"]
    ]
    return page.table(heads, rows, text_columns=0)


if __name__ == "__main__":
    main()
