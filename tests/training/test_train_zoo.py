"""benchmarks/train_zoo.py: stops, goes on, plans and delivers, with little more installed than torch and timm."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import safetensors
from PIL import Image
from tests import drawing

from mien.labels import FER7

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train_zoo.py"

DRIVER = """
import importlib.util, sys

for name in ("onnx", "h5py", "flask", "granian", "tensorboard", "captum", "matplotlib", "sklearn", "typer"):
    sys.modules[name] = None  # importing it fails
spec = importlib.util.spec_from_file_location("train_zoo", sys.argv[1])
zoo = sys.modules["train_zoo"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zoo)
zoo.TIMED_STEPS, zoo.WARM_UP_STEPS, zoo.PIECE_BYTES, zoo.RESERVE_S, zoo.MAX_BYTES = 2, 1, 1 << 20, 0.0, 20 << 20
source, work, out = sys.argv[2:]
options = ["--data", work + "/data", "--source", source, "--work", work]
options += ["--only", "baseline", "student", "aligned", "resnet50", "--device", "cpu"]
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
zoo.MAX_FILES = 20
assert call(out + "/half", "5", "--keep-checkpoint") == 3
zoo.Clock.step, zoo.MAX_FILES = step, 4
assert call(out + "/whole", "5") == 0
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
    """Of four runs one can be made: two want for teachers or data, one for weights, and the plan says so."""
    source, work, out = tmp_path / "fer2013", tmp_path / "work", tmp_path / "out"
    write_kaggle(source)
    arguments = [str(SCRIPT), str(source), str(work), str(out)]
    done = subprocess.run([sys.executable, "-c", DRIVER, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plan = json.loads((out / "whole" / "plan.json").read_text())["runs"]
    assert plan["baseline"]["done"]
    assert plan["baseline"]["epochs"] == 2
    assert plan["baseline"]["steps_per_epoch"] == 5
    assert plan["aligned"]["why_not"] == "no --aligned data set"
    assert plan["student"]["why_not"] == "its teacher vgg-modern is not trained"
    assert "VGGFace2" in plan["resnet50"]["why_not"]
    assert len(list((out / "whole").iterdir())) == 2 + plan["baseline"]["weights"]["pieces"]  # in two calls, two each
    assert plan["baseline"]["weights"]["pieces"] == plan["baseline"]["weights"]["sent"] == 3

    zoo.join(out / "half", tmp_path / "half")
    assert zoo.records.checkpoint.load(tmp_path / "half" / "baseline" / "last.pt").step == 8
    assert len((tmp_path / "half" / "baseline" / "history.jsonl").read_text().splitlines()) == 1
    zoo.join(out / "whole", tmp_path / "again")
    (record,) = zoo.records.read(tmp_path / "again" / "records")
    assert [row["epoch"] for row in record.history] == [1, 2]
    assert record.metrics["accuracy"] == plan["baseline"]["accuracy"]
    with safetensors.safe_open(tmp_path / "again" / "baseline.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["mien"])["recipe"]["model"] == "baseline"

    (out / "whole" / "baseline.safetensors.001").unlink()
    zoo.join(out / "whole", tmp_path / "short")
    entry = json.loads((tmp_path / "short" / "plan.json").read_text())["runs"]["baseline"]
    assert not entry["done"]
    assert "weights" not in entry


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


def test_only_what_is_in_the_zoo(zoo: ModuleType, monkeypatch: pytest.MonkeyPatch, cartoon_dataset: Path) -> None:
    arguments = ["--data", str(cartoon_dataset), "--work", "work", "--output", "out", "--only", "alexnet"]
    monkeypatch.chdir(cartoon_dataset.parent)
    monkeypatch.setattr(sys, "argv", ["train_zoo.py", *arguments, "--device", "cpu"])
    assert zoo.main() == 2


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
    pytest.param(10, 240, 30, id="what is left"),
    pytest.param(10, 500, None, id="too little: it waits"),
])  # fmt: skip
def test_the_plan_fits_the_budget(
    zoo: ModuleType, monkeypatch: pytest.MonkeyPatch, budget: float | None, used_s: float, epochs: int | None
) -> None:
    """An epoch is 5 steps of 2 s and a validation of 2 s: 12 s."""
    order, plan = a_plan(zoo, monkeypatch, ["baseline"], budget, used_s)
    item = next(item for item in zoo.ZOO if item.name == "baseline")
    assert order.fit(item) == (epochs is not None)
    assert plan["baseline"].get("epochs") == epochs


@pytest.mark.parametrize(("minutes", "epochs"), [
    pytest.param(40, 40, id="all fits"),
    pytest.param(16, 20, id="equal shares"),
    pytest.param(8, 40, id="too little for the student: the teacher alone"),
    pytest.param(3, None, id="too little for anything"),
])  # fmt: skip
def test_teachers_leave_time_for_their_student(
    zoo: ModuleType, monkeypatch: pytest.MonkeyPatch, minutes: float, epochs: int | None
) -> None:
    """Three teachers and a student of 8 minutes each."""
    names = [*zoo.LIGHT, "student"]
    order, plan = a_plan(zoo, monkeypatch, names, minutes, 0)
    assert [item.name for item in order.group(order.items[0])] == names
    assert [item.name for item in order.group(order.items[3])] == ["student"]
    assert order.fit(order.items[0]) == (epochs is not None)
    assert plan["vgg-modern"].get("epochs") == epochs


def a_plan(
    zoo: ModuleType, monkeypatch: pytest.MonkeyPatch, names: list[str], budget: float | None, used_s: float
) -> tuple[Any, dict[str, Any]]:
    """Runs of 40 epochs of 12 s, and the seconds of the budget that were used before."""
    options = zoo.argparse.Namespace(budget_minutes=budget, set=["epochs=40"], only=names)
    speed = {"seconds_per_step": 2.0, "validation_s": 2.0, "steps_per_epoch": 5, "used_s": 0.0, "done": False}
    plan = {"used_s": float(used_s), "runs": {name: dict(speed) for name in names}}
    monkeypatch.setattr(zoo, "STARTED", zoo.time.monotonic() + 0.01)  # now, and no time goes by
    monkeypatch.setattr(zoo.time, "monotonic", lambda: zoo.STARTED)
    return zoo.Zoo(options, None, None, None, 0.0, plan), plan["runs"]
