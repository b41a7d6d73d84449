"""Check the wheel as a stranger meets it: built, installed into a fresh environment, used without network.

Six checks: what the wheel holds, the size of the base install, what it must not bring, that no module of the serving
side so much as tries to import torch or its like, and that `mien predict` and the Python example work offline.
Needs only the standard library; `python .ci/wheel_check.py` is the whole call.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PRIVATE = "mien/web/static/vendor/onnxruntime-web/"  # private mode: in the wheel where `make private` has run
WORK = REPOSITORY / "build" / "wheel-check"
MAX_INSTALL_MB = 450
HEAVY = ("torch", "torchvision", "timm", "ray", "matplotlib", "av", "pyarrow", "sklearn", "captum")
SERVING = (
    "mien",
    "mien.cli",
    "mien.pipeline",
    "mien.web",
    "mien.video",
    "mien.batch",
    "mien.evaluation",
    "mien.datasets",
)
IN_WHEEL = (
    "mien/py.typed",
    "mien/weights/centerface.onnx",
    "mien/weights/default.onnx",
    "mien/datasets/kaggle_to_ferplus.csv.gz",
    ".dist-info/licenses/LICENSE",
    ".dist-info/licenses/THIRD_PARTY_NOTICES",
)
MAX_WHEEL_MB = 40

FENCE = '''
"""Put on PYTHONPATH as sitecustomize: refuses the network, and notes and refuses heavy packages."""
import os, socket, sys

def refuse(*arguments, **options):
    raise OSError(101, "the wheel check has no network")

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = socket.getaddrinfo = refuse

class Fence:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["MIEN_CHECK_HEAVY"].split():
            with open(os.environ["MIEN_CHECK_LOG"], "a") as log:
                log.write(name + "\\n")
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Fence())
'''

EXAMPLE = """
import json, sys
import mien
faces = mien.load().analyze(sys.argv[1])
print(json.dumps([face.to_dict() for face in faces]))
"""


class CheckError(Exception):
    """A check does not hold."""


def run(command: Sequence[str | Path], **environment: str) -> str:
    """Standard output of `command`, run outside the repository so that only the installed mien can be found."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=WORK,
        env={**inherited, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        shown = " ".join(str(part) for part in command[:6])
        raise CheckError(f"`{shown}` ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def build_wheel() -> Path:
    run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", WORK / "dist", REPOSITORY])
    (wheel,) = (WORK / "dist").glob("mien-*.whl")
    return wheel


def check_contents(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for wanted in IN_WHEEL:
        if not any(name.endswith(wanted) for name in names):
            raise CheckError(f"{wheel.name} holds no {wanted}")
    for built in (REPOSITORY / "src" / PRIVATE).glob("*"):
        if PRIVATE + built.name not in names:
            raise CheckError(f"{wheel.name} holds no {PRIVATE}{built.name}, though it is built")
    strays = [name for name in names if not name.startswith(("mien/", "mien-")) or "__pycache__" in name]
    if strays:
        raise CheckError(f"{wheel.name} holds {strays[:5]}, which belong to no install")
    size_mb = wheel.stat().st_size / 1e6
    if size_mb > MAX_WHEEL_MB:
        raise CheckError(f"{wheel.name} has {size_mb:.0f} MB, over {MAX_WHEEL_MB}")
    return f"{wheel.name}: {len(names)} files, {size_mb:.1f} MB"


def install(wheel: Path) -> Path:
    """The interpreter of a fresh environment with the base install."""
    venv.create(WORK / "venv", with_pip=True)
    python = WORK / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run([python, "-m", "pip", "install", "--disable-pip-version-check", wheel])
    return python


def check_size() -> str:
    files = [path for path in (WORK / "venv").rglob("*") if path.is_file() and not path.is_symlink()]
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    if size_mb >= MAX_INSTALL_MB:
        raise CheckError(f"the base install takes {size_mb:.0f} MB, over {MAX_INSTALL_MB}")
    return f"the base install takes {size_mb:.0f} MB in {len(files)} files (at most {MAX_INSTALL_MB} MB), pip included"


def check_not_installed(python: Path) -> str:
    code = "import importlib.util, sys; print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    found = run([python, "-c", code, *HEAVY]).strip()
    if found != "[]":
        raise CheckError(f"the base install brings {found}")
    return f"the base install brings none of {', '.join(HEAVY)}"


def _works(command: Sequence[str]) -> bool:
    found = shutil.which(command[0])
    return found is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0


class Offline:
    """Runs commands with sockets refused and heavy imports noted; in a network namespace where the system lets us."""

    def __init__(self) -> None:
        self.log = WORK / "heavy-imports.txt"
        self.log.write_text("", encoding="utf-8")
        (WORK / "fence").mkdir()
        (WORK / "fence" / "sitecustomize.py").write_text(FENCE, encoding="utf-8")
        self.environment = {
            "PYTHONPATH": str(WORK / "fence"),
            "MIEN_CHECK_HEAVY": " ".join(HEAVY),
            "MIEN_CHECK_LOG": str(self.log),
            "MIEN_HOME": str(WORK / "empty-home"),
        }
        namespace = ["unshare", "--net", "--map-root-user"]
        self.prefix = namespace if _works([*namespace, "true"]) else []

    @property
    def how(self) -> str:
        return "in a namespace without network" if self.prefix else "with sockets refused"

    def run(self, command: Sequence[str | Path]) -> str:
        output = run([*self.prefix, *command], **self.environment)
        if tried := sorted(set(self.log.read_text(encoding="utf-8").split())):
            raise CheckError(f"`{' '.join(str(part) for part in command[:4])}` tried to import {', '.join(tried)}")
        return output


def check_imports(offline: Offline, python: Path) -> str:
    for module in SERVING:
        offline.run([python, "-c", f"import {module}"])
    return f"{', '.join(SERVING)} load and reach for none of them"


def check_predict(offline: Offline, python: Path, portrait: Path) -> str:
    output = offline.run(
        [python.with_name("mien"), "predict", portrait, "--format", "json", "--output", WORK / "annotated"]
    )
    (picture,) = json.loads(output)
    faces = picture["faces"]
    if len(faces) != 1 or abs(sum(faces[0]["probabilities"].values()) - 1) > 0.01:
        raise CheckError(f"mien predict found {len(faces)} faces in a portrait of one: {output[:500]}")
    if not list((WORK / "annotated").iterdir()):
        raise CheckError("mien predict --output left no annotated picture")
    face = faces[0]
    return f"mien predict, {offline.how}: one face, {face['emotion']} {face['confidence']:.2f}"


def check_example(offline: Offline, python: Path, portrait: Path) -> str:
    faces = json.loads(offline.run([python, "-W", "error", "-c", EXAMPLE, portrait]))
    if len(faces) != 1:
        raise CheckError(f"mien.load().analyze found {len(faces)} faces in a portrait of one")
    return f"mien.load().analyze, {offline.how}: one face, and no warning"


def main() -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    wheel = build_wheel()
    print("holds:", check_contents(wheel), flush=True)
    python = install(wheel)
    print("holds:", check_size(), flush=True)
    print("holds:", check_not_installed(python), flush=True)
    fetch = "from mien.demo import portrait; print(portrait())"
    picture = Path(run([python, "-c", fetch], MIEN_HOME=str(WORK / "home")).strip())
    offline = Offline()
    print("holds:", check_imports(offline, python), flush=True)
    print("holds:", check_predict(offline, python, picture), flush=True)
    print("holds:", check_example(offline, python, picture), flush=True)
    shutil.rmtree(WORK)


if __name__ == "__main__":
    try:
        main()
    except CheckError as error:
        sys.exit(f"wheel check: {error}")
