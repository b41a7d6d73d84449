"""A run is a folder: recipe.json, history.csv, history.jsonl, last.pt and best.pt."""

import csv
import io
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from torch import nn

import mien
from mien import hub
from mien.bundle import ModelSpec, encode_weights
from mien.datasets.packed import Dataset
from mien.errors import ConfigError, ModelError
from mien.files import write_whole
from mien.preprocess import InputSpec
from mien.training import checkpoint, data, transfer
from mien.training import recipe as recipes
from mien.training.checkpoint import Checkpoint
from mien.training.distributed import World
from mien.training.engine import Engine, Reporter
from mien.training.recipe import Recipe

if TYPE_CHECKING:
    from mien.training.distill import Teachers

RESUMABLE = ("epochs", "norm_images")
"""Settings that may change when a run is resumed."""

NO_FOLDER = "cannot be a run's folder: {reason}: name another --output"

LICENCE = (
    "trained on FER-2013 (public research data, image rights unverified) by mien; "
    "the weights are offered under Apache-2.0 as far as mien's authors can grant it"
)
OWN_LICENCE = "trained by mien on the folder {folder}; whoever owns its images decides on the terms"


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What to train on what, and where it goes."""

    recipe: Recipe
    data: Dataset  # its test split is never looked at
    output: Path
    name: str = ""  # of the model; the network's own when empty
    start: "Start | None" = None  # trained weights to go on from
    teachers: "Teachers | None" = None  # models that the student learns from


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Trained weights and what is known of them."""

    source: str  # as the user named it
    about: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]
    sha256: str  # of the file


@contextmanager
def locked(folder: Path, world: World) -> Iterator[None]:
    """Keep other processes out of a run's folder while one trains into it; the system ends the lock with the process.

    Raises:
        ConfigError: somebody trains into it, or it cannot be made.
    """
    lock = FileLock(folder / ".lock", blocking=False)
    try:
        if world.writes:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout as error:
        raise ConfigError(f"{folder} is being trained into: wait for it, or name another --output") from error
    except OSError as error:
        raise ConfigError(f"{folder} {NO_FOLDER.format(reason=error.strerror or error)}") from error
    try:
        yield
    finally:
        lock.release()


def prepare(job: Job, world: World, *, reporter: Reporter | None = None, resume: bool = False) -> Engine:
    """An engine ready to run, its folder made; with `resume`, where the last checkpoint left off.

    Raises:
        ConfigError: the folder holds a run already, or one of another recipe or other data.
        DataError: a split that is needed is empty.
        ModelError: the network is unknown, or the checkpoint is damaged.
    """
    recipe = transfer.settle(job.recipe)
    dataset = job.data
    train, validation = dataset.split("train"), dataset.split("validation")
    labels = data.task_labels(dataset.labels, recipe)
    if job.teachers is not None and job.teachers.labels != labels:
        raise ConfigError(f"the teachers know {', '.join(job.teachers.labels)}, the data {', '.join(labels)}")
    if job.start is None:
        spec = transfer.input_spec(recipe)
    else:
        spec = InputSpec.from_dict(job.start.about["input"])
        if recipe.input_size:
            spec = replace(spec, size_hw=(recipe.input_size, recipe.input_size))
    about = {
        "name": job.name or recipe.model,
        "recipe": recipe.to_dict(),
        "start": job.start
        and {"source": job.start.source, "sha256": job.start.sha256, "data": job.start.about["data"]},
        "teachers": [] if job.teachers is None else [dict(one) for one in job.teachers.about],
        "labels": list(labels),
        "input": asdict(spec),
        "data": {
            "provenance": dict(dataset.provenance),
            "digests": {"train": train.digest, "validation": validation.digest},
        },
        "versions": {"mien": mien.__version__, "torch": str(torch.__version__), "python": platform.python_version()},
        "device": device_name(world.device),
    }
    state = _existing(job.output, about, resume=resume)
    torch.manual_seed(recipe.seed)
    plain = replace(recipe, label_smoothing=0.0, ferplus=recipe.ferplus if recipe.ferplus in data.VOTED else "none")
    engine = Engine(
        recipe=recipe,
        spec=spec,
        model=_network(recipe, job.start, labels, fresh=state is None),
        train=data.place(train, labels, recipe, world.device),
        validation=data.place(validation, labels, plain, world.device),
        about=about,
        world=world,
        teacher=job.teachers,
        reporter=reporter,
        save=lambda state, better: write(job.output, state, better=better),
        start=_mixed_in(recipe, job.start, labels),
    )
    _check_sizes(engine)
    if state is not None:
        about["start"] = state.about.get("start")
        about["horizons"] = _horizons(state, recipe.epochs)
        engine.restore(state)
        _check_end(engine, state, job.output)
    if world.writes:
        try:
            job.output.mkdir(parents=True, exist_ok=True)
            write_whole(job.output / "recipe.json", json.dumps(about, indent=1, ensure_ascii=False))
            if state is not None and state.epoch == recipe.epochs < state.about["recipe"]["epochs"]:
                write(job.output, replace(state, about=about), better=False)  # it ends here, and says so
        except OSError as error:
            raise ConfigError(f"{job.output} {NO_FOLDER.format(reason=error.strerror or error)}") from error
    return engine


def _check_sizes(engine: Engine) -> None:
    """One picture through the network at each size that it will see.

    Raises:
        ConfigError: the network cannot take one of them.
    """
    recipe, (height, width) = engine.recipe, engine.spec.size_hw
    sizes = [(height, width)] + [(recipe.early_size, recipe.early_size)] * (recipe.early > 0)
    model, was_training = engine.model, engine.model.training
    batch = min(recipe.batch_size, len(engine.train) % recipe.batch_size or recipe.batch_size)
    single = batch // engine.world.size // recipe.accumulate <= 1
    try:
        with torch.inference_mode():
            for size_hw in sizes:
                one = torch.zeros(1, engine.spec.channels, *size_hw, device=engine.world.device)
                model.eval()(one)
                if single:
                    deepcopy(model).train()(one)  # batch norm has no variance of one value
    except (RuntimeError, AssertionError) as error:  # AssertionError: timm's
        raise ConfigError(
            f"{recipe.model} cannot take pictures of {size_hw[0]} x {size_hw[1]}: leave input_size and early alone"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"a batch, or a piece of one, would hold a single image of {size_hw[0]} x {size_hw[1]}, which batch norm "
            f"in {recipe.model} cannot take: choose another batch_size or accumulate"
        ) from error
    finally:
        model.train(was_training)


def _network(recipe: Recipe, start: Start | None, labels: tuple[str, ...], *, fresh: bool) -> nn.Module:
    """The network of a run: with the weights it starts from, unless a checkpoint brings them."""
    model = transfer.build(recipe, len(labels))
    if fresh and start is not None:
        same = tuple(start.about["labels"]) == labels
        load_matching(model, _first_head(start, recipe), source=start.source, classifier=same)
    elif fresh:
        transfer.load_pretrained(model, recipe)
    transfer.freeze(model, recipe, trained=start is not None)
    return model


def _mixed_in(recipe: Recipe, start: Start | None, labels: tuple[str, ...]) -> Mapping[str, torch.Tensor]:
    """The weights that `start_share` mixes in.

    Raises:
        ConfigError: there are none, or their classes are others.
    """
    if not recipe.start_share:
        return {}
    if start is None:
        raise ConfigError("start_share mixes in the weights begun with: name them with --from, on resuming too")
    if tuple(start.about["labels"]) != labels:
        raise ConfigError(f"start_share needs a start of the same classes: {start.source} knows other ones")
    return _first_head(start, recipe)


def _first_head(start: Start, recipe: Recipe) -> Mapping[str, torch.Tensor]:
    """The weights of `start`, of two heads the first one alone where the recipe has no second."""
    weights = dict(start.weights)
    if start.about["recipe"].get("ferplus") == "head" and recipe.ferplus != "head":
        weights = {name.removeprefix("net."): value for name, value in weights.items() if name.startswith("net.")}
    return weights


def load_matching(
    model: nn.Module, weights: Mapping[str, torch.Tensor], *, source: str, classifier: bool = True
) -> tuple[str, ...]:
    """Load all weights that fit; the names of the classifier's, which alone may differ in shape, are returned.

    Without `classifier` it stays random in any case: its classes are others.

    Raises:
        ModelError: weights other than the classifier's are missing or of another shape.
    """
    wanted = model.state_dict()
    fits = {name: value.to(wanted[name].dtype) for name, value in weights.items() if name in wanted}
    other = {name for name, value in wanted.items() if name not in fits or fits[name].shape != value.shape}
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
    last = {name for name in wanted if any(name.startswith(layer + ".") for layer in layers)}
    if not classifier:
        other |= last
    if strange := sorted(other - last):
        raise ModelError(f"{source} does not fit this network: {strange[0]} is missing or of another shape")
    model.load_state_dict({**wanted, **{name: value for name, value in fits.items() if name not in other}})
    return tuple(sorted(other))


def load_start(name: str) -> Start:
    """Weights to go on from: a run folder, a checkpoint, a `.safetensors` file of mien, or a packaged model's name.

    Raises:
        ModelError: there are none, or they are damaged.
    """
    path = hub.resolve(name)
    return _read_start(path if hub.is_trained(path) else path.with_suffix(".safetensors"), name)


def file_of(path: Path) -> Path:
    """The file that a run folder stands for, which is the last or the best checkpoint; of a file, itself.

    Raises:
        ModelError: the folder is no run.
    """
    return checkpoint.kept(path) if path.is_dir() else path


def save_weights(run: Path, path: Path) -> None:
    """The weights that `run` stands for, as fp16 safetensors with what is known of them: what `--from` reads.

    Raises:
        ModelError: there is no such run.
    """
    start = load_start(str(run))
    halved = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in start.weights.items()
    }
    about = {"mien": json.dumps(dict(start.about), ensure_ascii=False)}
    write_whole(path, safetensors.torch.save(halved, about))


def _read_start(path: Path, name: str) -> Start:
    if not hub.is_trained(path):
        raise ModelError(f"{name} is what serves already: name the run, checkpoint or weights that it was made from")
    if path.suffix == ".safetensors":
        return _read_weights(path, name)
    file = file_of(path)
    state = checkpoint.load(file)
    return Start(name, state.about, state.weights, hub.sha256_of(file))


def _read_weights(path: Path, name: str) -> Start:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["mien"])
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            return Start(name, about, weights, hub.sha256_of(path))
    except FileNotFoundError as error:
        raise ModelError(f"{name} has no weights to train on from ({path.name}): name a run or a checkpoint") from error
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} is no weights file of mien, or is damaged: {error}") from error


def write(folder: Path, state: Checkpoint, *, better: bool) -> None:
    """Checkpoints and history; each file is whole at any moment.

    `last.pt` comes last: a run killed before it goes over the epoch again, and writes the same files again.
    """
    if better:
        checkpoint.save(state, folder / "best.pt")
    if state.history:
        table = io.StringIO()
        writer = csv.DictWriter(table, state.history[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(state.history)
        write_whole(folder / "history.csv", table.getvalue())
        write_whole(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in state.history))
    checkpoint.save(state, folder / "last.pt")


def load_model(run: Path) -> tuple[nn.Module, ModelSpec]:
    """The network of a run folder, checkpoint or weights file, in eval mode, and what inference needs beside it.

    Of a folder it is the epoch that the recipe keeps: the last or the best one.

    Raises:
        ModelError: there is no such checkpoint, or it is damaged.
    """
    start = _read_start(run, str(run)) if run.exists() else load_start(str(run))
    about = start.about
    recipe = recipes.from_dict(about["recipe"], source=str(run))
    labels = tuple(about["labels"])
    model = transfer.build(recipe, len(labels))
    if missing := load_matching(model, start.weights, source=str(run)):
        raise ModelError(f"{run}: {missing[0]} does not fit {recipe.model}")
    spec = ModelSpec(
        name=about["name"],
        labels=labels,
        input=InputSpec.from_dict(about["input"]),
        licence=_licence(about),
        training={key: about.get(key) for key in ("recipe", "data", "versions", "device", "horizons", "teachers")}
        | {"start": (about.get("start") or {}).get("source")},
        cam_weights=_cam_weights(model),
    )
    return model.eval(), spec


def device_name(device: torch.device) -> str:
    """The device as a person would say it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _licence(about: Mapping[str, Any]) -> str:
    """Terms of the weights: `mien data prepare` writes the protocol of FER-2013, a folder of one's own has none."""
    provenance = about["data"]["provenance"]
    if "protocol" in provenance or not provenance.get("sources"):
        return LICENCE
    own = OWN_LICENCE.format(folder=provenance["sources"][0]["name"])
    return own if about.get("start") is None else f"{own}; it started from weights {LICENCE}"


def _cam_weights(model: nn.Module) -> str | None:
    if not getattr(model, "global_pooling", False):
        return None
    classifier = model.classifier
    assert isinstance(classifier, nn.Linear)
    return encode_weights(classifier.weight.detach().cpu().numpy())


def _existing(folder: Path, about: Mapping[str, Any], *, resume: bool) -> Checkpoint | None:
    last = folder / "last.pt"
    if not last.exists():
        return None
    if not resume:
        raise ConfigError(f"{folder} holds a run already: add --resume to go on with it, or name another --output")
    state = checkpoint.load(last)
    was, now = (recipes.from_dict(a["recipe"], source=str(folder)).to_dict() for a in (state.about, about))
    # norm_images changes no step, unless the rate follows the validation accuracy
    free = ("epochs",) if now["schedule"] == "plateau" else RESUMABLE
    if changed := [key for key in now if was[key] != now[key] and key not in free]:
        raise ConfigError(
            f"{folder} was trained with {changed[0]} = {was[changed[0]]!r}, not {now[changed[0]]!r}: "
            "resume it with its own recipe, or name another --output"
        )
    if state.epoch > now["epochs"]:
        raise ConfigError(f"{folder} has {state.epoch} epochs behind it: epochs = {now['epochs']} cannot end it")
    _same_start(folder, was, state.about.get("start"), about["start"])
    if state.epoch == was["epochs"] < now["epochs"] and was["start_share"]:
        raise ConfigError(f"{folder} has ended and holds its start's share: train on with --from instead")
    if state.epoch == now["epochs"] and was["norm_images"] != now["norm_images"]:
        raise ConfigError(f"{folder} has ended: norm_images tells at the end of an epoch, so name more epochs")
    if [one["sha256"] for one in state.about.get("teachers", [])] != [one["sha256"] for one in about["teachers"]]:
        names = ", ".join(one["name"] for one in state.about.get("teachers", [])) or "no teachers"
        raise ConfigError(f"{folder} learned from {names}: resume it with the same teachers in the same order")
    if state.about["data"]["digests"] != about["data"]["digests"]:
        raise ConfigError(f"{folder} was trained on other images, labels or votes than {about['data']['digests']}")
    return state


def _check_end(engine: Engine, state: Checkpoint, folder: Path) -> None:
    """What the end of the last epoch brings cannot come any more where no epoch is left.

    Raises:
        ConfigError: so it is, and the checkpoint lies inside an epoch, or lacks its share of the start.
    """
    if not engine.epoch == engine.recipe.epochs < state.about["recipe"]["epochs"]:
        return
    if engine.recipe.start_share or engine.step != engine.epoch * engine.steps_per_epoch:
        raise ConfigError(
            f"{folder} has {engine.epoch} epochs behind it, and what ends a run comes with its last one: "
            f"resume it with epochs = {engine.epoch + 1} or more"
        )


def _same_start(folder: Path, was: Mapping[str, Any], begun: Mapping[str, Any] | None, now: Any) -> None:
    """A run goes on from its checkpoint; the weights it began with are told again, and may not be others.

    Raises:
        ConfigError: others are named, or none where the end will hold a share of them.
    """
    if now is None and not was["start_share"]:
        return
    if begun is None or now is None or begun.get("sha256", now["sha256"]) != now["sha256"]:
        if begun is None:
            raise ConfigError(f"{folder} began with random weights: resume it without --from")
        cure = "with that --from" if was["start_share"] else "with that --from, or without"
        raise ConfigError(f"{folder} began with {begun['source']}, as it was then: resume it {cure}")


def _horizons(state: Checkpoint, epochs: int) -> list[dict[str, int]]:
    """Every number of epochs that the run was to have, and from which epoch on: the schedule follows the newest."""
    planned = state.about["recipe"]["epochs"]
    horizons = list(state.about.get("horizons") or [{"from_epoch": 1, "epochs": planned}])
    if epochs != planned:
        horizons.append({"from_epoch": state.epoch + 1, "epochs": epochs})
    return horizons
