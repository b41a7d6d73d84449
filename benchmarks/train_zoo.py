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
One that breaks off is noted, and ends the call, since a GPU may be left in any state; the next call goes on behind it,
and a student does without that teacher (`--retry` tries again what broke off).

OUT gets, whenever a run ends: the plan, `runs.tar` (recipe and history of each run, and `records`: what `mien results
add` would write) and fp16 weights in pieces under 16 MB, students first, at most 8 files and 60 MiB a call; what had no
room follows in the next call, which exit code 3 asks for. `cat NAME.safetensors.* > NAME.safetensors` joins pieces;
their sha256 is in the plan, and `--resend` sends them again. With `--keep-checkpoint` it also gets what was begun,
where there is room. `--restore FOLDER` puts what all calls delivered, in one folder, back into an empty WORK.

It needs torch, torchvision, timm, NumPy, OpenCV, Pillow, ONNX Runtime, rich and safetensors; mien may lie in src
beside it. Nothing is fetched.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

STARTED = time.monotonic()  # imports are time of the lease too
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]  # where mien is not installed

import torch  # noqa: E402
import zoo_delivery  # noqa: E402
from zoo_delivery import Delivery  # noqa: E402
from zoo_order import ZOO, Item  # noqa: E402

from mien.datasets import packed, prepare  # noqa: E402
from mien.datasets.packed import Dataset  # noqa: E402
from mien.errors import MienError, TrainingError  # noqa: E402
from mien.training import distill, distributed, records, run  # noqa: E402
from mien.training import recipe as recipes  # noqa: E402
from mien.training.checkpoint import Checkpoint  # noqa: E402
from mien.training.distributed import World  # noqa: E402
from mien.training.engine import Engine  # noqa: E402
from mien.training.recipe import Recipe  # noqa: E402

TIMED_STEPS, WARM_UP_STEPS = 20, 3
RESERVE_S = 25.0  # to write a checkpoint, weights and the plan
SAVE_S = 20.0  # between checkpoints of a run: those of large networks take a second each
AROUND_S = 8.0  # what a run takes beside its epochs: data, weights, the record
LEAST_SHARE = 0.4  # of a recipe's epochs that a short budget may leave
LEAST_PROMISED_SHARE = 0.1  # of the epochs that a group's plan has given: teachers without a student are half the work
MORE_TO_DO = 3  # exit code
SPEED = ("seconds_per_step", "validation_s", "steps_per_epoch", "batch_size")  # of an entry of the plan


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
    plan: dict[str, Any]  # seconds used, and an entry a run
    delivery: Delivery
    used_before_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.used_before_s = self.plan["used_s"]

    @property
    def items(self) -> list[Item]:
        """The ordered runs, in order of value."""
        return [item for item in ZOO if item.name in (self.options.only or [item.name])]

    def entry(self, item: Item) -> dict[str, Any]:
        """What the plan says of a run: its speed, epochs, seconds used, whether it is done, and why not."""
        new = {"recipe": item.recipe, "used_s": 0.0, "done": False}
        entry: dict[str, Any] = self.plan["runs"].setdefault(item.name, new)
        return entry

    def open(self, item: Item) -> bool:
        """Whether it may still be trained."""
        entry = self.entry(item)
        return not entry["done"] and not entry.get("failed")

    def begun(self, item: Item) -> bool:
        """Whether there is a checkpoint to go on from."""
        return bool((self.options.work / item.name / "last.pt").exists())

    def recipe(self, item: Item) -> Recipe:
        """With its own changes, the plan's epochs, and those of the command line."""
        found = recipes.override(recipes.read(item.recipe), item.settings, source=item.name)
        found = recipes.override(found, recipes.parse_settings(self.options.set or ()), source="--set")
        epochs = self.entry(item).get("epochs")
        return replace(found, epochs=epochs) if epochs else found

    def teachers(self, item: Item) -> list[str]:
        """Those that did not break off before they were trained."""
        return [
            name for name in item.teachers if self.trained(name) or not self.plan["runs"].get(name, {}).get("failed")
        ]

    def trained(self, name: str) -> bool:
        """Whether there are weights to teach with."""
        return bool(self.plan["runs"].get(name, {}).get("done"))

    def recorded(self, item: Item) -> bool:
        """Whether it was measured, or cannot be."""
        entry = self.entry(item)
        return "accuracy" in entry or bool(entry.get("failed"))

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

    def prepare(self, item: Item, recipe: Recipe, output: Path, teachers: list[str], clock: Clock | None) -> Engine:
        """An engine, where its last checkpoint left off.

        Raises:
            MienError: its data, teachers or start are not there.
        """
        files = [str(self.options.work / f"{name}.safetensors") for name in teachers]
        known = distill.load(files, temperature=recipe.distill_temperature) if files else None
        job = run.Job(recipe, self.data_of(item), output, name=item.name, teachers=known)
        return run.prepare(job, self.world, reporter=clock, resume=True)

    def measure(self, item: Item) -> None:
        """Time some steps and a validation, once; a run that differs by its seed alone is as fast."""
        entry = self.entry(item)
        for other in self.items:
            if "seconds_per_step" not in entry and other.but_seed == item.but_seed:
                entry.update({key: value for key, value in self.entry(other).items() if key in SPEED})
        if "seconds_per_step" in entry:
            return
        recipe = replace(self.recipe(item), early=0.0)  # full pictures: no step is slower
        with tempfile.TemporaryDirectory() as folder:
            engine = self.prepare(item, recipe, Path(folder) / "run", [], None)
        step_s, entry["validation_s"] = _timed(engine)
        entry["steps_per_epoch"], entry["batch_size"] = engine.steps_per_epoch, recipe.batch_size
        for name in item.teachers:  # a teacher's forward pass costs about a third of its own step
            if "seconds_per_step" in (teacher := self.plan["runs"].get(name, {})):
                step_s += teacher["seconds_per_step"] / 3 * recipe.batch_size / teacher["batch_size"]
        entry["seconds_per_step"] = step_s

    def group(self, item: Item) -> list[Item]:
        """Teachers that are still to train, and the first student that waits for them; or a run alone."""
        by_name = {one.name: one for one in self.items if self.open(one)}
        for student in self.items if not item.teachers else ():
            names = self.teachers(student)
            there = all(name in by_name or self.trained(name) for name in names)
            if item.name in names and there and self.open(student):
                return [*(by_name[name] for name in names if name in by_name), student]
        return [item]

    def ahead_s(self, item: Item) -> float:
        """Seconds that a run still takes; 0 where it is not to be."""
        entry = self.entry(item)
        if not self.open(item) or "seconds_per_step" not in entry:
            return 0.0
        epoch_s = float(entry["steps_per_epoch"] * entry["seconds_per_step"] + entry["validation_s"])
        return max(AROUND_S, self.recipe(item).epochs * epoch_s + AROUND_S - entry["used_s"])

    def used_s(self) -> float:
        """Of all calls together."""
        return float(self.used_before_s + time.monotonic() - STARTED)

    def left_s(self) -> float:
        """What the budget leaves."""
        minutes = self.options.budget_minutes
        return float("inf") if minutes is None else max(0.0, 60 * minutes - self.used_s())

    def waits(self, item: Item) -> str:
        """Why a run cannot begin yet, whatever its speed; empty where it can."""
        if item.teachers and not self.teachers(item):
            return "all its teachers broke off"
        if missing := [name for name in self.teachers(item) if not self.trained(name)]:
            return f"its teacher {missing[0]} is not trained"
        return "" if self.left_s() else "the budget is used up"

    def fit(self, item: Item) -> bool:
        """Give a run that has not begun, and its group, the epochs that the budget leaves; False: too few, it waits."""
        if self.begun(item):
            return True
        promised = "epochs" in self.entry(item)  # by a plan for its group
        least = LEAST_PROMISED_SHARE if promised else LEAST_SHARE
        whole = self.group(item)
        for group in [whole] if promised else [whole, [item]]:  # a teacher alone where there is no time for its student
            share = min(1.0, self.left_s() / sum(self.ahead_s(one) for one in group))
            if share >= least:
                for one in group:
                    if self.open(one) and not self.begun(one):
                        self.entry(one)["epochs"] = max(1, int(share * self.recipe(one).epochs))
                return True
        minutes = self.ahead_s(item) / 60
        self.entry(item)["why_not"] = f"{minutes:.1f} minutes do not fit into {self.left_s() / 60:.1f}"
        return False

    def train(self, item: Item) -> None:
        """Train, or go on with, one run to its end.

        Raises:
            CallEndsError: the call's time is over; the checkpoint is written.
        """
        entry, started, folder = self.entry(item), time.monotonic(), self.options.work / item.name
        try:
            clock = Clock(item.name, self.deadline, self.save_plan)
            engine = self.prepare(item, self.recipe(item), folder, self.teachers(item), clock)
            engine.save = saver = Sparing(engine)
            try:
                engine.run()
            except CallEndsError:
                saver.ends = True
                engine.checkpoint(better=False)
                raise
            run.save_weights(folder, self.options.work / f"{item.name}.safetensors")
            entry["done"] = True
        finally:
            entry["used_s"] += time.monotonic() - started

    def record(self, item: Item) -> None:
        """Measure what was trained."""
        folder = self.options.work / item.name
        found = records.measure(folder, self.data_of(item), name=item.name, tta=item.tta, device=self.world.device)
        records.write(found, self.options.work / zoo_delivery.RECORDS)
        entry = self.entry(item)
        entry["accuracy"], entry["views"] = found.metrics["accuracy"], item.tta
        print(f"{item.name}: {100 * entry['accuracy']:.2f} %, views: {item.tta}", flush=True)

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
            if self.trained(item.name) and not self.recorded(item):  # the last call ended before that
                self.attempt(item, self.record)
                self.deliver()
            if not self.open(item):
                continue
            if why := self.waits(item):
                self.entry(item)["why_not"] = why
            else:
                for one in self.group(item):
                    self.attempt(one, self.measure)
            if "why_not" not in self.entry(item) and self.fit(item):
                self.show(item)
                self.attempt(item, self.train)
                if self.trained(item.name):
                    self.attempt(item, self.record)
                self.deliver()
            self.show(item)

    def time_all(self) -> None:
        """Nothing but the plan."""
        for item in self.items:
            if self.open(item):
                self.attempt(item, self.measure)
            self.show(item)

    def attempt(self, item: Item, task: Callable[[Item], None]) -> None:
        """A run that cannot be is noted, and the next one gets its turn.

        Raises:
            CallEndsError: the call's time is over, or the task broke off in a way that nobody foresaw.
        """
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
        except Exception as error:  # whatever it is, the lease goes on behind it, in a fresh process
            traceback.print_exc()
            entry["failed"], entry["why_not"] = True, f"{type(error).__name__}: {error}".splitlines()[0]
            raise CallEndsError from error
        finally:
            self.save_plan()

    def show(self, item: Item) -> None:
        """A run's line of the plan, where it is not done."""
        entry = self.entry(item)
        if "why_not" in entry:
            print(f"{item.name}: {entry['why_not']}", flush=True)
        elif not entry["done"]:
            epochs, minutes = self.recipe(item).epochs, self.ahead_s(item) / 60
            speed = f"{1000 * entry['seconds_per_step']:.1f} ms a step"
            print(f"{item.name}: {speed}, {minutes:.1f} min for {epochs} epochs", flush=True)

    def deliver(self) -> None:
        """Put what is new into the output folder, as far as there is room: students first."""
        known = [item for item in ZOO if item.name in self.plan["runs"]]
        self.delivery.weights(
            self.plan["runs"], [item.name for item in sorted(known, key=lambda item: not item.teachers)]
        )
        self.save_plan()
        self.delivery.runs([item.name for item in known])

    def deliver_checkpoints(self) -> None:
        """What was begun, as far as there is room."""
        for item in self.items:
            if self.open(item) and self.begun(item) and not self.delivery.checkpoint(item.name):
                print(f"{item.name}: its checkpoint is too large for what this call may still deliver", flush=True)


def _timed(engine: Engine) -> tuple[float, float]:
    """Seconds of a step, and of an epoch's end; the first ones, which choose kernels, do not count."""
    engine.begin_sums()
    engine.estimate_norms()
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
    engine.estimate_norms()
    engine.validate()
    _finish(device)
    return (stepped - started) / TIMED_STEPS, time.perf_counter() - stepped


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
    parser.add_argument("--only", nargs="+", choices=[item.name for item in ZOO], metavar="NAME", help="these runs")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a setting of every run")
    parser.add_argument("--plan", action="store_true", help="time every recipe, show what it takes, and train nothing")
    parser.add_argument("--retry", action="store_true", help="try again what broke off")
    parser.add_argument("--resend", action="store_true", help="deliver again what was delivered")
    parser.add_argument("--keep-checkpoint", action="store_true", help="deliver what was begun, too")
    parser.add_argument("--restore", type=Path, help="what earlier calls delivered, for an empty --work")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if options.ferplus and not options.source:
        parser.error("--ferplus goes with --source: a packed data set has its votes already")
    return options


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
        zoo_delivery.join(options.restore, options.work)
    if options.source and not options.data.exists():
        prepare.prepare([options.source], options.data, options=prepare.PrepareOptions(ferplus=options.ferplus))
    world = distributed.join(options.device)
    if world.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True
    splits = ("train", "validation")
    aligned = packed.load(options.aligned, only=splits) if options.aligned else None
    deadline = STARTED + 60 * options.minutes - min(RESERVE_S, 6 * options.minutes)
    delivery = Delivery(options.work, options.output)
    zoo = Zoo(options, world, packed.load(options.data, only=splits), aligned, deadline, _plan(options), delivery)
    finished = False
    try:
        zoo.time_all() if options.plan else zoo.work()
        finished = True
    except CallEndsError as error:
        print(f"this call ends: {error.__cause__ or 'its time is over'}", flush=True)
    finally:  # whatever happened, what was made comes back
        zoo.deliver()
        if options.keep_checkpoint:
            zoo.deliver_checkpoints()
    unsent = zoo_delivery.unsent(zoo.plan["runs"])
    done = sum(one["done"] for one in zoo.plan["runs"].values())
    print(f"{done} runs done, {'all' if finished else 'more to do'}; pieces that wait for the next call: {unsent}")
    return 0 if finished and not unsent else MORE_TO_DO


def _plan(options: argparse.Namespace) -> dict[str, Any]:
    """That of earlier calls, or an empty one."""
    path = options.work / "plan.json"
    plan: dict[str, Any] = {"used_s": 0.0, "runs": {}}
    if path.exists():
        plan = json.loads(path.read_text(encoding="utf-8"))
    for entry in plan["runs"].values():
        if options.retry:
            entry.pop("failed", None)
        if options.resend and "weights" in entry:
            entry["weights"]["sent"] = 0
    return plan


if __name__ == "__main__":
    sys.exit(main())
