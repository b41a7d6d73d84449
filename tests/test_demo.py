"""The demo's portrait: found where it is, fetched where it is not, refused where it is another picture."""

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mien import demo
from mien.errors import DownloadError

Pip = Callable[..., subprocess.CompletedProcess[str]]


def _pip(picture: bytes | None, *, fails: str = "") -> Pip:
    """A pip that puts a wheel with `picture` (None: without one) into its --dest, or fails with a message."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if not fails:
            wheel = Path(command[command.index("--dest") + 1]) / "matplotlib.whl"
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr("other" if picture is None else demo.MEMBER, picture or b"")
        return subprocess.CompletedProcess(command, int(bool(fails)), "", fails)

    return run


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "in_package", lambda package, place: None)


def test_installed_portrait_is_taken(monkeypatch: pytest.MonkeyPatch, grace_hopper: Path) -> None:
    monkeypatch.setattr(demo.subprocess, "run", _pip(None, fails="must not be called"))
    assert demo.portrait() == grace_hopper


@pytest.mark.usefixtures("no_matplotlib")
def test_portrait_is_fetched_once(monkeypatch: pytest.MonkeyPatch, mien_home: Path, grace_hopper: Path) -> None:
    monkeypatch.setattr(demo.subprocess, "run", _pip(grace_hopper.read_bytes()))
    assert demo.portrait() == mien_home / "grace_hopper.jpg"
    monkeypatch.setattr(demo.subprocess, "run", _pip(None, fails="must not be called again"))
    assert demo.portrait().read_bytes() == grace_hopper.read_bytes()


@pytest.mark.usefixtures("no_matplotlib")
def test_damaged_cache_is_fetched_again(monkeypatch: pytest.MonkeyPatch, mien_home: Path, grace_hopper: Path) -> None:
    mien_home.mkdir()
    (mien_home / "grace_hopper.jpg").write_bytes(grace_hopper.read_bytes()[:1000])
    monkeypatch.setattr(demo.subprocess, "run", _pip(grace_hopper.read_bytes()))
    assert demo.portrait().read_bytes() == grace_hopper.read_bytes()


@pytest.mark.usefixtures("no_matplotlib")
@pytest.mark.parametrize(
    ("pip", "message"),
    [
        pytest.param(_pip(None, fails="ERROR: No matching distribution"), "No matching distribution", id="no network"),
        pytest.param(_pip(b"another picture"), "not the picture", id="another picture"),
        pytest.param(_pip(None), "holds no", id="wheel without it"),
    ],
)
def test_failure_names_the_cure(monkeypatch: pytest.MonkeyPatch, mien_home: Path, pip: Pip, message: str) -> None:
    monkeypatch.setattr(demo.subprocess, "run", pip)
    with pytest.raises(DownloadError, match=message) as caught:
        demo.portrait()
    assert "--image" in str(caught.value)
    assert not list(mien_home.glob("*"))
