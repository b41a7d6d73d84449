"""Train the zoo on a GPU, recipe by recipe in order of value, in pieces that fit a short lease.

    python benchmarks/train_zoo.py --data DATA --work WORK --output OUT [--minutes 8.5] [--budget-minutes 25]
                                   [--source fer2013.tar.xz --ferplus fer2013new.csv]

One call works for `--minutes`, stops behind a step, and exits with 3 while there is more to do, with 0 when all is
done: call it again with the same options until then. WORK keeps the runs: a folder in memory (`/dev/shm`) loses no
time to large checkpoints. Where DATA does not exist, `--source` is prepared into it: the archive is half as large.

Teachers and their student are timed, 20 steps and a validation of each, before the first of them trains. With
`--budget-minutes`, which is of all calls together, from the start of the process on, what does not fit into what is
left gets fewer epochs, teachers and student in equal share, if these are at least 40 % of its own; else it waits.
Recipes that cannot run here (weights that cannot be had, data that are not given) are skipped, and the plan says why.
One that breaks off is noted, and ends the call, since a GPU may be left in any state; the next call goes on behind it.

OUT gets, whenever a run ends: the plan, `runs.tar` (recipe and history of each run, and `records`: what `mien results
add` would write) and fp16 weights in pieces under 16 MB, students first, at most `MAX_FILES` files and `MAX_BYTES` a
call; what had no room follows in the next call. `cat NAME.safetensors.* > NAME.safetensors` joins pieces; their sha256
is in the plan. With `--keep-checkpoint` it also gets the unfinished run, where there is room; `--restore FOLDER` puts
what all calls delivered, in one folder, back into an empty WORK.

It needs torch, torchvision, timm, NumPy, OpenCV, Pillow, ONNX Runtime, rich and safetensors; mien may lie in src
beside it. Nothing is fetched.
"""

import argparse
import hashlib
import json
import math
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

STARTED = time.monotonic()  # imports are time of the lease too
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))  # where mien is not installed

import torch  # noqa: E402

from mien.datasets import packed, prepare  # noqa: E402
from mien.datasets.packed import Dataset  # noqa: E402
from mien.errors import MienError, TrainingError  # noqa: E402
from mien.evaluation.tta import Tta  # noqa: E402
from mien.training import distill, distributed, records, run  # noqa: E402
from mien.training import recipe as recipes  # noqa: E402
from mien.training.checkpoint import Checkpoint  # noqa: E402
from mien.training.distributed import World  # noqa: E402
from mien.training.engine import Engine  # noqa: E402
from mien.training.recipe import Recipe  # noqa: E402

PIECE_BYTES = 15 << 20
MAX_FILES, MAX_BYTES = 8, 60 << 20  # of one call
TIMED_STEPS, WARM_UP_STEPS = 20, 3
RESERVE_S = 25.0  # to write a checkpoint, weights and the plan
SAVE_S = 20.0  # between checkpoints of a run: those of large networks take a second each
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
    tta: Tta = "none"  # of its record


LIGHT = ("vgg-modern", "resnet18-se", "cbam")
ABLATED = "resnet9-narrow"


def _seeds(name: str, recipe: str, seeds: Iterable[int], **settings: Any) -> tuple[Item, ...]:
    return tuple(Item(f"{name}-s{seed}", recipe, {**settings, "seed": seed}) for seed in seeds)


ZOO: tuple[Item, ...] = (
    # three light, diverse teachers and their student: the default model
    *(Item(name, name, {"epochs": 100}) for name in LIGHT),
    Item("student", "student", teachers=LIGHT),
    # the case study's three, faithfully, then improved
    Item("baseline", "baseline"),
    Item("vgg", "vgg"),
    Item("resnet50", "resnet50"),
    Item("resnet50-improved", "resnet50-improved"),
    Item("resnet50-scratch", "resnet50-scratch"),
    Item("baseline-improved", "baseline-distilled", {"epochs": 120}, teachers=("student",)),
    # what it left for later
    Item("senet50", "senet50"),
    Item("lhc", "lhc"),
    Item("aligned", ABLATED, aligned=True),
    *(Item(f"balance-{way}", ABLATED, {"balance": way}) for way in ("none", "sampler", "loss", "logit-adjust")),
    Item("resnet50-scratch-adam", "resnet50-scratch", {"optimizer": "adam", "lr": 1e-3}),
    # the best single network, three seeds
    *(replace(item, tta="full") for item in _seeds("resnet34-se", "resnet34-se", (0, 1, 2))),
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


class CallEndsError(Exception):
    """This call has to end: its time is over, or a run broke off."""


class Clock:
    """A reporter that prints epochs and ends the run between two steps when the time is up."""

    def __init__(self, name: str, deadline: float, save_plan: Callable[[], None]) -> None:
        self.name, self.deadline, self.save_plan = name, deadline, save_plan

    def step(self, epoch: int, step: int, steps: int, *, loss: float, images: int) -> None:
        """Stop inside an epoch only: behind its last step the epoch is finished first."""
        if step < steps and time.monotonic() > self.deadline:
            raise CallEndsError

    def epoch(self, row: Mapping[str, float]) -> None:
        """One line; and a call that is killed has its time in the plan."""
        self.save_plan()
        print(
            f"{self.name} epoch {row['epoch']:.0f} loss {row['train_loss']:.4f} validation "
            f"{row['validation_accuracy']:.4f} {row['images_per_s']:.0f} images/s",
            flush=True,
        )


class Sparing:
    """An engine's `save` that leaves out what no later call needs."""

    def __init__(self, engine: Engine) -> None:
        assert engine.save is not None
        self.write, self.recipe, self.saved, self.ends = engine.save, engine.recipe, time.monotonic(), False

    def __call__(self, state: Checkpoint, better: bool) -> None:
        """Write every `SAVE_S`, at the end of run or call, and what the run may stand for."""
        better = better and self.recipe.keep == "best"
        last = self.ends or state.epoch == self.recipe.epochs
        if better or last or time.monotonic() - self.saved > SAVE_S:
            self.write(state, better)
            self.saved = time.monotonic()


@dataclass
class Zoo:
    """The whole order, how far it is, and where it lies."""

    options: argparse.Namespace
    world: World
    data: Dataset
    aligned: Dataset | None
    deadline: float
    plan: dict[str, Any] = field(default_factory=lambda: {"used_s": 0.0, "runs": {}})
    files: int = 2  # delivered in this call: the plan and runs.tar
    bytes: int = 0

    def __post_init__(self) -> None:
        self.used_before_s = self.plan["used_s"]

    @property
    def items(self) -> list[Item]:
        """The ordered runs, in order of value."""
        wanted = self.options.only or [item.name for item in ZOO]
        if unknown := sorted(set(wanted) - {item.name for item in ZOO}):
            raise MienError(f"{unknown[0]} is not in the zoo: use some of {', '.join(item.name for item in ZOO)}")
        return [item for item in ZOO if item.name in wanted]

    def entry(self, item: Item) -> dict[str, Any]:
        """What the plan says of a run: its speed, epochs, seconds used, whether it is done, and why not."""
        new = {"recipe": item.recipe, "used_s": 0.0, "done": False}
        entry: dict[str, Any] = self.plan["runs"].setdefault(item.name, new)
        return entry

    def open(self, item: Item) -> bool:
        """Whether it may still be trained."""
        entry = self.entry(item)
        return not entry["done"] and not entry.get("failed")

    def recipe(self, item: Item) -> Recipe:
        """With its own changes, the plan's epochs, and those of the command line."""
        found = recipes.override(recipes.read(item.recipe), item.settings, source=item.name)
        found = recipes.override(found, recipes.parse_settings(self.options.set or ()), source="--set")
        epochs = self.entry(item).get("epochs")
        return replace(found, epochs=epochs) if epochs else found

    def data_of(self, item: Item) -> Dataset:
        """What it is trained on.

        Raises:
            MienError: it was not given.
        """
        if not item.aligned:
            return self.data
        if self.aligned is None:
            raise MienError("no --aligned data set")
        return self.aligned

    def job(self, item: Item, recipe: Recipe, output: Path) -> run.Job:
        """What to train.

        Raises:
            MienError: its data are not there.
        """
        teachers = None
        if item.teachers:
            sources = [str(self.weights(name)) for name in item.teachers]
            teachers = distill.load(sources, temperature=recipe.distill_temperature)
        return run.Job(recipe, self.data_of(item), output, name=item.name, teachers=teachers)

    def weights(self, name: str) -> Path:
        """Where the fp16 weights of a finished run lie."""
        path: Path = self.options.work / f"{name}.safetensors"
        return path

    def measure(self, item: Item) -> None:
        """Time some steps and a validation, once; a run that differs by its seed alone is as fast."""
        entry = self.entry(item)
        if "seconds_per_step" in entry or not self.open(item):
            return
        for other in self.items:
            if other.name != item.name and _but_seed(other) == _but_seed(item):
                known = self.entry(other)
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
            if "seconds_per_step" in (teacher := self.plan["runs"].get(name, {})):
                images_ratio = recipe.batch_size / teacher["batch_size"]
                entry["seconds_per_step"] += teacher["seconds_per_step"] / 3 * images_ratio
        self.save_plan()

    def trained(self, name: str) -> bool:
        """Whether there are weights to teach with."""
        return bool(self.plan["runs"].get(name, {}).get("done"))

    def group(self, item: Item) -> list[Item]:
        """Teachers that are still to train, and the first student that waits for them; or a run alone."""
        by_name = {one.name: one for one in self.items if self.open(one)}
        for student in self.items if not item.teachers else ():
            there = all(name in by_name or self.trained(name) for name in student.teachers)
            if item.name in student.teachers and there and self.open(student):
                return [*(by_name[name] for name in student.teachers if name in by_name), student]
        return [item]

    def epoch_s(self, item: Item) -> float:
        """Seconds of an epoch, as timed."""
        entry = self.entry(item)
        return float(entry["steps_per_epoch"] * entry["seconds_per_step"] + entry["validation_s"])

    def ahead_s(self, item: Item) -> float:
        """Seconds that a run still takes; 0 where it is not to be."""
        if not self.open(item) or "seconds_per_step" not in self.entry(item):
            return 0.0
        return max(0.0, self.recipe(item).epochs * self.epoch_s(item) - self.entry(item)["used_s"])

    def used_s(self) -> float:
        """Of all calls together."""
        return float(self.used_before_s + time.monotonic() - STARTED)

    def fit(self, item: Item) -> bool:
        """Give a run that has not begun the epochs that the budget leaves; False: too few, or no teacher, it waits."""
        entry, own = self.entry(item), self.recipe(item).epochs
        if missing := [name for name in item.teachers if not self.trained(name)]:
            entry["why_not"] = f"its teacher {missing[0]} is not trained"
            return False
        if self.options.budget_minutes is None or "epochs" in entry:
            entry.setdefault("epochs", own)
            return True
        left_s = max(0.0, 60 * self.options.budget_minutes - self.used_s())
        for group in (self.group(item), [item]):  # where teachers and student do not fit, a teacher may alone
            share = min(1.0, left_s / sum(self.ahead_s(one) for one in group))
            if share >= LEAST_SHARE:
                entry["epochs"] = max(1, int(share * own))
                return True
        entry["why_not"] = f"{self.ahead_s(item) / 60:.1f} minutes do not fit into {left_s / 60:.1f}"
        return False

    def train(self, item: Item) -> None:
        """Train, or go on with, one run to its end.

        Raises:
            CallEndsError: the call's time is over; the checkpoint is written.
        """
        entry, started, folder = self.entry(item), time.monotonic(), self.options.work / item.name
        engine = None
        try:
            job = self.job(item, self.recipe(item), folder)
            clock = Clock(item.name, self.deadline, self.save_plan)
            engine = run.prepare(job, self.world, reporter=clock, resume=True)
            engine.save = saver = Sparing(engine)
            engine.run()
            run.save_weights(folder, self.weights(item.name))
            record = records.measure(folder, self.data_of(item), name=item.name, tta=item.tta, device=self.world.device)
            records.write(record, self.options.work / "records")
            entry["done"], entry["accuracy"], entry["views"] = True, record.metrics["accuracy"], item.tta
            print(f"{item.name}: {100 * entry['accuracy']:.2f} %, views: {item.tta}", flush=True)
        except CallEndsError:
            assert engine is not None
            saver.ends = True
            engine.checkpoint(better=False)
            raise
        finally:
            entry["used_s"] += time.monotonic() - started
            self.save_plan()

    def save_plan(self) -> None:
        """Write the plan where the runs are, at once."""
        self.plan["used_s"] = self.used_s()
        path = self.options.work / "plan.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(self.plan, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)

    def work(self) -> None:
        """One call's work.

        Raises:
            CallEndsError: there is more to do.
        """
        for item in self.items:
            for one in self.group(item) if self.open(item) else ():
                self._if_possible(one, self.measure)
            if self.open(item) and "seconds_per_step" in self.entry(item):
                fits = self.fit(item)
                self.show(item)
                if fits:
                    self._if_possible(item, self.train)
                    self.deliver()

    def time_all(self) -> None:
        """Nothing but the plan."""
        for item in self.items:
            self._if_possible(item, self.measure)
            if "why_not" not in self.entry(item):
                self.show(item)

    def _if_possible(self, item: Item, task: Callable[[Item], None]) -> None:
        """A run that cannot be is noted, and the next one gets its turn."""
        if time.monotonic() > self.deadline:
            raise CallEndsError
        entry = self.entry(item)
        entry.pop("why_not", None)
        try:
            task(item)
        except (TrainingError, torch.OutOfMemoryError) as error:  # the next call would meet it again
            entry["failed"], entry["why_not"] = True, str(error).splitlines()[0]
        except MienError as error:
            entry["why_not"] = str(error)
        except CallEndsError:
            raise
        except Exception as error:
            traceback.print_exc()
            entry["failed"], entry["why_not"] = True, f"{type(error).__name__}: {error}".splitlines()[0]
            raise CallEndsError from error
        finally:
            self.save_plan()
            if "why_not" in entry:
                self.show(item)

    def show(self, item: Item) -> None:
        """A run's line of the plan."""
        entry = self.entry(item)
        if "why_not" in entry:
            print(f"{item.name}: {entry['why_not']}", flush=True)
        elif "seconds_per_step" in entry:
            epochs, minutes = self.recipe(item).epochs, self.ahead_s(item) / 60
            speed = f"{1000 * entry['seconds_per_step']:.1f} ms a step"
            print(f"{item.name}: {speed}, {minutes:.1f} min for {epochs} epochs", flush=True)

    def deliver(self) -> None:
        """Put what is new into the output folder, as far as there is room."""
        output: Path = self.options.output
        output.mkdir(parents=True, exist_ok=True)
        for item in sorted(self.items, key=lambda item: not item.teachers):  # students first
            entry = self.entry(item)
            if not entry["done"]:
                continue
            whole = self.weights(item.name)
            if "weights" not in entry:
                entry["weights"] = {"sha256": sha256(whole), "pieces": pieces(whole), "sent": 0}
            weights = entry["weights"]
            while weights["sent"] < weights["pieces"] and self._room(PIECE_BYTES):
                self._send(whole, whole.name, weights["sent"])
                weights["sent"] += 1
        with tarfile.open(output / "runs.tar", "w") as tar:
            for item in self.items:
                for name in (f"{item.name}/recipe.json", f"{item.name}/history.jsonl", f"records/{item.name}.json"):
                    if (self.options.work / name).exists():
                        tar.add(self.options.work / name, name)
        self.save_plan()
        shutil.copy(self.options.work / "plan.json", output / "plan.json")

    def deliver_checkpoint(self) -> None:
        """The run that was begun, whole or not at all."""
        for item in self.items:
            folder = self.options.work / item.name
            if not self.open(item) or not (folder / "last.pt").exists():
                continue
            keep = self.recipe(item).keep
            paths = [folder / f"{name}.pt" for name in dict.fromkeys((keep, "last"))]
            if not self._room(*(path.stat().st_size for path in paths), files=sum(map(pieces, paths))):
                print(f"{item.name}: its checkpoint is too large for what this call may still deliver", flush=True)
                continue
            for path in paths:
                for number in range(pieces(path)):
                    self._send(path, f"{item.name}.{path.name}", number)

    def _room(self, *sizes: int, files: int = 1) -> bool:
        return self.files + files <= MAX_FILES and self.bytes + sum(sizes) <= MAX_BYTES

    def _send(self, path: Path, name: str, number: int) -> None:
        """Copy one piece."""
        with path.open("rb") as file:
            file.seek(number * PIECE_BYTES)
            piece = file.read(PIECE_BYTES)
        (self.options.output / f"{name}.{number:03}").write_bytes(piece)
        self.files, self.bytes = self.files + 1, self.bytes + len(piece)


def _but_seed(item: Item) -> tuple[object, ...]:
    settings = {key: value for key, value in item.settings.items() if key != "seed"}
    return item.recipe, settings, item.teachers, item.aligned


def _timed(engine: Engine) -> tuple[float, float]:
    """Seconds of a step, and of a validation; the first ones, which choose kernels, do not count."""
    engine.begin_sums()
    engine.validate()
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


def pieces(path: Path) -> int:
    """How many a file makes."""
    return math.ceil(path.stat().st_size / PIECE_BYTES)


def join(folder: Path, work: Path) -> None:
    """Put what all calls delivered back into an empty work folder: plan, weights, the unfinished run.

    Finished runs come back as their weights, enough to teach; one whose weights are not whole is to be trained again.
    """
    work.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "runs.tar") as tar:
        tar.extractall(work, filter="data")
    for first in sorted(folder.glob("*.000")):
        target = _target(first.stem, work)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for piece in sorted(folder.glob(f"{first.stem}.[0-9][0-9][0-9]")):
                file.write(piece.read_bytes())
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    for name, entry in plan["runs"].items():
        path = work / f"{name}.safetensors"
        if entry["done"] and not (path.exists() and sha256(path) == entry["weights"]["sha256"]):
            print(f"{name}: its weights did not come back whole; it will be trained again", flush=True)
            entry["done"] = False
            del entry["weights"]
    (work / "plan.json").write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")


def _target(stem: str, work: Path) -> Path:
    """Of a delivered file: `NAME.safetensors` lies in the work folder, `NAME.last.pt` in its run's."""
    for kept in ("last.pt", "best.pt"):
        if stem.endswith(f".{kept}"):
            return work / stem.removesuffix(f".{kept}") / kept
    return work / stem


def sha256(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description="Train the zoo in pieces.")
    parser.add_argument("--data", type=Path, required=True, help="packed data set, with FER+ votes")
    parser.add_argument("--source", type=Path, help="archive that --data is prepared from where it is not there")
    parser.add_argument("--ferplus", type=Path, help="the votes, for --source")
    parser.add_argument("--aligned", type=Path, help="the same data, made with --align")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the runs between calls")
    parser.add_argument("--output", type=Path, required=True, help="folder for what each call delivers")
    parser.add_argument("--minutes", type=float, default=8.5, help="of this call")
    parser.add_argument("--budget-minutes", type=float, help="of all calls together; default: every recipe in full")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these runs")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a setting of every run")
    parser.add_argument("--plan", action="store_true", help="time every recipe, show what it takes, and train nothing")
    parser.add_argument("--keep-checkpoint", action="store_true", help="deliver the unfinished run too")
    parser.add_argument("--restore", type=Path, help="what earlier calls delivered, for an empty --work")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def main() -> int:
    """One call; a fault in what was asked for is one line and 2."""
    try:
        return work(parse())
    except MienError as error:
        print(f"train_zoo: {error}", file=sys.stderr)
        return 2


def work(options: argparse.Namespace) -> int:
    """Work until the call's time is over, and deliver."""
    options.work.mkdir(parents=True, exist_ok=True)
    if options.restore and not (options.work / "plan.json").exists():
        join(options.restore, options.work)
    if options.source and not options.data.exists():
        prepare.prepare([options.source], options.data, options=prepare.PrepareOptions(ferplus=options.ferplus))
    world = distributed.join(options.device)
    if world.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True
    splits = ("train", "validation")
    aligned = packed.load(options.aligned, only=splits) if options.aligned else None
    deadline = STARTED + 60 * options.minutes - min(RESERVE_S, 6 * options.minutes)
    zoo = Zoo(options, world, packed.load(options.data, only=splits), aligned, deadline, **_known(options.work))
    finished = False
    try:
        if options.plan:
            zoo.time_all()
        else:
            zoo.work()
        finished = True
    except CallEndsError as error:
        print(f"this call ends: {error.__cause__ or 'its time is over'}", flush=True)
    finally:  # whatever happened, what was made comes back
        zoo.deliver()
        if options.keep_checkpoint:
            zoo.deliver_checkpoint()
    print(f"{sum(one['done'] for one in zoo.plan['runs'].values())} runs done, {'all' if finished else 'more to do'}")
    return 0 if finished else MORE_TO_DO


def _known(folder: Path) -> dict[str, Any]:
    """The plan of earlier calls, if there were any."""
    path = folder / "plan.json"
    return {"plan": json.loads(path.read_text(encoding="utf-8"))} if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
