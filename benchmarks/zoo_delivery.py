"""What benchmarks/train_zoo.py hands out of a short lease, and how it comes back: files in pieces, a plan, records."""

import hashlib
import json
import math
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIECE_BYTES = 15 << 20
MAX_FILES, MAX_BYTES = 8, 60 << 20  # of one call
RECORDS = "records"


@dataclass
class Delivery:
    """The output folder of one call."""

    work: Path
    output: Path
    files: int = 2  # the plan and runs.tar
    bytes: int = 0

    def weights(self, runs: Mapping[str, dict[str, Any]], order: Iterable[str]) -> None:
        """Send finished runs' weights, as far as there is room; the plan's entries keep how many pieces were sent."""
        for name in order:
            whole = self.work / f"{name}.safetensors"
            if not runs[name]["done"]:
                continue
            if "weights" not in runs[name]:
                runs[name]["weights"] = {"sha256": sha256(whole), "pieces": pieces(whole), "sent": 0}
            kept = runs[name]["weights"]
            while kept["sent"] < kept["pieces"] and self._room(min(PIECE_BYTES, whole.stat().st_size)):
                self._send(whole, whole.name, kept["sent"])
                kept["sent"] += 1

    def runs(self, names: Iterable[str]) -> None:
        """Put recipes, histories and records of runs, and the plan, where the caller finds them."""
        self.output.mkdir(parents=True, exist_ok=True)
        with tarfile.open(self.output / "runs.tar", "w") as tar:
            for name in names:
                for path in (f"{name}/recipe.json", f"{name}/history.jsonl", f"{RECORDS}/{name}.json"):
                    if (self.work / path).exists():
                        tar.add(self.work / path, path)
        shutil.copy(self.work / "plan.json", self.output / "plan.json")

    def checkpoint(self, name: str) -> bool:
        """Send a run that has begun, whole or not at all: False where there is no room."""
        paths = [path for kept in ("best.pt", "last.pt") if (path := self.work / name / kept).exists()]
        if not self._room(sum(path.stat().st_size for path in paths), files=sum(map(pieces, paths))):
            return False
        for path in paths:
            for number in range(pieces(path)):
                self._send(path, f"{name}.{path.name}", number)
        return True

    def _room(self, size: int, files: int = 1) -> bool:
        return self.files + files <= MAX_FILES and self.bytes + size <= MAX_BYTES

    def _send(self, path: Path, name: str, number: int) -> None:
        """Copy one piece."""
        self.output.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as file:
            file.seek(number * PIECE_BYTES)
            piece = file.read(PIECE_BYTES)
        (self.output / f"{name}.{number:03}").write_bytes(piece)
        self.files, self.bytes = self.files + 1, self.bytes + len(piece)


def unsent(runs: Mapping[str, Mapping[str, Any]]) -> int:
    """Pieces of weights that wait for another call."""
    return sum(one["weights"]["pieces"] - one["weights"]["sent"] for one in runs.values() if "weights" in one)


def join(folder: Path, work: Path) -> None:
    """Put what all calls delivered back into an empty work folder: plan, weights, the unfinished run.

    Finished runs come back as their weights, enough to teach; one whose weights are not whole is to be trained again,
    and so is what it taught and has not finished. The time used before was another lease's.
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
    whole = {sha256(path) for path in work.glob("*.safetensors")}
    for name, entry in plan["runs"].items():
        if entry["done"] and entry.get("weights", {}).get("sha256") not in whole:
            print(f"{name}: its weights did not come back whole; it will be trained again", flush=True)
            entry["done"] = False
            entry.pop("weights", None)
        if not entry["done"] and not _goes_on(work / name, whole):
            shutil.rmtree(work / name, ignore_errors=True)
            entry.pop("epochs", None)
            entry["used_s"] = 0.0
    plan["used_s"] = 0.0
    (work / "plan.json").write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")


def _goes_on(run: Path, weights: set[str]) -> bool:
    """Whether a checkpoint came back, and all teachers that it began with."""
    if not (run / "last.pt").exists():
        return False
    about = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    return all(teacher["sha256"] in weights for teacher in about["teachers"])


def _target(stem: str, work: Path) -> Path:
    """Of a delivered file: `NAME.safetensors` lies in the work folder, `NAME.last.pt` in its run's."""
    for kept in ("last.pt", "best.pt"):
        if stem.endswith(f".{kept}"):
            return work / stem.removesuffix(f".{kept}") / kept
    return work / stem


def pieces(path: Path) -> int:
    """How many a file makes."""
    return math.ceil(path.stat().st_size / PIECE_BYTES)


def sha256(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
