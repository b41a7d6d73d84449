import csv
import io
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from click.testing import Result
from tests.tiny_model import tiny_spec, tiny_weights, write_tiny_model
from typer.testing import CliRunner

from mien.bundle import ModelSpec
from mien.cli import app
from mien.cli.explain import Method
from mien.cli.options import DetectorName
from mien.datasets.packed import Split
from mien.errors import MienError
from mien.explain import METHODS
from mien.faces import detect
from mien.labels import FER7

Explain = Callable[..., Result]
Run = Callable[..., Any]


@pytest.fixture
def face_png(tmp_path: Path, cartoon_faces: Split) -> Path:
    path = tmp_path / "happy.png"
    PIL.Image.fromarray(cartoon_faces.images[FER7.index("happy")]).save(path)
    return path


@pytest.fixture
def explain(tiny_onnx: Path, face_png: Path) -> Explain:
    """`mien explain happy.png --detector none --model tiny.onnx`, and more options."""

    def run(*options: str | Path) -> Result:
        base = ["explain", str(face_png), "--detector", "none", "--model", str(tiny_onnx)]
        return CliRunner().invoke(app, [*base, *map(str, options)])

    return run


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run without global pooling; only its loading is made up."""
    torch = pytest.importorskip("torch")
    run = pytest.importorskip("mien.training.run")
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(4 * 11 * 11, 7))
    spec = ModelSpec(name="dense", labels=FER7)
    monkeypatch.setattr(run, "load_model", lambda _path: (net, spec))
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_choices_are_those_of_the_library() -> None:
    assert [method.value for method in Method] == list(METHODS)
    assert {name.value for name in DetectorName} == set(detect.NAMES)


def test_table_names_the_strongest_place(explain: Explain) -> None:
    result = explain()
    assert result.exit_code == 0
    assert "occlusion" in result.stdout
    assert "happy.png" in result.stdout


def test_json_has_a_map_for_each_method_and_label(explain: Explain) -> None:
    result = explain("--method", "occlusion", "--method", "cam", "--label", "joy", "--label", "sad", "--format", "json")
    entries = json.loads(result.stdout)
    assert [(e["method"], e["label"]) for e in entries] == [
        ("occlusion", "happy"), ("occlusion", "sad"), ("cam", "happy"), ("cam", "sad")]  # fmt: skip
    assert entries[0]["probability"] == entries[2]["probability"]
    for entry in entries:
        assert np.shape(entry["values"]) == tuple(entry["shape_hw"]) == (48, 48)
        assert np.abs(entry["values"]).max() <= 1
        assert (entry["model"], entry["face"], entry["box_xyxy"]) == ("tiny", 0, [0, 0, 48, 48])


def test_files_hold_what_json_holds(explain: Explain, tmp_path: Path) -> None:
    outputs = [tmp_path / "new" / f"map.{suffix}" for suffix in ("json", "csv", "npy", "png", "svg")]
    result = explain("--label", "all", *(part for path in outputs for part in ("--output", path)), "--format", "json")
    assert result.exit_code == 0, result.stderr
    entries = json.loads(result.stdout)
    assert json.loads(outputs[0].read_text()) == entries
    maps = np.load(outputs[2])
    assert maps.shape == (7, 48, 48)
    assert np.allclose(maps, [e["values"] for e in entries], atol=1e-4)
    rows = list(csv.DictReader(io.StringIO(outputs[1].read_text())))
    assert len(rows) == 7 * 48 * 48
    row = rows[48 * 48 + 5 * 48 + 7]
    assert (row["face"], row["label"], row["row"], row["column"]) == ("1", "disgust", "5", "7")
    assert float(row["value"]) == pytest.approx(maps[1, 5, 7], abs=1e-4)
    with PIL.Image.open(outputs[3]) as picture:
        assert picture.width > 8 * 2 * 190
    assert ET.parse(outputs[4]).getroot().tag.endswith("svg")


def test_npy_on_stdout(explain: Explain) -> None:
    assert np.load(io.BytesIO(explain("--format", "npy").stdout_bytes)).shape == (1, 48, 48)


def test_grid_of_labels_wraps(explain: Explain, tmp_path: Path) -> None:
    assert explain("--grid", "labels", "--output", tmp_path / "g.svg").exit_code == 0
    texts = [node.text for node in ET.parse(tmp_path / "g.svg").iter() if node.tag.endswith("text")]
    assert [text for text in texts if text.startswith("Occlusion: ")] == [f"Occlusion: {label}" for label in FER7]
    limits = {text for text in texts if text.startswith("+")}
    assert len(limits) == 1  # one scale for all seven


def test_grid_of_methods_by_models(explain: Explain, run_folder: Path, tmp_path: Path) -> None:
    """What a model does not allow is said in its place, and is no fault."""
    result = explain("--model", run_folder, "--grid", "methods", "--output", tmp_path / "g.svg", "--format", "json")
    assert result.exit_code == 0, result.stderr
    entries = json.loads(result.stdout)
    assert [e["method"] for e in entries if e["model"] == "tiny"] == ["occlusion", "cam"]
    assert [e["method"] for e in entries if e["model"] == "dense"] == [m for m in METHODS if m != "cam"]
    assert len({e["label"] for e in entries}) == 1  # what the first model says
    text = " ".join(node.text for node in ET.parse(tmp_path / "g.svg").iter() if node.tag.endswith("text"))
    assert "CAM is not available" in text
    assert "needs gradients" in text


@pytest.mark.parametrize(
    ("method", "message"),
    [
        pytest.param("cam", "CAM is not available", id="cam of a run without global pooling"),
        pytest.param("saliency", "Saliency needs gradients", id="gradients of an onnx file"),
    ],
)
def test_method_that_one_of_two_models_does_not_allow(
    explain: Explain, run_folder: Path, method: str, message: str
) -> None:
    result = explain("--model", run_folder, "--method", method)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "occlusion" in result.stderr


def test_cam_without_global_pooling_offers_occlusion(face_png: Path, run_folder: Path) -> None:
    options = ["--detector", "none", "--model", str(run_folder), "--method", "cam"]
    result = CliRunner().invoke(app, ["explain", str(face_png), *options])
    assert result.exit_code == 2
    assert "dense: CAM is not available" in result.stderr
    assert "use occlusion" in result.stderr


def test_check_adds_curves(explain: Explain, run_folder: Path, tmp_path: Path) -> None:
    result = explain("--model", run_folder, "--check", "--format", "json", "--output", tmp_path / "c.svg")
    assert result.exit_code == 0, result.stderr
    for entry in json.loads(result.stdout):
        assert set(entry["check"]) == {"deletion", "insertion", "randomisation"}
        assert entry["check"]["deletion"]["probabilities"][0] == pytest.approx(entry["probability"], abs=1e-3)
        assert len(entry["check"]["randomisation"]["similarities"]) == 2
    text = [node.text for node in ET.parse(tmp_path / "c.svg").iter() if node.tag.endswith("text")]
    assert {"Deletion", "Insertion", "Randomised model"} <= set(text)
    table = explain("--check")
    assert "deletion" in table.stdout
    assert "lower is better" in table.stderr


def test_check_without_onnx_leaves_out_randomisation(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.cli.explain.find_spec", lambda _name: None)
    result = explain("--check", "--format", "json")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)[0]["check"]) == {"deletion", "insertion"}
    assert "no randomisation check: it needs onnx (pip install 'mien[train]')" in result.stderr


def test_one_bad_picture_of_two(explain: Explain, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    result = explain(tmp_path / "bad.png")
    assert result.exit_code == 1
    assert "bad.png" in result.stderr
    assert "happy.png" in result.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no undecodable names")
@pytest.mark.parametrize("ending", ["json", "csv", "svg"])
def test_a_name_that_is_no_unicode(explain: Explain, face_png: Path, tmp_path: Path, ending: str) -> None:
    odd, written = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"), tmp_path / f"maps.{ending}"
    shutil.copy(face_png, odd)
    result = explain(odd, "--output", written)
    assert result.exit_code == 0, result.stderr
    text = written.read_text(encoding="utf-8")
    assert "\\udcff.png" in text
    if ending == "json":
        assert json.loads(text)[-1]["source"] == odd
    for form in ("json", "csv"):
        assert "\\udcff.png" in explain(odd, "--format", form).stdout


def test_the_picture_itself_is_no_output(explain: Explain, face_png: Path) -> None:
    before = face_png.read_bytes()
    result = explain("--output", face_png)
    assert f"{face_png} is one of the pictures" in str(result.exception)
    assert face_png.read_bytes() == before


def test_what_cannot_be_written_is_told_before_the_work(explain: Explain, tmp_path: Path) -> None:
    (tmp_path / "taken.png").mkdir()
    result = explain("--output", tmp_path / "taken.png")
    assert "taken.png: cannot write it: Is a directory" in str(result.exception)
    assert result.stdout == ""


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_names_that_stdout_cannot_hold_are_escaped(face_png: Path, tiny_onnx: Path, form: str) -> None:
    """As on Windows, where output into a file is in the machine's code page."""
    odd = face_png.rename(face_png.with_name("日本.png"))
    command = [sys.executable, "-m", "mien", "explain", odd, "--detector", "none", "--model", tiny_onnx, "-f", form]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="cp1252", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u65e5\\u672c.png" in done.stdout


def test_no_face(tiny_onnx: Path, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (200, 200), "white").save(tmp_path / "white.png")
    result = CliRunner().invoke(app, ["explain", str(tmp_path / "white.png"), "--model", str(tiny_onnx)])
    assert result.exit_code == 2
    assert "white.png: no face found; if the picture is one face, add --detector none" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--output", "map.gif"], "map.gif: the ending must be one of .png, .svg", id="ending"),
        pytest.param(["--label", "bored"], "'bored' is no known class", id="label"),
        pytest.param(["--patch", "60"], "tiny: patch_px is 60, not between 1 and the crop's 48", id="patch"),
        pytest.param(["--patch", "4", "--stride", "5"], "leave gaps", id="stride"),
        pytest.param(["--model", "nowhere.onnx"], "nowhere.onnx", id="model"),
        pytest.param(
            ["--grid", "labels", "--label", "sad"],
            "--grid labels draws every emotion: leave out --label",
            id="grid of labels and a label",
        ),
        pytest.param(["--grid", "methods", "--method", "cam"], "leave out --method", id="grid of methods and a method"),
        pytest.param(["--method", "cam", "--patch", "3"], "--patch is for occlusion", id="patch of cam"),
        pytest.param(["--method", "cam", "--stride", "3"], "--stride is for occlusion", id="stride of cam"),
        pytest.param(["--seed", "0"], "--seed is for --check", id="seed without check"),
    ],
)
def test_bad_options(explain: Explain, options: list[str], message: str) -> None:
    result = explain(*options)
    assert result.exit_code != 0
    assert isinstance(result.exception, MienError)
    assert message in str(result.exception)


def _labelled(path: Path, *labels: str) -> Path:
    """The tiny model with labels of one's own, the rest of seven called after letters."""
    named = (*labels, *"abcdefg"[len(labels) :])
    return write_tiny_model(path, spec=replace(tiny_spec(tiny_weights()["classifier"]), name=path.stem, labels=named))


@pytest.mark.parametrize("options", [[], ["--label", "CAT"], ["--label", "all"]], ids=["default", "asked for", "all"])
def test_labels_with_capitals(explain: Explain, face_png: Path, tmp_path: Path, options: list[str]) -> None:
    model = _labelled(tmp_path / "pets.onnx", "Cat", "Dog", "Emu", "Fox", "Gnu", "Hen", "Ibis")
    command = ["explain", str(face_png), "--detector", "none", "--model", str(model), "--format", "json", *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.exception
    explained = {entry["label"] for entry in json.loads(result.stdout)}
    assert len(explained) == (7 if options[-1:] == ["all"] else 1)
    assert explained <= {"Cat", "Dog", "Emu", "Fox", "Gnu", "Hen", "Ibis"}


def test_models_of_other_labels(explain: Explain, tmp_path: Path) -> None:
    other = _labelled(tmp_path / "pets.onnx", "Cat")
    message = str(explain("--model", other).exception)
    assert message.startswith("the models know different labels: tiny says ")
    assert ", which pets (Cat, b, c, d, e, f, g) does not know: add --label all" in message
    assert "pets: 'happy' is no known class" in str(explain("--model", other, "--label", "happy").exception)
    assert explain("--model", other, "--label", "all").exit_code == 0


@pytest.mark.parametrize("options", [["--method", "magic"], ["--patch", "0"], ["--grid", "faces"]])
def test_bad_usage(explain: Explain, options: list[str]) -> None:
    assert explain(*options).exit_code == 2


def test_photograph(tiny_onnx: Path, grace_hopper: Path, tmp_path: Path) -> None:
    """The detector finds the face; the crop has the model's size."""
    path = tmp_path / "hopper.json"
    command = ["explain", str(grace_hopper), "--model", str(tiny_onnx), "--method", "cam", "--output", str(path)]
    assert CliRunner().invoke(app, command).exit_code == 0
    (entry,) = json.loads(path.read_text())
    left, top, right, bottom = entry["box_xyxy"]
    assert 0 < left < right < 512
    assert 0 < top < bottom < 600
    assert entry["shape_hw"] == [48, 48]


def test_a_large_jpeg_gets_the_answer_of_predict(mien_command: Run, grace_hopper: Path, tmp_path: Path) -> None:
    """Both decode it at the same fraction of its size."""
    path = tmp_path / "large.jpg"
    with PIL.Image.open(grace_hopper) as portrait:
        large = PIL.Image.new("RGB", (4000, 3000), (128, 128, 128))
        large.paste(portrait.convert("RGB").resize((410, 480)), (1700, 1300))
    noise = np.random.default_rng(0).normal(0, 40, (3000, 4000, 1))  # what a reduced decoding leaves out
    PIL.Image.fromarray((np.asarray(large) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    (predicted,) = json.loads(mien_command("predict", path, "--format", "json").out)
    (explained,) = json.loads(mien_command("explain", path, "--method", "cam", "--format", "json").out)
    (face,) = predicted["faces"]
    assert {key: explained[key] for key in ("box_xyxy", "emotion", "confidence")} == {
        key: face[key] for key in ("box_xyxy", "emotion", "confidence")
    }
    assert explained["probability"] == pytest.approx(face["probabilities"][explained["label"]], abs=1e-4)


def test_faces_are_numbered_as_predict_numbers_them(
    mien_command: Run, tiny_onnx: Path, grace_hopper: Path, tmp_path: Path
) -> None:
    """From 1 in tables, CSV and figures; in JSON it is the place in the list of faces, from 0."""
    with PIL.Image.open(grace_hopper) as portrait:
        two = PIL.Image.new("RGB", (2 * portrait.width, portrait.height))
        two.paste(portrait)
        two.paste(portrait, (portrait.width, 0))
    two.save(tmp_path / "two.png")

    def printed(verb: str, form: str) -> str:
        options = ["--method", "cam", "--output", tmp_path / "two.svg"] if verb == "explain" else []
        return str(mien_command(verb, tmp_path / "two.png", "--model", tiny_onnx, "--format", form, *options).out)

    predicted = {row["face"] for row in csv.DictReader(io.StringIO(printed("predict", "csv")))}
    explained = {row["face"] for row in csv.DictReader(io.StringIO(printed("explain", "csv")))}
    assert predicted == explained == {"1", "2"}
    faces = json.loads(printed("predict", "json"))[0]["faces"]
    for entry in json.loads(printed("explain", "json")):
        assert entry["box_xyxy"] == faces[entry["face"]]["box_xyxy"]
    text = [node.text for node in ET.parse(tmp_path / "two.svg").iter() if node.tag.endswith("text")]
    assert "two.png, face 2" in text
