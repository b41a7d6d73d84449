"""From what a user orders to a finished run: recipe, data, start, device, reporters."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mien import models
from mien.datasets import exclusions, packed
from mien.datasets.packed import Dataset
from mien.errors import ConfigError, DataError
from mien.hub import ENSEMBLE, JOIN
from mien.preprocess import InputSpec
from mien.training import distill, distributed, run, transfer
from mien.training import recipe as recipes
from mien.training.engine import Engine, Reporter
from mien.training.recipe import Recipe
from mien.training.reporters import Several, TensorBoard, Terminal
from mien.training.run import Job

FINETUNE_STEPS = 600  # of the finetune recipe: what a new last layer and a little more of the network need
FINETUNE_EPOCHS = (2, 60)  # at least, for large sets; at most, for small ones

Loaded = Callable[[Dataset], None]
"""Called with the data set once it is read."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a user asks for; `mien train` fills it from its options."""

    recipe: str = ""  # a recipe, a network or a .toml file; empty with `start`
    settings: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""  # a model to fine-tune
    data: Path
    output: Path
    exclude: Path | None = None  # names to leave out, one a line
    teachers: tuple[str, ...] = ()  # models that the student learns from
    resume: bool = False
    device: str = "auto"


def train(order: Order, *, watch: bool = False, tensorboard: bool = False, loaded: Loaded | None = None) -> str | None:
    """Train as ordered; a sentence about the result on rank 0, None on others.

    `loaded` is told of the data set on rank 0, before training.

    Raises:
        MienError: the order cannot be carried out, or training fails.
    """
    world = distributed.join(order.device)
    try:
        job = read(order, loaded=loaded if world.writes else None)
        with run.locked(order.output, world):
            engine = run.prepare(job, world, resume=order.resume)
            if world.writes:
                terminal = Terminal(engine.recipe.epochs, watch=watch)
                several: list[Reporter] = [terminal]
                if tensorboard:
                    several.append(TensorBoard(order.output / "tensorboard", engine))
                engine.reporter = Several(several)
                with terminal:
                    engine.run()
                return summary(engine, order.output)
            engine.run()
            return None
    finally:
        distributed.leave()


def read(order: Order, *, loaded: Loaded | None = None) -> Job:
    """What `order` names, all read: recipe, data, start and teachers; `loaded` is told of the data set.

    Raises:
        MienError: it cannot be carried out.
    """
    start = run.load_start(order.start) if order.start else None
    recipe = resolve_recipe(order, None if start is None else start.about["recipe"])
    dataset = load_data(order.data, input_size(recipe, start), seed=recipe.seed)
    if loaded is not None:
        loaded(dataset)
    if order.exclude is not None:
        dataset = exclusions.without(dataset, order.exclude, root=order.data)
    if start is not None and not order.recipe:
        recipe = recipes.override(paced(recipe, len(dataset.split("train"))), order.settings, source="--set")
    teachers = distill.load(order.teachers, temperature=recipe.distill_temperature) if order.teachers else None
    return Job(recipe, dataset, order.output, start=start, teachers=teachers)


def resolve_recipe(order: Order, started: Mapping[str, Any] | None = None) -> Recipe:
    """The ordered recipe with its changes; a network's name alone means the default recipe for it.

    Raises:
        ConfigError: neither a recipe nor a network has this name, or nothing is named at all.
    """
    name = order.recipe
    if not name and started is None:
        raise ConfigError(f"name a recipe ({', '.join(recipes.names())}) or a model to start --from")
    if started is not None:
        recipe = recipes.read(name or "finetune")
        kept = {key: started[key] for key in ("model", "dropout", "layout", "channels", "input_size") if key in started}
        if recipe.dropout is not None:  # no weights depend on it, so a recipe may change it
            kept.pop("dropout", None)
        recipe = recipes.override(recipe, kept, source=order.start)
    elif name in recipes.names() or name.endswith(".toml"):
        recipe = recipes.read(name)
    elif name in models.names() or name.startswith("timm:"):
        recipe = Recipe(model=name)
    elif name == ENSEMBLE:
        raise ConfigError(f"an ensemble is not trained but joined: {JOIN}")
    else:
        known = sorted({*recipes.names(), *models.names()})
        raise ConfigError(f"{name!r} is no recipe or network: use one of {', '.join(known)}, timm:NAME or a .toml file")
    return recipes.override(recipe, order.settings, source="--set")


def paced(recipe: Recipe, images: int) -> Recipe:
    """`recipe` with epochs for about FINETUNE_STEPS steps on as many images, whatever their number."""
    steps = math.ceil(images / recipe.batch_size)
    fewest, most = FINETUNE_EPOCHS
    epochs = min(max(math.ceil(FINETUNE_STEPS / steps), fewest), most)
    return replace(recipe, epochs=epochs, warmup_steps=min(recipe.warmup_steps, epochs * steps // 10))


def input_size(recipe: Recipe, start: run.Start | None) -> tuple[int, int]:
    """Height and width in pixels that the network will see: anyone's own images are kept as large.

    Raises:
        ModelError: the network, or what it starts from, is unknown.
    """
    if recipe.input_size:
        return recipe.input_size, recipe.input_size
    if start is not None:
        return InputSpec.from_dict(start.about["input"]).size_hw
    return transfer.input_spec(transfer.settle(recipe)).size_hw


def load_data(path: Path, size_hw: tuple[int, int], *, seed: int) -> Dataset:
    """A prepared data set without its test split, or anyone's folder of class sub-folders, split by `seed`.

    Raises:
        DataError: it is neither.
    """
    if (path / "dataset.json").exists():
        return packed.load(path, only=("train", "validation"))
    if not path.is_dir():
        raise DataError(f"{path} is no prepared data set and no folder of class sub-folders")
    from mien.datasets.folder import pack_class_folder  # noqa: PLC0415 - a prepared data set needs no image library

    return pack_class_folder(path, size_hw, seed=seed, only=("train", "validation"))


def summary(engine: Engine, output: Path) -> str:
    """What came of a run, in one sentence."""
    last = engine.history[-1]
    best = max(engine.history, key=lambda row: row["validation_accuracy"])
    return (
        f"{output}: {last['epoch']:.0f} epochs, validation accuracy {last['validation_accuracy']:.4f}, "
        f"log-loss {last['validation_loss']:.4f} (best accuracy {best['validation_accuracy']:.4f} "
        f"in epoch {best['epoch']:.0f})"
    )
