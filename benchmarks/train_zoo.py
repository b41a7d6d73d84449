"""Train the zoo on a GPU, recipe by recipe in order of value, in pieces that fit a short lease.

    python benchmarks/train_zoo.py --data DATA --work WORK --output OUT [--minutes 8.5] [--budget-minutes 25]

One call works for `--minutes`, stops behind a step, and exits with 3 while there is more to do, with 0 when all is
done: call it again with the same options until then. WORK keeps the runs. OUT gets what is new: the plan, histories,
and fp16 weights of runs that were finished in this call, in pieces under 16 MB, with their sha256 in the plan
(`cat NAME.safetensors.* > NAME.safetensors` joins them). With `--keep-checkpoint` it also gets the unfinished run in
pieces; `--restore FOLDER` puts what all calls delivered, in one folder, back into an empty WORK.

Before anything is trained, 20 steps and one validation of each recipe are timed. With `--budget-minutes`, which is of
all calls together, a recipe that does not fit into what is left gets the epochs that do, if these are at least 40 % of
its own; else it waits. Recipes that cannot run here (weights that cannot be had, data that are not given) are skipped,
and the plan says why.

It needs torch, torchvision, timm, NumPy, OpenCV, safetensors and a packed data set; mien may lie in src beside it.
"""

import argparse
import hashlib
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))  # where mien is not installed

import torch  # noqa: E402

from mien.datasets import packed  # noqa: E402
from mien.datasets.packed import Dataset  # noqa: E402
from mien.errors import MienError, TrainingError  # noqa: E402
from mien.training import distill, distributed, run  # noqa: E402
from mien.training import recipe as recipes  # noqa: E402
from mien.training.distributed import World  # noqa: E402
from mien.training.engine import Engine  # noqa: E402
from mien.training.recipe import Recipe  # noqa: E402

PIECE_BYTES = 15 << 20
TIMED_STEPS, WARM_UP_STEPS = 20, 3
RESERVE_S = 25.0  # to write a checkpoint, weights and the plan
LEAST_SHARE = 0.4  # of a recipe's epochs that a short budget may leave
MORE_TO_DO = 3  # exit code
SPEED = ("seconds_per_step", "validation_s", "steps_per_epoch", "batch_size")  # of an entry of the plan


@dataclass(frozen=True)
class Item:
    """One run."""

    name: str
    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    teachers: tuple[str, ...] = ()  # names of earlier items
    aligned: bool = False  # on aligned images (`mien data prepare --align`)


LIGHT = ("vgg-modern", "resnet18-se", "cbam")
ABLATED = "resnet9-narrow"


def _seeds(name: str, recipe: str, seeds: Iterable[int], **settings: Any) -> tuple[Item, ...]:
    return tuple(Item(f"{name}-s{seed}", recipe, {**settings, "seed": seed}) for seed in seeds)


ZOO: tuple[Item, ...] = (
    # three light, diverse teachers and their student: the default model
    Item("vgg-modern", "vgg-modern"),
    Item("resnet18-se", "resnet18-se"),
    Item("cbam", "cbam"),
    Item("student", "student", teachers=LIGHT),
    # the case study's three, faithfully, then improved
    Item("baseline", "baseline"),
    Item("vgg", "vgg"),
    Item("resnet50", "resnet50"),
    Item("baseline-improved", "baseline-distilled", {"epochs": 120}, teachers=("student",)),
    Item("resnet50-improved", "resnet50-improved"),
    Item("resnet50-scratch", "resnet50-scratch"),
    # what it left for later
    Item("senet50", "senet50"),
    Item("lhc", "lhc"),
    Item("aligned", ABLATED, aligned=True),
    *(Item(f"balance-{way}", ABLATED, {"balance": way}) for way in ("none", "sampler", "loss", "logit-adjust")),
    Item("resnet50-scratch-adam", "resnet50-scratch", {"optimizer": "adam", "lr": 1e-3}),
    # the best single network, three seeds
    *_seeds("resnet34-se", "resnet34-se", (0, 1, 2)),
    # a second student, of the ensemble
    Item("student-2", "student", {"seed": 1}, teachers=(*LIGHT, "lhc", "resnet34-se-s0", "resnet34-se-s1")),
    # ablations at equal budget, two seeds each
    *_seeds("no-votes", ABLATED, (0, 1), ferplus="none"),
    *_seeds("votes-soft", ABLATED, (0, 1), ferplus="soft"),
    *_seeds("votes-head", ABLATED, (0, 1), ferplus="head"),
    *_seeds("sam", ABLATED, (0, 1), sam_rho=0.05),
    *_seeds("mixup", ABLATED, (0, 1), mixup=0.2),
    *_seeds("cutmix", ABLATED, (0, 1), cutmix=1.0),
    *_seeds("no-average", ABLATED, (0, 1), ema=0.0),
    *_seeds("input-64", ABLATED, (0, 1), input_size=64, early=0.0),
    *_seeds("epochs-100", ABLATED, (0, 1), epochs=100),
)


class TimeIsUpError(Exception):
    """This call has to end."""


class Clock:
    """A reporter that prints epochs and ends the run between two steps when the time is up."""

    def __init__(self, name: str, deadline: float) -> None:
        self.name, self.deadline = name, deadline

    def step(self, epoch: int, step: int, steps: int, *, loss: float, images: int) -> None:
        """Stop inside an epoch only: behind its last step the epoch is finished first."""
        if step < steps and time.monotonic() > self.deadline:
            raise TimeIsUpError

    def epoch(self, row: Mapping[str, float]) -> None:
        """One line."""
        print(
            f"{self.name} epoch {row['epoch']:.0f} loss {row['train_loss']:.4f} validation "
            f"{row['validation_accuracy']:.4f} {row['images_per_s']:.0f} images/s",
            flush=True,
        )


@dataclass
class Zoo:
    """The whole order, how far it is, and where it lies."""

    options: argparse.Namespace
    world: World
    data: Dataset
    aligned: Dataset | None
    deadline: float
    plan: dict[str, Any] = field(default_factory=dict)

    @property
    def items(self) -> list[Item]:
        """The ordered runs, in order of value."""
        wanted = self.options.only or [item.name for item in ZOO]
        if unknown := sorted(set(wanted) - {item.name for item in ZOO}):
            raise SystemExit(f"{unknown[0]} is not in the zoo: use some of {', '.join(item.name for item in ZOO)}")
        return [item for item in ZOO if item.name in wanted]

    def entry(self, item: Item) -> dict[str, Any]:
        """What the plan says of a run: its speed, epochs, seconds used, whether it is done, and why not."""
        entry: dict[str, Any] = self.plan.setdefault(item.name, {"recipe": item.recipe, "used_s": 0.0, "done": False})
        return entry

    def recipe(self, item: Item) -> Recipe:
        """With its own changes, the plan's epochs, and those of the command line."""
        found = recipes.override(recipes.read(item.recipe), item.settings, source=item.name)
        found = recipes.override(found, recipes.parse_settings(self.options.set or ()), source="--set")
        epochs = self.plan.get(item.name, {}).get("epochs")
        return replace(found, epochs=epochs) if epochs else found

    def job(self, item: Item, recipe: Recipe, output: Path) -> run.Job:
        """What to train.

        Raises:
            MienError: its data or teachers are not there.
        """
        if item.aligned and self.aligned is None:
            raise MienError("no --aligned data set")
        teachers = None
        if item.teachers:
            sources = [str(self.weights(name)) for name in item.teachers]
            if missing := [name for name in item.teachers if not self.plan.get(name, {}).get("done")]:
                raise MienError(f"its teacher {missing[0]} is not trained")
            teachers = distill.load(sources, temperature=recipe.distill_temperature)
        data = self.aligned if item.aligned and self.aligned is not None else self.data
        return run.Job(recipe, data, output, name=item.name, teachers=teachers)

    def weights(self, name: str) -> Path:
        """Where the fp16 weights of a finished run lie."""
        path: Path = self.options.work / f"{name}.safetensors"
        return path

    def measure(self, item: Item) -> None:
        """Time some steps and a validation, once; a run that differs by its seed alone is as fast."""
        entry = self.entry(item)
        if "seconds_per_step" in entry or entry["done"]:
            return
        for other in self.items:
            if other.name != item.name and _but_seed(other) == _but_seed(item):
                known = self.plan.get(other.name, {})
                entry.update({key: known[key] for key in SPEED if key in known})
        if "seconds_per_step" in entry:
            return
        recipe = replace(self.recipe(item), early=0.0)  # full pictures: no step is slower
        with tempfile.TemporaryDirectory() as folder:
            job = self.job(replace(item, teachers=()), recipe, Path(folder) / "run")
            engine = run.prepare(job, self.world)
        entry["seconds_per_step"], entry["validation_s"] = _timed(engine)
        entry["steps_per_epoch"] = engine.steps_per_epoch
        entry["batch_size"] = recipe.batch_size
        for name in item.teachers:  # a teacher's forward pass costs about a third of its own step
            if "seconds_per_step" in (teacher := self.plan.get(name, {})):
                images_ratio = recipe.batch_size / teacher["batch_size"]
                entry["seconds_per_step"] += teacher["seconds_per_step"] / 3 * images_ratio
        self.save_plan()

    def fit(self, item: Item) -> bool:
        """Give a run that has not begun the epochs that the budget leaves; False: too few, it waits."""
        entry, own = self.entry(item), self.recipe(item).epochs
        if self.options.budget_minutes is None or "epochs" in entry:
            entry.setdefault("epochs", own)
            return True
        left = 60 * self.options.budget_minutes - sum(one["used_s"] for one in self.plan.values())
        epoch_s = entry["steps_per_epoch"] * entry["seconds_per_step"] + entry["validation_s"]
        epochs = min(own, int(left / epoch_s))
        if epochs < max(1, math.ceil(LEAST_SHARE * own)):
            entry["why_not"] = f"{own} epochs of {epoch_s:.1f} s do not fit into {max(0.0, left) / 60:.1f} minutes"
            return False
        entry["epochs"] = epochs
        entry.pop("why_not", None)
        return True

    def train(self, item: Item) -> None:
        """Train, or go on with, one run to its end.

        Raises:
            TimeIsUpError: the call's time is over; the checkpoint is written.
        """
        entry, started = self.entry(item), time.monotonic()
        engine = None
        try:
            job = self.job(item, self.recipe(item), self.options.work / item.name)
            engine = run.prepare(job, self.world, reporter=Clock(item.name, self.deadline), resume=True)
            engine.run()
            run.save_weights(self.options.work / item.name, self.weights(item.name))
            entry["done"] = True
            entry.pop("why_not", None)
            entry["validation_accuracy"] = engine.history[-1]["validation_accuracy"]
            entry["best_validation_accuracy"] = engine.best
        except TimeIsUpError:
            assert engine is not None
            engine.checkpoint(better=False)
            raise
        except (TrainingError, torch.OutOfMemoryError) as error:  # the next call would meet it again
            entry["failed"], entry["why_not"] = True, str(error).splitlines()[0]
        finally:
            entry["used_s"] += time.monotonic() - started
            self.save_plan()

    def save_plan(self) -> None:
        """Write the plan where the runs are, at once."""
        path = self.options.work / "plan.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(self.plan, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)

    def work(self) -> bool:
        """One call's work; whether nothing that can run is left."""
        for item in self.items:
            self._if_possible(item, self.measure)
        self.show()
        for item in self.items:
            entry = self.entry(item)
            if entry["done"] or entry.get("failed") or "seconds_per_step" not in entry or not self.fit(item):
                continue
            if time.monotonic() > self.deadline:
                return False
            self._if_possible(item, self.train)
        return True

    def _if_possible(self, item: Item, task: Any) -> None:
        """A run that cannot be is noted, and the next one gets its turn."""
        if time.monotonic() > self.deadline:
            raise TimeIsUpError
        try:
            task(item)
        except MienError as error:
            self.entry(item)["why_not"] = str(error)
            self.save_plan()

    def show(self) -> None:
        """The plan in lines."""
        for item in self.items:
            entry = self.entry(item)
            if "seconds_per_step" in entry:
                epochs = self.recipe(item).epochs
                seconds = epochs * (entry["steps_per_epoch"] * entry["seconds_per_step"] + entry["validation_s"])
                state = "done" if entry["done"] else f"{seconds / 60:.1f} min for {epochs} epochs"
                print(f"{item.name}: {1000 * entry['seconds_per_step']:.1f} ms a step, {state}", flush=True)
            else:
                print(f"{item.name}: {entry.get('why_not', 'not timed')}", flush=True)

    def deliver(self) -> None:
        """Put what is new into the output folder."""
        output: Path = self.options.output
        output.mkdir(parents=True, exist_ok=True)
        for item in self.items:
            folder, entry = self.options.work / item.name, self.entry(item)
            if "weights" in entry or not (folder / "recipe.json").exists():
                continue
            (output / item.name).mkdir(exist_ok=True)
            for name in ("recipe.json", "history.jsonl"):
                if (folder / name).exists():
                    shutil.copy(folder / name, output / item.name / name)
            if entry["done"]:
                whole = self.weights(item.name)
                entry["weights"] = {"sha256": sha256(whole), "pieces": split(whole, output)}
            elif self.options.keep_checkpoint:
                for path in sorted(folder.glob("*.pt")):
                    split(path, output / item.name)
        self.save_plan()
        shutil.copy(self.options.work / "plan.json", output / "plan.json")


def _but_seed(item: Item) -> tuple[object, ...]:
    settings = {key: value for key, value in item.settings.items() if key != "seed"}
    return item.recipe, settings, item.teachers, item.aligned


def _timed(engine: Engine) -> tuple[float, float]:
    """Seconds of a step, and of a validation."""
    engine.begin_sums()
    device, count, started = engine.world.device, 0, 0.0
    while count < WARM_UP_STEPS + TIMED_STEPS:
        for rows in engine.batches(0):
            if count == WARM_UP_STEPS:
                _finish(device)
                started = time.perf_counter()
            engine.train_step(rows)
            engine.step += 1
            count += 1
            if count == WARM_UP_STEPS + TIMED_STEPS:
                break
    _finish(device)
    stepped = time.perf_counter()
    engine.validate()
    _finish(device)
    return (stepped - started) / TIMED_STEPS, time.perf_counter() - stepped


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def split(path: Path, folder: Path) -> list[str]:
    """Copy a file into `folder` in numbered pieces; their names."""
    names = []
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            names.append(f"{path.name}.{len(names):03}")
            (folder / names[-1]).write_bytes(piece)
    return names


def join(folder: Path, work: Path) -> None:
    """Put what an earlier call delivered back into an empty work folder: plan, weights, unfinished runs.

    Finished runs come back as their weights, enough to teach.
    """
    work.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "plan.json", work / "plan.json")
    for first in sorted(folder.rglob("*.000")):
        target = work / first.relative_to(folder).with_suffix("")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for piece in sorted(first.parent.glob(f"{first.stem}.[0-9][0-9][0-9]")):
                file.write(piece.read_bytes())
    for recipe in folder.glob("*/recipe.json"):
        (work / recipe.parent.name).mkdir(exist_ok=True)
        shutil.copy(recipe, work / recipe.parent.name / "recipe.json")


def sha256(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description="Train the zoo in pieces.")
    parser.add_argument("--data", type=Path, required=True, help="packed data set, with FER+ votes")
    parser.add_argument("--aligned", type=Path, help="the same, made with --align")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the runs between calls")
    parser.add_argument("--output", type=Path, required=True, help="folder for what each call delivers")
    parser.add_argument("--minutes", type=float, default=8.5, help="of this call")
    parser.add_argument("--budget-minutes", type=float, help="of all calls together; default: every recipe in full")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these runs")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a setting of every run")
    parser.add_argument("--keep-checkpoint", action="store_true", help="deliver the unfinished run too")
    parser.add_argument("--restore", type=Path, help="what an earlier call delivered, for an empty --work")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def main() -> int:
    """One call; a fault in what was asked for is one line and 2."""
    try:
        return work(parse(), time.monotonic())
    except MienError as error:
        print(f"train_zoo: {error}", file=sys.stderr)
        return 2


def work(options: argparse.Namespace, started: float) -> int:
    """Work until the call's time is over, and deliver."""
    options.work.mkdir(parents=True, exist_ok=True)
    if options.restore and not (options.work / "plan.json").exists():
        join(options.restore, options.work)
    world = distributed.join(options.device)
    if world.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True
    splits = ("train", "validation")
    aligned = packed.load(options.aligned, only=splits) if options.aligned else None
    deadline = started + 60 * options.minutes - min(RESERVE_S, 6 * options.minutes)
    zoo = Zoo(options, world, packed.load(options.data, only=splits), aligned, deadline)
    if (options.work / "plan.json").exists():
        zoo.plan = json.loads((options.work / "plan.json").read_text(encoding="utf-8"))
    try:
        finished = zoo.work()
    except TimeIsUpError:
        finished = False
    zoo.deliver()
    print(f"{sum(one['done'] for one in zoo.plan.values())} runs done, {'all' if finished else 'more to do'}")
    return 0 if finished else MORE_TO_DO


if __name__ == "__main__":
    sys.exit(main())
