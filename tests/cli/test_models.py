"""`mien models`: what is at hand, what a file says of itself, what can be fetched."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mien import hub
from mien.cli import models as verb

Run = Callable[..., Any]


@pytest.fixture
def cached(mien_home: Path, tiny_onnx: Path) -> Path:
    mien_home.mkdir()
    return Path(shutil.copy(tiny_onnx, mien_home / "mine.onnx"))


@pytest.mark.parametrize("arguments", [("models",), ("models", "list")], ids=["short", "long"])
def test_list(mien_command: Run, cached: Path, arguments: tuple[str, ...]) -> None:
    run = mien_command(*arguments, "--installed", "--format", "json")
    entries = {entry["name"]: entry for entry in json.loads(run.out)}
    assert run.code == 0
    assert entries["centerface"]["kind"] == "detector"
    assert (entries["yunet"]["where"], entries["yunet"]["bytes"]) == ("can be fetched", hub.REMOTE["yunet"].size)
    mine = entries["mine"]
    assert (mine["kind"], mine["where"], mine["file"], mine["model"]) == ("model", "cached", str(cached), "tiny")
    assert mine["sha256"] == hashlib.sha256(cached.read_bytes()).hexdigest()
    assert mine["temperature"] == 1.5


def test_table(mien_command: Run, cached: Path) -> None:
    lines = mien_command("models", "--installed").out.splitlines()
    assert lines[0].split() == ["name", "kind", "where", "size", "input", "accuracy", "licence"]
    (mine,) = (line for line in lines if line.startswith("mine"))
    assert mine.split() == ["mine", "model", "cached", "0.0", "MB", "48", "x", "48", "grey", "Apache-2.0"]


def test_a_damaged_file_in_the_cache_stops_nothing(mien_command: Run, cached: Path) -> None:
    cached.write_bytes(b"damaged")
    run = mien_command("models", "--installed", "--format", "json")
    (mine,) = (entry for entry in json.loads(run.out) if entry["name"] == "mine")
    assert run.code == 0
    assert mine["kind"] == "damaged"
    assert "no ONNX model" in mine["fault"]


def test_networks(mien_command: Run) -> None:
    pytest.importorskip("torch")
    entries = {entry["name"]: entry for entry in json.loads(mien_command("models", "--format", "json").out)}
    assert entries["baseline"]["parameters"] == 1_199_495  # the case study's own count
    assert entries["baseline"]["macs"] == 48 * 48 * 32 * 9 + 24 * 24 * 64 * 32 * 9 + 12 * 12 * 64 * 128 + 128 * 7


NETWORK = {
    "name": "net",
    "kind": "network",
    "parameters": 1000,
    "macs": 2_500_000,
    "input": {"size_hw": [64, 48], "channels": 3},
    "pretrained": ["imagenet"],
    "figure": "70 %",
    "licence": "MIT",
    "source": "a paper",
}


def test_a_network_in_table_and_info(mien_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "find_spec", lambda name: name)
    monkeypatch.setattr(verb, "_networks", lambda: [NETWORK, verb._ensemble()])
    *_, heads, row, joined = mien_command("models").out.splitlines()
    assert joined.startswith("ensemble  its members'  their sum  48 x 48 grey")
    assert joined.endswith("mien ensemble MEMBERS... ensemble.onnx")
    assert heads.split() == [
        "network",
        "parameters",
        "MACs",
        "input",
        "starts",
        "in",
        "its",
        "source",
        "licence",
        "source",
    ]
    assert row.split() == [
        "net",
        "1,000",
        "2.5",
        "M",
        "48",
        "x",
        "64",
        "RGB",
        "imagenet",
        "70",
        "%",
        "MIT",
        "a",
        "paper",
    ]
    assert json.loads(mien_command("models", "info", "net", "--format", "json").out) == NETWORK


def test_without_torch(mien_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "find_spec", lambda name: None)
    run = mien_command("models")
    assert run.code == 0
    assert "resnet50" not in run.out
    assert "pip install 'mien[train]'" in run.err


def test_info(mien_command: Run, cached: Path) -> None:
    for name in ("mine", cached):
        entry = json.loads(mien_command("models", "info", name, "--format", "json").out)
        assert entry["labels"][0] == "angry"
        assert entry["training"] == {"recipe": "random weights, for tests"}
    assert "Apache-2.0" in mien_command("models", "info", "mine").out


def test_info_of_a_run_says_what_to_do(mien_command: Run, tmp_path: Path) -> None:
    (folder := tmp_path / "run one").mkdir()
    run = mien_command("models", "info", folder)
    assert run.code == 2
    assert f"{folder}: is a folder: make a model of a run with `mien export '{folder}' model.onnx`" in run.err


def test_info_of_what_was_trained(mien_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "_networks", lambda: [{**NETWORK, "name": "vgg-narrow"}])
    recorded = json.loads(mien_command("models", "info", "vgg-narrow", "--format", "json").out)["runs"]
    assert [one["run"] for one in recorded] == [
        "vgg-narrow-long-halfway",
        "vgg-narrow-long-further",
        "vgg-narrow-long-unmixed",
        "vgg-narrow-refined",
        "vgg-narrow-long-refined",
        "vgg-narrow-long",
        "vgg-narrow-distilled",
        "vgg-narrow-untaught",
        "vgg-narrow",
    ]  # best first
    run = recorded[-1]
    assert run["command"] == "mien train vgg-narrow --data data/fer2013 --output runs/vgg-narrow"
    assert len(run["weights_sha256"]) == 64
    assert json.loads(mien_command("models", "info", "baseline-sgd", "--format", "json").out)["network"] == "baseline"
    assert run["command"] in mien_command("models", "info", "vgg-narrow").out
    packaged = json.loads(mien_command("models", "info", "baseline", "--format", "json").out)
    assert packaged["where"] == "file"
    assert {"baseline", "baseline-sgd", "baseline-improved"} <= {one["run"] for one in packaged["runs"]}


def test_info_of_what_was_trained_without_torch(mien_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "find_spec", lambda name: None)
    out = mien_command("models", "info", "resnet9-narrow").out
    assert out.count("weights_sha256") == out.count("command  ") > 4


@pytest.mark.parametrize("verb_name", ["info", "fetch"])
def test_unknown_names(mien_command: Run, verb_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "_networks", lambda: [NETWORK])
    run = mien_command("models", verb_name, "nothing")
    assert (run.code, run.out) == (2, "")
    assert "nothing" in run.err
    assert run.err.count("\n") == 1


def test_fetch_what_is_in_the_cache(mien_command: Run, mien_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The download itself is tested in test_hub.py."""
    content = b"a detector"
    remote = replace(hub.REMOTE["yunet"], size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(hub.REMOTE, "yunet", remote)
    mien_home.mkdir()
    (mien_home / remote.file_name).write_bytes(content)
    run = mien_command("models", "fetch", "yunet")
    assert run.code == 0
    assert run.out.strip() == str(mien_home / remote.file_name)
    assert json.loads(mien_command("models", "--installed", "--format", "json").out)[-1]["where"] == "cached"


def test_starts_are_fetched_and_described_but_predict_nothing(
    mien_command: Run, mien_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"weights"
    remote = replace(hub.STARTS["imagenet-caffe"], size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(hub, "STARTS", {"imagenet-caffe": remote})
    monkeypatch.setattr(verb, "find_spec", lambda name: name)
    monkeypatch.setattr(verb, "_networks", list)

    def listed(*options: str) -> dict[str, Any]:
        entries = json.loads(mien_command("models", *options, "--format", "json").out)
        return {entry["name"]: (entry["kind"], entry["where"]) for entry in entries}

    assert listed()["imagenet-caffe"] == ("start", "can be fetched")
    assert "imagenet-caffe" not in listed("--installed")
    mien_home.mkdir()
    (mien_home / remote.file_name).write_bytes(content)
    assert mien_command("models", "fetch", "imagenet-caffe").out.strip() == str(mien_home / remote.file_name)
    assert listed()["imagenet-caffe"] == ("start", "cached")
    about = json.loads(mien_command("models", "info", "imagenet-caffe", "--format", "json").out)
    assert (about["url"], about["bytes"]) == (remote.url, len(content))
    run = mien_command("predict", "--model", "imagenet-caffe", "photo.jpg")
    assert run.code == 2
    assert "is neither a file nor a name that mien knows" in run.err
