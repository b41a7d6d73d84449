"""`mien data audit`: the table, the files, and lists that training and evaluation take."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.command import Outcome
from tests.datasets.conftest import png, write_tree

from mien.datasets import packed
from mien.datasets.packed import Dataset, Split

Mien = Callable[..., Outcome]


@pytest.fixture(scope="module")
def faulty(cartoon_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces of which one is black, one is twice there, and one leaks into validation."""
    whole = packed.load(cartoon_dataset)
    train, validation = whole.split("train"), whole.split("validation")
    images = np.array(train.images)
    images[0], images[8], images[2] = 0, images[1], validation.images[2]
    splits = {"train": replace(train, images=images), "validation": validation, "test": whole.splits["test"]}
    root = tmp_path_factory.mktemp("faulty") / "packed"
    packed.save(Dataset(whole.labels, splits, whole.provenance), root)
    return root


def test_audit(mien_command: Mien, faulty: Path, tmp_path: Path) -> None:
    listed = tmp_path / "out.txt"
    done = mien_command("data", "audit", faulty, "--output", tmp_path / "audit", "--write-exclusions", listed)
    assert done.code == 0, done.err
    rows = {line.split()[0]: line.split()[1:] for line in done.out.strip().splitlines()}
    assert rows["problem"] == ["images", "groups", "train", "validation", "suggested"]
    assert rows["leak"] == ["2", "1", "1", "1", "exclude", "1,", "keep", "1"]
    assert rows["constant"][:2] == ["1", "0"]
    assert "140 train, 70 validation images, 208 of them distinct" in done.out
    assert {path.name for path in (tmp_path / "audit").iterdir()} >= {"index.html", "findings.csv", "leak.png"}
    names = [line for line in listed.read_text().splitlines() if not line.startswith("#")]
    assert {name.partition("\t")[0] for name in names} == {"train"}
    assert sorted(name.partition("/")[2] for name in names) == [
        "drawn_00000.png",
        "drawn_00002.png",
        "drawn_00008.png",
    ]


def test_the_test_split_is_opened_where_asked_for_and_missed_where_there_is_none(
    mien_command: Mien, faulty: Path, tmp_path: Path
) -> None:
    whole = packed.load(faulty)
    train, validation = whole.split("train"), whole.split("validation")
    for name, test in (("with", validation.take(np.arange(5))), ("without", validation.take(np.arange(0)))):
        splits = {"train": train, "validation": validation, "test": test}
        packed.save(Dataset(whole.labels, splits, whole.provenance), tmp_path / name)
    done = mien_command("data", "audit", tmp_path / "with", "--output", tmp_path / "a", "--format", "json")
    assert json.loads(done.out)["images"] == {"train": 140, "validation": 70}
    done = mien_command("data", "audit", tmp_path / "with", "--output", tmp_path / "a", "--with-test", "-f", "json")
    found = json.loads(done.out)
    assert (found["images"]["test"], found["problems"]["leak"]["by_split"]["test"]) == (5, 5)
    assert "has no test images" not in done.err
    done = mien_command("data", "audit", tmp_path / "without", "--output", tmp_path / "a", "--with-test")
    assert (done.code, "has no test images: --with-test changed nothing" in done.err) == (0, True)


def test_lists_reach_training_and_evaluation(mien_command: Mien, faulty: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    data = packed.load(faulty)
    (listed := tmp_path / "out.txt").write_text(
        f"train\t{data.split('train').names[0]}\nvalidation\t{data.split('validation').names[1]}\n"
    )
    common = ("--data", faulty, "--exclude", listed)
    done = mien_command("evaluate", tiny_onnx, *common, "--format", "json")
    assert done.code == 0, done.err
    assert (json.loads(done.out)["n"], json.loads(done.out)["data"]["n_excluded"]) == (69, 1)
    run = tmp_path / "run"
    quick = ("--set", "epochs=1", "--set", "warmup_steps=0", "--device", "cpu")
    done = mien_command("train", "baseline", *common, "--output", run, *quick)
    assert done.code == 0, done.err
    assert json.loads((run / "recipe.json").read_text())["data"]["provenance"]["excluded"] == 2
    (strange := tmp_path / "strange.txt").write_text("nobody.png\n")
    done = mien_command("evaluate", tiny_onnx, "--data", faulty, "--exclude", strange)
    assert (done.code, "such as nobody.png" in done.err) == (2, True)


def test_lists_reach_evaluation_of_a_folder(mien_command: Mien, faulty: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    import PIL.Image  # noqa: PLC0415

    validation = packed.load(faulty).split("validation")
    for name, image in zip(validation.names, validation.images, strict=True):
        (path := tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(path)
    (listed := tmp_path / "out.txt").write_text("\n".join(validation.names[:5]))
    done = mien_command("evaluate", tiny_onnx, "--data", tmp_path / "faces", "--exclude", listed, "--format", "json")
    assert done.code == 0, done.err
    assert (json.loads(done.out)["n"], json.loads(done.out)["data"]["n_excluded"]) == (65, 5)
    listed.write_text("train\thappy/nobody.png\n")
    done = mien_command("evaluate", tiny_onnx, "--data", tmp_path / "faces", "--exclude", listed)
    assert (done.code, "such as happy/nobody.png: it was written for other data" in done.err) == (2, True)


def test_a_list_leaves_out_images_of_its_own_split(
    mien_command: Mien, faulty: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    import PIL.Image  # noqa: PLC0415

    validation = packed.load(faulty).split("validation")
    for name, image in zip(validation.names, validation.images, strict=True):
        for split in ("train", "test"):
            (path := tmp_path / "faces" / split / name).parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image).save(path)
    PIL.Image.fromarray(validation.images[0]).save(tmp_path / "faces" / "train" / "happy" / "more.png")
    common = ("evaluate", tiny_onnx, "--data", tmp_path / "faces", "--split", "test", "--exclude", tmp_path / "out.txt")
    for line, left_out in (
        (f"train\t{validation.names[0]}", 0),
        (f"test\t{validation.names[0]}", 1),
        ("happy/more.png", 0),
    ):
        (tmp_path / "out.txt").write_text(line)
        done = mien_command(*common, "--format", "json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["data"]["n_excluded"] == left_out
    (tmp_path / "out.txt").write_text("test\thappy/more.png")
    done = mien_command(*common)
    assert (done.code, "such as happy/more.png" in done.err) == (2, True)


def test_label_errors_by_features(mien_command: Mien, faulty: Path, tmp_path: Path) -> None:
    output = tmp_path / "audit"
    options = ("--label-errors", "features", "--folds", "3", "--format", "json")
    done = mien_command("data", "audit", faulty, "--output", output, *options)
    assert done.code == 0, done.err
    assert json.loads(done.out) == json.loads((output / "audit.json").read_text())
    about = json.loads(done.out)["label_errors"]
    assert about["how"] == "features of default"
    assert about["agreement"] > 0.5  # of drawn faces that the packaged network never saw


def test_label_errors_by_training(mien_command: Mien, faulty: Path, tmp_path: Path) -> None:
    quick = ("--set", "epochs=1", "--set", "warmup_steps=0", "--recipe", "baseline")
    options = ("--label-errors", "train", *quick, "--folds", "2", "--output", tmp_path)
    done = mien_command("data", "audit", faulty, *options)
    assert done.code == 0, done.err
    assert "fold 1 of 2\n" in done.err
    found = json.loads((tmp_path / "audit.json").read_text())["label_errors"]
    assert (found["how"], found["settings"]) == ("train of baseline", ["epochs=1", "warmup_steps=0"])
    assert "fold 2 of 2, about 0 min left" in done.err
    assert (tmp_path / "folds" / "fold-1" / "last.pt").exists()
    recipe = json.loads((tmp_path / "folds" / "fold-0" / "recipe.json").read_text())
    assert recipe["recipe"]["ferplus"] == "none"
    again = mien_command("data", "audit", faulty, *options)
    assert again.code == 0, again.err
    assert again.out == done.out
    assert "epoch 1/1" not in again.err  # trained folds are kept


def test_detector(mien_command: Mien, faulty: Path, tmp_path: Path) -> None:
    small = packed.load(faulty)
    few = {name: small.split(name).take(np.arange(3)) for name in ("train", "validation")}
    packed.save(Dataset(small.labels, few), tmp_path / "few")
    done = mien_command("data", "audit", tmp_path / "few", "--output", tmp_path / "out", "--detector", "centerface")
    assert done.code == 0, done.err
    assert "no-face-found" in done.out  # the black one at least


@pytest.mark.parametrize(
    ("options", "match"),
    [
        pytest.param(("--also", "lek", "--write-exclusions", "x.txt"), "'lek' is no problem", id="problem"),
        pytest.param(("--label-errors", "features", "--model", "nobody"), "nobody", id="model"),
        pytest.param(("--label-errors", "train", "--recipe", "nobody"), "'nobody' is no recipe", id="recipe"),
    ],
)
def test_faults_are_sentences(
    mien_command: Mien,
    faulty: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    match: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = mien_command("data", "audit", faulty, "--output", tmp_path / "out", *options)
    assert (done.code, match in done.err) == (2, True), done.err
    assert done.err.count("\n") == 1


def test_damaged_pictures_of_a_folder_are_listed(mien_command: Mien, cartoon_faces: Split, tmp_path: Path) -> None:
    files = {f"{label}/{n}.png": png(cartoon_faces.images[n + 4 * ("b" in label)]) for label in "ab" for n in range(4)}
    root = write_tree(tmp_path / "faces", {**files, "a/<bad>.png": b"junk", "b/cut.png": files["b/0.png"][:300]})
    done = mien_command("data", "audit", root, "--output", tmp_path / "audit")
    assert done.code == 1
    named = [line.removeprefix("unreadable: ") for line in done.err.splitlines() if line.startswith("unreadable: ")]
    assert [line.partition(": ")[0] for line in named] == [str(root / "a/<bad>.png"), str(root / "b/cut.png")]
    assert json.loads((tmp_path / "audit/audit.json").read_text())["unreadable"] == named
    page = (tmp_path / "audit/index.html").read_text()
    assert "a/&lt;bad&gt;.png: no picture" in page
    assert "Nothing was found" not in page
