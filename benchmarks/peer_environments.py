"""The peers of `benchmarks/peers.py`: what each is, and an environment of its own for it.

An environment is what the peer's plain install brings, plus what it fails to declare (named in `missing`). It is
made once, in `$MIEN_HOME/peers` (the user's cache folder), and made again where the requirements change. mien gets one
too, from this checkout, so that all are measured alike.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNNERS = Path(__file__).parent / "peer_runners"
TFJS = ("@tensorflow/tfjs@4.22.0", "@tensorflow/tfjs-backend-wasm@4.22.0")


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A package that recognises emotions in face crops."""

    name: str
    what: str  # the network that is measured
    requirement: str  # of pip or npm; empty: mien from this checkout
    runner: str  # file of peer_runners
    missing: tuple[str, ...] = ()  # what it needs and does not declare, or what its documents tell to add
    model: str = ""  # mien's

    @property
    def in_node(self) -> bool:
        """Whether npm installs it."""
        return self.runner.endswith(".mjs")

    @property
    def folder(self) -> str:
        """Of its environment; the models of mien share one."""
        return "mien" if not self.requirement else self.name.rpartition("/")[2]


PEERS = (
    Peer(name="mien default", what="resnet9-narrow, int8", requirement="", runner="run_mien.py", model="default"),
    Peer(
        name="mien default-fp16",
        what="resnet9-narrow, fp16 weights, fp32 arithmetic",
        requirement="",
        runner="run_mien.py",
        model="default-fp16",
    ),
    Peer(
        name="fer",
        what="mini-Xception, int8 TFLite (its default)",
        requirement="fer==25.10.3",
        runner="run_fer.py",
        missing=("setuptools<81",),  # pkg_resources, undeclared and gone from newer ones
    ),
    Peer(
        name="@vladmandic/human",
        what="`emotion`, TensorFlow.js, WASM",
        requirement="@vladmandic/human@3.3.6",
        runner="run_human.mjs",
        missing=TFJS,
    ),
    Peer(
        name="@vladmandic/face-api",
        what="face expression, TensorFlow.js, WASM",
        requirement="@vladmandic/face-api@1.7.15",
        runner="run_face_api.mjs",
        missing=TFJS,
    ),
    Peer(
        name="what-the-face-classification",
        what="three convolutions, PyTorch",
        requirement="what-the-face-classification==0.0.27",
        runner="run_what_the_face.py",
        missing=("setuptools<81",),
    ),
    Peer(
        name="deepface",
        what="emotion, ONNX Runtime",
        requirement="deepface==0.0.103",
        runner="run_deepface.py",
    ),
    Peer(
        name="emotiefflib",
        what="EfficientNet-B0 of AffectNet-8, ONNX Runtime",
        requirement="emotiefflib==1.1.1",
        runner="run_emotiefflib.py",
    ),
)


class InstallError(Exception):
    """An environment could not be made; the message says why."""


@dataclass(frozen=True)
class Environment:
    """Where a peer lives, and how its runner is started."""

    peer: Peer
    folder: Path

    def command(self, crops: Path, count: int) -> list[str]:
        """Starts the runner over `count` crops in the file `crops`."""
        program = "node" if self.peer.in_node else os.fspath(_python(self.folder / "env"))
        return [program, os.fspath(RUNNERS / self.peer.runner), os.fspath(crops), str(count)]

    def variables(self) -> dict[str, str]:
        """The environment variables of the runner."""
        return {**os.environ, "MIEN_BENCH_MODEL": self.peer.model, "PYTHONWARNINGS": "ignore"}

    def megabytes(self) -> float:
        """Of everything that the install put there, pip or npm's own packages included."""
        installed = self.folder / ("node_modules" if self.peer.in_node else "env")
        files = (path for path in installed.rglob("*") if path.is_file() and not path.is_symlink())
        return sum(path.stat().st_size for path in files) / 1e6


def prepare(peer: Peer, cache: Path) -> Environment:
    """The peer's environment in `cache`, installed unless it is there already.

    Raises:
        InstallError: pip or npm fails, or node is missing.
    """
    folder = cache / peer.folder
    environment = Environment(peer, folder)
    wanted = _wanted(peer.requirement, peer.missing)
    stamp = folder / "installed.json"
    if stamp.exists() and json.loads(stamp.read_text(encoding="utf-8")) == wanted:
        return environment
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"{peer.name}: installing into {folder}", file=sys.stderr, flush=True)
    if peer.in_node:
        _npm_install(peer, folder)
    else:
        _run([sys.executable, "-m", "venv", os.fspath(folder / "env")], folder)
        requirements = [peer.requirement or os.fspath(ROOT), *peer.missing]
        pip = [os.fspath(_python(folder / "env")), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        _run([*pip, *requirements], folder)
    stamp.write_text(json.dumps(wanted), encoding="utf-8")
    return environment


def _npm_install(peer: Peer, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise InstallError("needs node and npm, which are not installed")
    (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    _run([npm, "install", "--silent", "--no-audit", "--no-fund", peer.requirement, *peer.missing], folder)


@cache  # a checkout that changes meanwhile is not installed twice
def _wanted(requirement: str, missing: tuple[str, ...]) -> list[str]:
    """What the stamp of a finished install holds."""
    if requirement:
        return [requirement, *missing]
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    for path in sorted((ROOT / "src").rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.read_bytes())
    return [f"mien {digest.hexdigest()}"]


def _python(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise InstallError(f"{Path(command[0]).name} failed: {' '.join(last)}")
