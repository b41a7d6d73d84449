"""Run every recipe that mien ships for some steps, the way `mien train` would.

    python benchmarks/smoke.py --data DATA [--recipes NAME ...] [--steps 20] [--batch-size N]

Each recipe trains on as many faces as its steps take, with its own augmentation, loss, optimiser and precision,
validates on some, writes its checkpoints, and is read back to judge a face; a loss or an answer that is not finite
fails it. It shows that a recipe works, not how good it is, so no accuracy is kept: the output, to which each call adds,
says when, how many steps of how many faces, and from which weights, and `mien results write` puts that beside recipes
without a finished run. Weights that cannot be had here (VGGFace2, runs of one's own) are replaced by random ones with
nothing frozen. Students have the packaged model as teacher; recipes that go on with a model
start from it where the network is the same, else from random weights.
"""

import argparse
import datetime
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import mien
from mien.datasets import packed
from mien.datasets.packed import Dataset
from mien.errors import MienError, ModelError
from mien.models.pixels import normalise
from mien.training import distill, distributed, run
from mien.training import recipe as recipes
from mien.training.distributed import World
from mien.training.engine import Engine
from mien.training.recipe import Recipe
from mien.training.results import BEGUN, TAUGHT

ROOT = Path(__file__).parents[1]
TEACHER = START = "default"
VALIDATED_FACES = 64


def smoke(name: str, dataset: Dataset, options: argparse.Namespace, world: World) -> dict[str, Any]:
    """What is kept of one recipe.

    Raises:
        MienError: it cannot run.
    """
    recipe = replace(recipes.read(name), epochs=1)
    if name == "finetune":
        recipe = replace(recipe, model=run.load_start(START).about["recipe"]["model"])
    if options.batch_size:
        recipe = replace(recipe, batch_size=options.batch_size)
    train, validation = dataset.split("train"), dataset.split("validation")
    few = {
        "train": train.take(drawn(len(train), options.steps * recipe.batch_size)),
        "validation": validation.take(drawn(len(validation), VALIDATED_FACES)),
    }
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        engine, weights = prepared(name, recipe, Dataset(dataset.labels, few, dataset.provenance), Path(folder), world)
        engine.run()
        seconds = time.perf_counter() - started
        answers(Path(folder), engine)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "steps": engine.step,
        "batch_size": recipe.batch_size,
        "weights": weights,
        "train_loss": round(engine.history[-1]["train_loss"], 4),
        "seconds": round(seconds, 1),
        "device": run.device_name(world.device),
        "versions": {"mien": mien.__version__, "torch": str(torch.__version__)},
    }


def drawn(faces: int, number: int) -> NDArray[np.int64]:
    """Rows of `number` faces out of all classes; those of a small set come round again."""
    return np.resize(np.random.default_rng(0).permutation(faces), number)


def prepared(name: str, recipe: Recipe, dataset: Dataset, folder: Path, world: World) -> tuple[Engine, str]:
    """The engine, and what its weights start from: random ones where the recipe's cannot be had."""
    start = run.load_start(START) if name in BEGUN else None
    if start and start.about["recipe"]["model"] != recipe.model:
        start, recipe = None, replace(recipe, start_share=0.0)  # of another network: there is no start to share
    taught = distill.load([TEACHER], temperature=recipe.distill_temperature) if name in TAUGHT else None
    job = run.Job(recipe, dataset, folder, name=name, start=start, teachers=taught)
    began = START if start else recipe.pretrained if recipe.pretrained != "none" else "random"
    try:
        return run.prepare(job, world), began
    except ModelError:
        if recipe.pretrained == "none":
            raise
        untrained = replace(recipe, pretrained="none", frozen_layers=0)
        return run.prepare(replace(job, recipe=untrained), world), f"random, as {recipe.pretrained} is not here"


def answers(folder: Path, engine: Engine) -> None:
    """The saved weights, read back, judge a face.

    Raises:
        ModelError: they give something else than finite logits.
    """
    model, spec = run.load_model(folder)
    with torch.inference_mode():
        logits = model(normalise(engine.validation.pixels(torch.arange(1), spec.input).cpu(), spec.input))
    if logits.shape != (1, len(spec.labels)) or not logits.isfinite().all():
        raise ModelError(f"{spec.name}: the weights that were saved give {logits.tolist()}")


def main() -> int:
    """Each recipe in turn; 0 when all of them work, 1 when some do not."""
    parser = argparse.ArgumentParser(description="Every recipe for some steps.")
    parser.add_argument("--data", type=Path, required=True, help="packed data set, with FER+ votes")
    parser.add_argument("--recipes", nargs="+", metavar="NAME", default=recipes.names(), help="default: all")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, help="default: the recipe's own")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "smoke.json")
    options = parser.parse_args()
    try:
        dataset = packed.load(options.data, only=("train", "validation"))
        world = distributed.join(options.device)
    except MienError as error:
        print(f"smoke: {error}", file=sys.stderr)
        return 2
    failed = 0
    for name in options.recipes:
        try:
            entry = smoke(name, dataset, options, world)
        except MienError as error:
            print(f"smoke: {name}: {error}", file=sys.stderr)
            failed += 1
            continue
        table = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        table = dict(sorted({**table, name: entry}.items()))
        options.output.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        done = f"{entry['steps']} steps of {entry['batch_size']} faces in {entry['seconds']} s"
        print(f"{name}: {done}, loss {entry['train_loss']}", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
