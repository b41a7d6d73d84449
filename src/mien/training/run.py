"""A run is a folder: recipe.json, history.csv, history.jsonl, last.pt and best.pt."""

import csv
import io
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mien
from mien import models
from mien.bundle import ModelSpec, encode_weights
from mien.datasets import packed
from mien.errors import ConfigError, ModelError
from mien.preprocess import InputSpec
from mien.training import checkpoint, data
from mien.training import recipe as recipes
from mien.training.checkpoint import Checkpoint
from mien.training.distributed import World
from mien.training.engine import Engine, Reporter, Teacher
from mien.training.recipe import Recipe

LICENCE = (
    "trained on FER-2013 (public research data, image rights unverified) by mien; "
    "the weights are offered under Apache-2.0 as far as mien's authors can grant it"
)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What to train on what, and where it goes."""

    recipe: Recipe
    data: Path  # a packed data set
    output: Path
    name: str = ""  # of the model; the network's own when empty


def prepare(
    job: Job, world: World, *, teacher: Teacher | None = None, reporter: Reporter | None = None, resume: bool = False
) -> Engine:
    """An engine ready to run, its folder made; with `resume`, where the last checkpoint left off.

    Raises:
        ConfigError: the folder holds a run already, or one of another recipe or other data.
        DataError: a split that is needed is empty.
        ModelError: the network is unknown, or the checkpoint is damaged.
    """
    recipe = job.recipe
    dataset = packed.load(job.data, only=("train", "validation"))  # the test split is never opened
    train, validation = dataset.split("train"), dataset.split("validation")
    labels = data.task_labels(dataset.labels, recipe)
    entry = models.info(recipe.model)
    spec = entry.input
    if recipe.input_size:
        spec = replace(spec, size_hw=(recipe.input_size, recipe.input_size))
    about = {
        "name": job.name or recipe.model,
        "recipe": recipe.to_dict(),
        "labels": list(labels),
        "input": asdict(spec),
        "data": {
            "provenance": dict(dataset.provenance),
            "digests": {"train": train.digest, "validation": validation.digest},
        },
        "versions": {"mien": mien.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "device": device_name(world.device),
    }
    state = _existing(job.output, about, resume=resume)
    torch.manual_seed(recipe.seed)
    plain = replace(recipe, label_smoothing=0.0, ferplus=recipe.ferplus if len(labels) == 8 else "none")
    engine = Engine(
        recipe=recipe,
        spec=spec,
        model=build(recipe, len(labels)),
        train=data.place(train, labels, recipe, world.device),
        validation=data.place(validation, labels, plain, world.device),
        about=about,
        world=world,
        teacher=teacher,
        reporter=reporter,
        save=lambda state, better: write(job.output, state, better=better),
    )
    if state is not None:
        engine.restore(state)
    elif world.writes:
        job.output.mkdir(parents=True, exist_ok=True)
        _replace(job.output / "recipe.json", json.dumps(about, indent=1, ensure_ascii=False))
    return engine


def build(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's network with random weights."""
    options = {} if recipe.dropout is None else {"dropout": recipe.dropout}
    return models.create(recipe.model, num_classes, **options)


def write(folder: Path, state: Checkpoint, *, better: bool) -> None:
    """Checkpoints and history; each file is whole at any moment."""
    checkpoint.save(state, folder / "last.pt")
    if better:
        checkpoint.save(state, folder / "best.pt")
    if state.history:
        table = io.StringIO()
        writer = csv.DictWriter(table, state.history[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(state.history)
        _replace(folder / "history.csv", table.getvalue())
        _replace(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in state.history))


def load_model(run: Path) -> tuple[nn.Module, ModelSpec]:
    """The network of a run folder or checkpoint, in eval mode, and what inference needs beside it.

    Of a folder it is the epoch that the recipe keeps: the last or the best one.

    Raises:
        ModelError: there is no such checkpoint, or it is damaged.
    """
    state = checkpoint.load(_kept(run) if run.is_dir() else run)
    about = state.about
    recipe = recipes.from_dict(about["recipe"], source=str(run))
    labels = tuple(about["labels"])
    model = build(recipe, len(labels))
    try:
        model.load_state_dict(state.weights)
    except RuntimeError as error:
        raise ModelError(f"{run}: the weights do not fit {recipe.model}: {str(error).splitlines()[0]}") from error
    table = {key: tuple(v) if isinstance(v, list | tuple) else v for key, v in about["input"].items()}
    spec = ModelSpec(
        name=about["name"],
        labels=labels,
        input=InputSpec(**table),
        licence=LICENCE,
        training={key: about[key] for key in ("recipe", "data", "versions", "device")} | {"epochs": state.epoch},
        cam_weights=_cam_weights(model),
    )
    return model.eval(), spec


def device_name(device: torch.device) -> str:
    """The device as a person would say it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _cam_weights(model: nn.Module) -> str | None:
    if not getattr(model, "global_pooling", False):
        return None
    classifier = model.classifier
    assert isinstance(classifier, nn.Linear)
    return encode_weights(classifier.weight.detach().cpu().numpy())


def _kept(folder: Path) -> Path:
    try:
        keep = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))["recipe"]["keep"]
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise ModelError(f"{folder} is no run: it has no readable recipe.json") from error
    return folder / f"{keep}.pt"


def _existing(folder: Path, about: Mapping[str, Any], *, resume: bool) -> Checkpoint | None:
    last = folder / "last.pt"
    if not last.exists():
        return None
    if not resume:
        raise ConfigError(f"{folder} holds a run already: add --resume to go on with it, or name another --output")
    state = checkpoint.load(last)
    for key, what in (("recipe", "recipe"), ("labels", "labels")):
        if _plain(state.about[key]) != _plain(about[key]):
            raise ConfigError(f"{folder} was trained with another {what}: resume it with its own, or start anew")
    if state.about["data"]["digests"] != about["data"]["digests"]:
        raise ConfigError(f"{folder} was trained on other images, labels or votes than {about['data']['digests']}")
    return state


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
