"""benchmarks/train_zoo.py: stops, goes on, plans and delivers, with little more installed than torch and timm."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import safetensors

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train_zoo.py"

DRIVER = """
import importlib.util, sys

for name in ("onnxruntime", "onnx", "h5py", "flask", "granian", "tensorboard", "captum", "matplotlib", "sklearn"):
    sys.modules[name] = None  # importing it fails
spec = importlib.util.spec_from_file_location("train_zoo", sys.argv[1])
zoo = sys.modules["train_zoo"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zoo)
zoo.TIMED_STEPS, zoo.WARM_UP_STEPS, zoo.PIECE_BYTES, zoo.RESERVE_S = 2, 1, 1 << 20, 0.0
data, work, out = sys.argv[2:]
options = ["--data", data, "--work", work, "--only", "baseline", "student", "aligned", "--device", "cpu"]
options += ["--set", "epochs=2", "--set", "batch_size=28", "--set", "precision=fp32"]

def call(output, minutes, *more):
    sys.argv = ["train_zoo.py", *options, "--output", output, "--minutes", minutes, *more]
    return zoo.main()

assert call(out + "/nothing", "0") == 3
step = zoo.Clock.step
def stop(self, epoch, number, steps, **rest):
    if (epoch, number) == (1, 3):
        raise zoo.TimeIsUpError
zoo.Clock.step = stop
assert call(out + "/half", "5", "--keep-checkpoint") == 3
zoo.Clock.step = step
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


def test_in_pieces(cartoon_dataset: Path, tmp_path: Path, zoo: ModuleType) -> None:
    """Of three runs one can be made: the second has no teachers, the third no data, and the plan says so."""
    work, out = tmp_path / "work", tmp_path / "out"
    arguments = [str(SCRIPT), str(cartoon_dataset), str(work), str(out)]
    done = subprocess.run([sys.executable, "-c", DRIVER, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plan = json.loads((out / "whole" / "plan.json").read_text())
    assert plan["baseline"]["done"]
    assert plan["baseline"]["epochs"] == 2
    assert plan["baseline"]["steps_per_epoch"] == 5
    assert plan["aligned"]["why_not"] == "no --aligned data set"
    assert plan["student"]["why_not"] == "its teacher vgg-modern is not trained"
    rows = (out / "whole" / "baseline" / "history.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2]
    assert len((out / "half" / "baseline" / "history.jsonl").read_text().splitlines()) == 1
    zoo.join(out / "half", tmp_path / "again")
    assert zoo.sha256(tmp_path / "again" / "baseline" / "last.pt")
    zoo.join(out / "whole", tmp_path / "again")
    joined = tmp_path / "again" / "baseline.safetensors"
    assert zoo.sha256(joined) == plan["baseline"]["weights"]["sha256"]
    assert len(plan["baseline"]["weights"]["pieces"]) > 1
    with safetensors.safe_open(joined, framework="pt") as file:
        assert json.loads(file.metadata()["mien"])["recipe"]["model"] == "baseline"


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
    options = zoo.argparse.Namespace(budget_minutes=budget, set=["epochs=40"], only=None)
    speed = {"seconds_per_step": 2.0, "validation_s": 2.0, "steps_per_epoch": 5, "used_s": 0.0, "done": False}
    plan = {"vgg-modern": {"used_s": used_s, "done": True}, "baseline": speed}
    order = zoo.Zoo(options, None, None, None, 0.0, plan)
    item = next(item for item in zoo.ZOO if item.name == "baseline")
    assert order.fit(item) == (epochs is not None)
    assert plan["baseline"].get("epochs") == epochs
