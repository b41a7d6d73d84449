"""What `mien models info` says of runs whose weights are not packaged: figures, sha256, the command that makes them."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mien.training import recipe as recipes
from mien.training import transfer
from mien.training.records import Record
from mien.training.results import prepared, ranked

KEPT = "results/weights"
EXPORTED = {
    "500c6bf3200af84cae76ad2bb621a94e4045401ccde4e4604addbfca93f8e611": "runs/resnet9-narrow.onnx",
    "aa4b2191fc17638ebbb2895a267c10f7d197c4bc48a5274f7ffe32c48f3ff3e1": "runs/resnet9-narrow-third.onnx",
    "44a087383adcb6949e8ce01c5ae4faa2b17ad18109dd3db3c966578de7d14c57": "runs/resnet9-narrow-aligned.onnx",
    "5f89023c60ae8cf0abbd1c2bf54d2e96ed417c8d9ce896bea95752773eea6063": f"{KEPT}/vgg-narrow-long-halfway.safetensors",
    "ed310454001cffa220ae03cd60bc84e564be206e1abb8f9c2308428a18a57c40": f"{KEPT}/vgg-narrow-untaught.safetensors",
}
"""Teachers that were files, by sha256: int8 exports of runs that were packaged once, and weights kept here."""


def manifest(records: Sequence[Record]) -> list[dict[str, Any]]:
    """An entry for each run that was measured on all of PublicTest, the most accurate first."""
    checkpoints = {one.weights_sha256: one.name for one in records}
    return [_entry(one, checkpoints) for one in ranked(records) if one.on_public_test]


def command(record: Record, checkpoints: Mapping[str, str]) -> str:
    """The command that makes the run again; `checkpoints` are runs by the sha256 of their weights, for teachers.

    It names the shipped recipe with the fewest settings to change, of the same network where there is one;
    `results.origin` says which one the run followed.
    """
    about, settings = record.about, recipes.from_dict(record.about["recipe"], source=record.name).to_dict()
    changes = {name: _changes(name, settings) for name in recipes.names()}
    base = min(changes, key=lambda name: ("model" in changes[name], len(changes[name]), name))
    words = ["mien", "distill" if about.get("teachers") else "train", base]
    if start := about.get("start"):
        words += ["--from", f"runs/{start['source'].removesuffix('.safetensors')}"]  # the run whose weights they are
    for teacher in about.get("teachers") or []:
        sha256 = teacher["sha256"]
        known = f"runs/{checkpoints[sha256]}" if sha256 in checkpoints else EXPORTED.get(sha256)
        words += ["--teacher", known or teacher["name"]]
    for key, value in changes[base].items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join([*words, "--data", prepared(record), "--output", f"runs/{record.name}"])


def _changes(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are not the shipped recipe's."""
    planned = transfer.settle(recipes.read(name)).to_dict()
    changes = {key: value for key, value in settings.items() if planned[key] != value}
    if "pretrained" in changes:
        changes.pop("layout", None)  # the start decides it
    return changes


def _entry(record: Record, checkpoints: Mapping[str, str]) -> dict[str, Any]:
    found, about = record.metrics, record.about
    return {
        "run": record.name,
        "network": about["recipe"]["model"],
        "command": command(record, checkpoints),
        "weights_sha256": record.weights_sha256,
        "teachers": about.get("teachers") or [],
        "planned_epochs": about.get("horizons") or [{"from_epoch": 1, "epochs": about["recipe"]["epochs"]}],
        "epochs": len(record.history),
        "seconds": round(record.seconds),
        "device": about["device"],
        "parameters": record.parameters,
        "macs": record.macs,
        "measured_on": found["data"]["images"],
        "views": found["tta"],
        "accuracy": round(found["accuracy"], 5),
        "accuracy_ci95": [round(one, 5) for one in found["accuracy_ci95"]],
        "macro_f1": round(found["macro_f1"], 4),
        "log_loss": round(found["log_loss"], 4),
        "ece": round(found["ece"], 4),
    }
