"""benchmarks/train_zoo.py: stops, goes on, plans and delivers, with little more installed than torch and timm."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import safetensors
from PIL import Image
from tests import drawing

from mien.labels import FER7

MakePlan = Callable[[list[str], float | None, float], Any]
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train_zoo.py"

DRIVER = """
import importlib.util, sys

for name in ("onnx", "h5py", "flask", "granian", "tensorboard", "captum", "matplotlib", "sklearn", "typer"):
    sys.modules[name] = None  # importing it fails
spec = importlib.util.spec_from_file_location("train_zoo", sys.argv[1])
zoo = sys.modules["train_zoo"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zoo)
delivery = zoo.zoo_delivery
zoo.TIMED_STEPS, zoo.WARM_UP_STEPS, zoo.RESERVE_S = 2, 1, 0.0
delivery.PIECE_BYTES, delivery.MAX_BYTES = 1 << 20, 20 << 20
zoo.ZOO = [item for item in zoo.ZOO if item.name in ("baseline", "resnet50", "aligned")]
zoo.ZOO += [zoo.Item("pupil", "student", teachers=("baseline",)), zoo.Item("orphan", "student", teachers=("nobody",))]
source, work, out = sys.argv[2:]
options = ["--data", work + "/data", "--source", source, "--work", work, "--device", "cpu"]
options += ["--set", "epochs=2", "--set", "batch_size=28", "--set", "precision=fp32"]

def call(output, minutes, *more):
    sys.argv = ["train_zoo.py", *options, "--output", output, "--minutes", minutes, *more]
    return zoo.main()

assert call(out + "/nothing", "0") == 3
step = zoo.Clock.step
def stop(self, epoch, number, steps, **rest):
    if (epoch, number) == (1, 3):
        raise zoo.CallEndsError
zoo.Clock.step = stop
delivery.MAX_FILES = 20
assert call(out + "/half", "5", "--keep-checkpoint") == 3
zoo.Clock.step, delivery.MAX_FILES = step, 4
assert call(out + "/whole", "5", "--only", "baseline") == 3  # one of three pieces waits
delivery.MAX_FILES = 8
assert call(out + "/whole", "5") == 0
"""


@pytest.fixture(scope="module")
def zoo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_zoo", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["train_zoo"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_kaggle(root: Path) -> None:
    """Drawn faces in the layout of Kaggle: 20 of each class to train, 10 in PublicTest."""
    for folder, usage, n in (("train", "Training", 20), ("test", "PublicTest", 10)):
        split = drawing.draw_split(n, seed=n)
        for k, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            path = root / folder / FER7[label] / f"{usage}_{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def test_in_pieces(tmp_path: Path, zoo: ModuleType) -> None:
    """Of five runs two can be made, a teacher and its student; the plan says what the others want for."""
    source, work, out = tmp_path / "fer2013", tmp_path / "work", tmp_path / "out"
    write_kaggle(source)
    arguments = [str(SCRIPT), str(source), str(work), str(out)]
    done = subprocess.run([sys.executable, "-c", DRIVER, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plan = json.loads((out / "whole" / "plan.json").read_text())["runs"]
    assert plan["baseline"]["done"]
    assert plan["baseline"]["epochs"] == 2
    assert plan["baseline"]["steps_per_epoch"] == 5
    assert plan["baseline"]["weights"]["pieces"] == plan["baseline"]["weights"]["sent"] == 3
    assert plan["aligned"]["why_not"] == "no --aligned data set"
    assert plan["orphan"]["why_not"] == "its teacher nobody is not trained"
    assert "VGGFace2" in plan["resnet50"]["why_not"]

    delivery = zoo.zoo_delivery
    delivery.join(out / "half", tmp_path / "half")
    assert zoo.records.checkpoint.load(tmp_path / "half" / "baseline" / "last.pt").step == 8
    assert len((tmp_path / "half" / "baseline" / "history.jsonl").read_text().splitlines()) == 1
    delivery.join(out / "whole", tmp_path / "again")
    taught, teacher = sorted(zoo.records.read(tmp_path / "again" / "records"), key=lambda one: one.name, reverse=True)
    assert [row["epoch"] for row in teacher.history] == [1, 2]
    assert teacher.metrics["accuracy"] == plan["baseline"]["accuracy"]
    weights = tmp_path / "again" / "baseline.safetensors"
    assert [one["sha256"] for one in taught.about["teachers"]] == [delivery.sha256(weights)]
    with safetensors.safe_open(weights, framework="pt") as file:
        assert json.loads(file.metadata()["mien"])["recipe"]["model"] == "baseline"

    (out / "whole" / "baseline.safetensors.001").unlink()
    delivery.join(out / "whole", tmp_path / "short")
    runs = json.loads((tmp_path / "short" / "plan.json").read_text())["runs"]
    assert not runs["baseline"]["done"]
    assert not {"weights", "epochs"} & set(runs["baseline"])
    assert runs["pupil"]["done"]


def test_a_run_that_breaks_off_ends_the_call_and_is_not_met_again(
    cartoon_dataset: Path, tmp_path: Path, zoo: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data", str(cartoon_dataset), "--work", str(tmp_path / "work"), "--output", str(tmp_path / "out")]
    small = ["--only", "baseline", "aligned", "--set", "epochs=1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["train_zoo.py", *arguments, *small, "--minutes", "1e6"])
    monkeypatch.setattr(zoo, "_timed", lambda _: 1 / 0)
    assert zoo.main() == zoo.MORE_TO_DO
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["runs"]["baseline"]["why_not"] == "ZeroDivisionError: division by zero"
    assert plan["used_s"] > 0
    assert zoo.main() == 0


@pytest.mark.parametrize("more", [["--only", "alexnet"], ["--ferplus", "votes.csv"]], ids=["name", "votes"])
def test_mistakes_are_found_before_anything_is_read(
    zoo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: list[str]
) -> None:
    paths = [str(tmp_path / name) for name in ("data", "work", "out")]
    arguments = [part for pair in zip(("--data", "--work", "--output"), paths, strict=True) for part in pair]
    monkeypatch.setattr(sys, "argv", ["train_zoo.py", *arguments, *more])
    with pytest.raises(SystemExit, match="2"):
        zoo.main()
    assert not list(tmp_path.iterdir())


def test_a_run_is_saved_sparingly(zoo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten epochs of 8 s: every 20 s, what is better where the run may stand for it, the last, and when a call ends."""
    now = 0.0
    monkeypatch.setattr(zoo.time, "monotonic", lambda: now)
    for keep, expected in (
        ("last", [(3, False), (6, False), (9, False), (10, False)]),
        ("best", [(2, True), (5, False)]),
    ):
        saved: list[tuple[int, bool]] = []
        engine = SimpleNamespace(recipe=zoo.Recipe(epochs=10, keep=keep))
        engine.save = lambda state, better, saved=saved: saved.append((state.epoch, better))
        now, saver = 0.0, zoo.Sparing(engine)
        for epoch in range(1, 11):
            now += 8
            saver(SimpleNamespace(epoch=epoch), epoch == 2)
        assert saved[: len(expected)] == expected
    saver.saved, saver.ends = now, True
    saver(SimpleNamespace(epoch=4), False)
    assert saved[-1] == (4, False)


def test_every_item_has_a_recipe_and_earlier_teachers(zoo: ModuleType) -> None:
    seen: set[str] = set()
    for item in zoo.ZOO:
        zoo.recipes.override(zoo.recipes.read(item.recipe), item.settings, source=item.name)
        assert item.name not in seen
        assert set(item.teachers) <= seen
        seen.add(item.name)


@pytest.mark.parametrize(("budget", "used_s", "epochs"), [
    pytest.param(None, 0, 40, id="no budget: in full"),
    pytest.param(100, 0, 40, id="fits"),
    pytest.param(10, 240, 29, id="what is left"),
    pytest.param(10, 500, None, id="too little: it waits"),
])  # fmt: skip
def test_the_plan_fits_the_budget(a_plan: MakePlan, budget: float | None, used_s: float, epochs: int | None) -> None:
    """An epoch is 5 steps of 2 s and a validation of 2 s: 12 s."""
    order = a_plan(["baseline"], budget, used_s)
    assert order.fit(order.items[0]) == (epochs is not None)
    assert order.entry(order.items[0]).get("epochs") == epochs


@pytest.mark.parametrize(("minutes", "epochs"), [
    pytest.param(40, [40, 40, 40, 40], id="all fits"),
    pytest.param(17, [20, 20, 19, 18], id="equal shares, and the student bears what the runs took beside their epochs"),
    pytest.param(9, [40, 0, 0, 0], id="too little for the student: a teacher alone"),
    pytest.param(3, [0, 0, 0, 0], id="too little for anything"),
])  # fmt: skip
def test_teachers_leave_time_for_their_student(a_plan: MakePlan, minutes: float, epochs: list[int]) -> None:
    """Three teachers and a student of 8 minutes each; every run takes 20 s more than was planned."""
    order = a_plan(["vgg-modern", "resnet18-se", "cbam", "student"], minutes, 0)
    assert [item.name for item in order.group(order.items[0])] == [item.name for item in order.items]
    assert [item.name for item in order.group(order.items[3])] == ["student"]
    trained = []
    for item in order.items:
        fits = not order.waits(item) and order.fit(item)
        trained.append(order.entry(item)["epochs"] if fits else 0)
        if fits:
            order.entry(item)["done"] = True
            order.used_before_s += 12 * trained[-1] + 28
    assert trained == epochs


def test_a_student_does_without_a_teacher_that_broke_off(a_plan: MakePlan) -> None:
    order = a_plan(["vgg-modern", "resnet18-se", "cbam", "student"], None, 0)
    for item, how in zip(order.items, ("done", "failed", "done"), strict=False):
        order.entry(item)[how] = True
    assert order.teachers(order.items[3]) == ["vgg-modern", "cbam"]
    assert not order.waits(order.items[3])
    order.entry(order.items[0])["failed"] = True  # in measuring: its weights can teach all the same
    assert order.teachers(order.items[3]) == ["vgg-modern", "cbam"]
    for item in order.items[:3]:
        order.entry(item).update(failed=True, done=False)
    assert order.waits(order.items[3]) == "all its teachers broke off"


def test_a_run_that_was_trained_is_measured_by_the_next_call(
    zoo: ModuleType, a_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = a_plan(["baseline", "vgg"], None, 0)
    measured: list[str] = []
    monkeypatch.setattr(zoo.Zoo, "record", lambda self, item: measured.append(item.name))
    monkeypatch.setattr(zoo.Zoo, "deliver", lambda self: None)
    order.entry(order.items[0])["done"] = True
    order.entry(order.items[1]).update(done=True, accuracy=0.6)
    order.work()
    assert measured == ["baseline"]


@pytest.fixture
def a_plan(zoo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakePlan:
    """`a_plan(names, budget_minutes, used_s)`: runs of 40 epochs of 12 s, and no time goes by of itself."""
    monkeypatch.setattr(zoo, "STARTED", 0.0)
    monkeypatch.setattr(zoo.time, "monotonic", lambda: 0.0)

    def make(names: list[str], budget: float | None, used_s: float) -> Any:
        options = zoo.argparse.Namespace(budget_minutes=budget, set=["epochs=40"], only=names, work=tmp_path)
        speed = {"seconds_per_step": 2.0, "validation_s": 2.0, "steps_per_epoch": 5, "used_s": 0.0, "done": False}
        plan = {"used_s": float(used_s), "runs": {name: dict(speed) for name in names}}
        return zoo.Zoo(options, None, None, None, 0.0, plan, None)

    return make
