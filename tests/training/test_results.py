"""Records of runs, and docs/results.md: no figure without a record behind it."""

import datetime
import hashlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.conftest import QUICK

from mien.datasets import packed
from mien.datasets.packed import Dataset
from mien.errors import DataError
from mien.labels import FER7
from mien.training import manifests, records, results, run, transfer
from mien.training import recipe as recipes
from mien.training.distributed import World
from mien.training.recipe import Recipe, parse_settings
from mien.training.records import Record

REPOSITORY = Path(__file__).parents[2]

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def run_folder(cartoons: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    run.prepare(run.Job(recipes.override(Recipe(), QUICK, source="test"), cartoons, folder), World()).run()
    return folder


@pytest.fixture(scope="module")
def record(run_folder: Path, cartoons: Dataset) -> Record:
    return records.measure(run_folder, cartoons)


def changed(record: Record, change: Change) -> Record:
    table = deepcopy(record.to_dict())
    change(table)
    table.pop("format")
    return Record(**table)


def as_public_test(record: Record, *, name: str = "mine", **settings: Any) -> Record:
    """The same run, as if the drawn faces were PublicTest: counts are scaled, so shares stay."""

    def change(table: dict[str, Any]) -> None:
        found, factor = table["metrics"], records.PUBLIC_TEST_FACES // 7
        found["confusion"] = (np.diag([factor] * 7) + np.diag([5, 0, 0, 0, 0, 0, 0])).tolist()  # 3,589 = 7 * 512 + 5
        found["n"] = records.PUBLIC_TEST_FACES
        found["accuracy"] = found["macro_f1"] = 1.0
        found["accuracy_ci95"] = [1 - 0.0010692, 1.0]  # z^2 / (n + z^2)
        found["macro"] = {"precision": 1.0, "recall": 1.0, "f1": 1.0}
        found["per_class"] = {label: {"recall": 1.0} for label in FER7}
        found["calibration"]["bins"] = [{"n": found["n"], "accuracy": 1.0, "confidence": 0.75}]
        found["ece"] = 0.25
        found["data"]["images"] = records.PUBLIC_TEST
        table["name"] = name
        table["about"]["recipe"] |= settings

    return changed(record, change)


@pytest.mark.parametrize("split", ["validation", "train"])
def test_faces_that_are_not_the_runs_are_refused(run_folder: Path, cartoons: Dataset, split: str) -> None:
    fewer = cartoons.split(split).take(np.arange(20))
    others = Dataset(cartoons.labels, {**cartoons.splits, split: fewer})
    with pytest.raises(DataError, match=f"not the {split} faces of .*mine: their digest is {fewer.digest[:12]}"):
        records.measure(run_folder, others)


def test_a_record_holds_the_run(record: Record, run_folder: Path, cartoons: Dataset, tmp_path: Path) -> None:
    path = records.write(record, tmp_path)
    (again,) = records.read(tmp_path)
    assert again.to_dict() == json.loads(path.read_text()) == json.loads(json.dumps(record.to_dict()))
    history = [json.loads(line) for line in (run_folder / "history.jsonl").read_text().splitlines()]
    assert list(again.history) == history
    assert again.seconds == pytest.approx(sum(row["seconds"] for row in history))
    assert again.metrics["accuracy"] == pytest.approx(history[-1]["validation_accuracy"])
    assert again.metrics["log_loss"] == pytest.approx(history[-1]["validation_loss"], rel=1e-4)
    assert again.parameters == 1_199_495
    assert again.metrics["data"]["digest"] == cartoons.split("validation").digest
    assert not again.on_public_test
    assert str(tmp_path) not in path.read_text()


def test_no_records(tmp_path: Path) -> None:
    text = results.markdown(records.read(tmp_path / "nowhere"))
    assert set(results.not_run(())) == set(recipes.names())
    for name in recipes.names():
        assert f"| `{name}` | not run | no | `{results.command(name)}` |" in text
    for accuracy, loss in results.CASE_STUDY.values():
        assert re.search(rf"case study: .*{accuracy:.2f}.*{loss:.2f}", text)


def test_a_smoke_run_stands_beside_a_recipe_that_was_not_run(cartoon_dataset: Path, tmp_path: Path) -> None:
    """benchmarks/smoke.py writes what the page reads: which steps, when, from what; and no figure."""
    output = tmp_path / "smoke.json"
    script = REPOSITORY / "benchmarks" / "smoke.py"
    options = ["--recipes", "baseline", "no-such", "--steps", "2", "--batch-size", "4", "--device", "cpu"]
    arguments = [sys.executable, script, "--data", cartoon_dataset, "--output", output, *options]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("smoke: no-such: 'no-such' is no recipe")
    text = results.markdown((), records.read_smoke_runs(output))
    today = datetime.datetime.now(datetime.UTC).date()
    assert f"| `baseline` | not run | {today}: 2 steps of 4 faces (weights: random) | `mien train" in text
    assert "| `vgg` | not run | no |" in text
    output.write_text('{"baseline": {"steps": 2}}')
    with pytest.raises(DataError, match="holds no smoke-runs"):
        records.read_smoke_runs(output)


def test_the_page_shows_what_the_records_say(record: Record) -> None:
    text = results.markdown([as_public_test(record), record])
    public, other = text.split("## On other validation faces")
    row = next(line for line in public.splitlines() if line.startswith("| mine |"))
    assert "| 1,199,495 |" in row
    assert "| 100.00 ± 0.05 |" in row
    assert f"| {record.metrics['log_loss']:.4f} | {record.metrics['calibration']['cross_fit']['log_loss']:.4f} |" in row
    assert f"| {100 * record.metrics['accuracy']:.2f} ± " in other


@pytest.mark.parametrize(
    ("settings", "recipe", "changes"),
    [
        pytest.param({}, "baseline", {}, id="to the letter"),
        pytest.param({"seed": 7, "precision": "bf16"}, "baseline", {}, id="another seed"),
        pytest.param({"epochs": 3}, "baseline", {"epochs": 3}, id="cut short"),
        pytest.param({"ferplus": "soft"}, "baseline", {"ferplus": "soft"}, id="other targets"),
        pytest.param({"model": "timm:resnet10t"}, "", {}, id="a network without recipe"),
    ],
)
def test_which_recipe_a_run_followed(record: Record, settings: dict[str, Any], recipe: str, changes: Any) -> None:
    one = as_public_test(record, **(recipes.read("baseline").to_dict() | settings))
    came = results.origin(one)
    assert (came.recipe, dict(came.changes)) == (recipe, changes)
    assert ("baseline" in results.not_run([one])) == (not came.exact)
    standing = "not run as it is; changed: mine" if recipe else "not run"
    assert (f"| `baseline` | {standing} |" in results.markdown([one])) == (not came.exact)


def test_a_run_that_went_on_followed_a_recipe_of_its_network() -> None:
    """Of `--from` runs the start names the network, so that another network's recipe may have fewer changes."""
    known = {one.name: one for one in records.read(REPOSITORY / "results" / "runs")}
    assert results.origin(known["resnet9-narrow-third"]).recipe == "resnet9-narrow-again"
    for one in known.values():
        came = results.origin(one)
        if one.about.get("start") and came.recipe and came.recipe != "finetune":
            assert recipes.read(came.recipe).model == one.about["recipe"]["model"], one.name


def test_a_run_resumed_towards_other_epochs_is_no_run_of_the_recipe(record: Record) -> None:
    exact = as_public_test(record, **recipes.read("baseline").to_dict())
    horizons = [{"from_epoch": 1, "epochs": 80}, {"from_epoch": 9, "epochs": 50}]
    one = changed(exact, _set("about", "horizons", value=horizons))
    assert not results.origin(one).exact
    assert "planned epochs: 80 from epoch 1, 50 from epoch 9" in results.markdown([one])


def _set(*path: str, value: object) -> Change:
    def change(table: dict[str, Any]) -> None:
        for key in path[:-1]:
            table = table[key]
        table[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param(_set("metrics", "accuracy", value=0.9876), "accuracy", id="accuracy"),
        pytest.param(_set("metrics", "accuracy_ci95", value=[0.1, 0.2]), "accuracy_ci95", id="interval"),
        pytest.param(_set("metrics", "macro_f1", value=0.9876), "macro_f1", id="macro-F1"),
        pytest.param(_set("metrics", "per_class", "fear", "recall", value=0.9876), "recall", id="recall"),
        pytest.param(_set("metrics", "macro", "recall", value=0.9876), "macro", id="mean recall"),
        pytest.param(_set("metrics", "ece", value=0.9876), "ece", id="calibration"),
        pytest.param(_set("metrics", "n", value=3589), "n;", id="faces"),
        pytest.param(_set("epoch", value=9), "epoch", id="an epoch that never was"),
        pytest.param(_set("seconds", value=1.0), "seconds", id="time"),
        pytest.param(_set("history", value=[]), "epoch", id="no history"),
    ],
)
def test_invented_figures_are_refused(record: Record, change: Change, match: str, tmp_path: Path) -> None:
    table = json.loads(json.dumps(record.to_dict()))
    change(table)
    (tmp_path / "mine.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match=match):
        records.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("mine", "{", id="cut off"),
        pytest.param("mine", '{"format": 1}', id="empty"),
        pytest.param("mine", '{"format": 2}', id="newer"),
        pytest.param("mine", "[]", id="a list"),
    ],
)
def test_what_is_no_record(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / f"{name}.json").write_text(text)
    with pytest.raises(DataError, match="mine"):
        records.read(tmp_path)


def test_a_renamed_record(record: Record, tmp_path: Path) -> None:
    records.write(record, tmp_path).rename(tmp_path / "better.json")
    with pytest.raises(DataError, match="give the file its name back"):
        records.read(tmp_path)


@pytest.mark.parametrize(
    ("names", "labels", "images"),
    [
        pytest.param(["test/sad/PublicTest_1.jpg", "PublicTest_2.jpg"], FER7, "PublicTest", id="Kaggle's folders"),
        pytest.param(["fer0028709.png", "fer0032297.png"], FER7, "PublicTest", id="rows of the CSV"),
        pytest.param(["fer0032298.png"], FER7, "other", id="a row of PrivateTest"),
        pytest.param(["test/sad/PublicTest_1.jpg", "PrivateTest_2.jpg"], FER7, "other", id="a face of PrivateTest"),
        pytest.param(["PublicTest_1.jpg"], ("glad", "not"), "other", id="other labels"),
    ],
)
def test_whose_faces(names: list[str], labels: tuple[str, ...], images: str) -> None:
    n = len(names)
    split = packed.Split(np.zeros((n, 2, 2), np.uint8), np.zeros(n, np.int64), tuple(names))
    assert records.images_of(split, labels) == images


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "2 h 0 min"), (7260, "2 h 1 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert results.duration(seconds) == text


def test_the_page_is_what_the_records_give() -> None:
    folder = REPOSITORY / "results"
    text = results.markdown(records.read(folder / "runs"), records.read_smoke_runs(folder / "smoke.json"))
    assert (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8") == text, "run `mien results write`"


def test_the_manifest_is_what_the_records_give() -> None:
    made = manifests.manifest(records.read(REPOSITORY / "results" / "runs"))
    path = REPOSITORY / "src" / "mien" / "weights" / "manifest.json"
    assert json.loads(path.read_text(encoding="utf-8")) == made, f"run `mien results write --manifest {path}`"


@pytest.mark.parametrize("one", records.read(REPOSITORY / "results" / "runs"), ids=lambda one: one.name)
def test_the_command_of_each_run_makes_its_settings(one: Record) -> None:
    words = shlex.split(manifests.command(one, {}))
    pairs = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
    again = transfer.settle(recipes.override(recipes.read(words[2]), parse_settings(pairs), source="test"))
    assert again == recipes.from_dict(one.about["recipe"], source="test")
    assert ("--set layout=" in shlex.join(words)) <= (again.pretrained == "none")


def test_a_manifests_command_makes_the_very_settings(record: Record) -> None:
    one = as_public_test(record, name="odd", model="vgg-narrow", lr=0.02, erasing_area=[0.1, 0.3], optimizer="sgd")
    (entry,) = manifests.manifest([one])
    words = shlex.split(entry["command"])
    assert words[:2] == ["mien", "train"]
    pairs = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
    again = recipes.override(recipes.read(words[2]), parse_settings(pairs), source="test")
    assert again == recipes.from_dict(one.about["recipe"], source="test")
    assert entry["weights_sha256"] == one.weights_sha256


@pytest.mark.parametrize(
    ("aligned", "change", "data"),
    [
        (None, {}, "data/fer2013"),
        ({"images": {}}, {"aligned crops": "instead of the images"}, "data/fer2013-aligned"),
        ({"images": {}, "added": True}, {"aligned crops": "added"}, "data/fer2013-and-aligned"),
        (
            {"images": {}, "added": True, "photos": {"seed": 0}},
            {"aligned crops from photos": "added"},
            "data/fer2013-and-photos",
        ),
    ],
)
def test_a_run_on_aligned_images_says_so(
    record: Record, aligned: dict[str, Any] | None, change: dict[str, str], data: str
) -> None:
    one = changed(as_public_test(record), lambda table: table["about"]["data"].update({"aligned": aligned}))
    changes = results.origin(one).changes
    assert {name: value for name, value in changes.items() if "aligned" in name} == change
    (entry,) = manifests.manifest([one])
    words = shlex.split(entry["command"])
    assert words[words.index("--data") + 1] == data


def test_a_manifests_command_names_start_and_teachers(record: Record) -> None:
    def change(table: dict[str, Any]) -> None:
        known = {"name": "whatever", "sha256": record.weights_sha256}
        table["about"] |= {"start": {"source": "first"}, "teachers": [known, {"name": "default", "sha256": "12"}]}

    taught = as_public_test(changed(record, change), name="second")
    table = taught.to_dict() | {"weights_sha256": "34"}
    table.pop("format")
    first, second = as_public_test(record, name="first"), Record(**table)
    command = next(one["command"] for one in manifests.manifest([first, second]) if one["run"] == "second")
    assert command.startswith("mien distill ")
    assert " --from runs/first --teacher runs/first --teacher default " in command


@pytest.mark.parametrize("path", sorted((REPOSITORY / "results" / "weights").iterdir()), ids=lambda path: path.stem)
def test_a_manifests_command_finds_teachers_whose_weights_are_kept(record: Record, path: Path) -> None:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    teachers = [{"name": "vgg-narrow", "sha256": sha256}]
    taught = as_public_test(changed(record, lambda table: table["about"].update(teachers=teachers)))
    (entry,) = manifests.manifest([taught])
    assert f" --teacher {path.relative_to(REPOSITORY).as_posix()} " in entry["command"]
