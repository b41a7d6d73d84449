"""Files by address: paths of this machine as they are typed, everything else through fsspec.

`s3://` and `gs://` need no further package: where fsspec's own driver is not installed, pyarrow's takes its place.
Credentials and endpoints come from the environment of each process, as these drivers document.
"""

import io
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import fsspec
from fsspec.core import split_protocol

from mien.errors import ConfigError, DataError

Answer = TypeVar("Answer")

ARROW_SCHEMES = ("s3", "gs")
WEB_SCHEMES = ("http", "https")  # whose paths are the whole address
RETRY_WAITS_S = (0.2, 1.0, 5.0)  # a busy store answers again soon; what fails four times is reported
PARTIAL_SUFFIX = ".partial"
FINAL_ANSWERS = (FileNotFoundError, PermissionError, IsADirectoryError)  # no retry changes them


def scheme_of(address: str) -> str | None:
    """`s3` of `s3://bucket/key`; None for a path of this machine, `C:/...` included."""
    scheme, _ = split_protocol(address)
    return scheme if scheme is not None and len(scheme) > 1 else None


def local_form(address: str) -> str:
    """`file:///a/b` as `/a/b`; others as they are."""
    return address.removeprefix("file://") if scheme_of(address) == "file" else address


def open_store(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address that has a scheme, and its path there.

    Raises:
        ConfigError: the scheme is unknown, or its driver is not installed or refuses the address.
    """
    scheme, rest = split_protocol(address)
    fs = _file_system(scheme, rest.partition("/")[0])
    return fs, address if scheme in WEB_SCHEMES else fs._strip_protocol(address)


@lru_cache(maxsize=64)
def _file_system(scheme: str, host: str) -> Any:
    try:
        return fsspec.core.url_to_fs(f"{scheme}://{host}")[0]
    except ImportError as error:
        if scheme not in ARROW_SCHEMES:
            raise ConfigError(f"{scheme}://: {error}") from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"{scheme}://{host}: cannot open this store ({error}): check the address") from error
    from fsspec.implementations.arrow import ArrowFSWrapper  # noqa: PLC0415 - only where it is needed
    from pyarrow import fs as arrow  # noqa: PLC0415

    try:
        return ArrowFSWrapper(arrow.FileSystem.from_uri(f"{scheme}://{host}")[0])
    except (OSError, ValueError) as error:
        raise ConfigError(f"{scheme}://{host}: cannot open this store ({error}): check the address") from error


def address_of(scheme: str, path: str) -> str:
    """A path of a store as users write it."""
    return path if scheme in WEB_SCHEMES else f"{scheme}://{path.lstrip('/')}"


def patiently(call: Callable[[], Answer]) -> Answer:
    """What a store answers, asked for again while it is busy.

    Raises:
        OSError: it does not answer, whatever its driver calls that.
        ConfigError: the store cannot be opened.
    """
    waits = list(RETRY_WAITS_S)
    while True:
        try:
            return call()
        except (*FINAL_ANSWERS, ConfigError, MemoryError):
            raise
        except Exception as error:  # aiohttp's, gcsfs's and others' are no OSError, and have no common name
            if not waits:
                raise OSError(str(error) or repr(error)) from error
            time.sleep(waits.pop(0))


def _is_partial(name: str, *, of: str = ".+") -> bool:
    """Whether a file is one that `Folder.writing` has begun; what others call `.partial` is theirs."""
    return re.fullmatch(rf"\.{of}\.[0-9a-f]{{12}}{re.escape(PARTIAL_SUFFIX)}", name) is not None


class _StoreFile(io.RawIOBase):
    """A file of a store; where an answer fails it is opened anew, and read on from the same place."""

    def __init__(self, address: str) -> None:
        """Open it.

        Raises:
            OSError, ConfigError: as `patiently`.
        """
        self._address = address
        self._place = 0
        self._file: Any = None
        patiently(self._opened)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        data = patiently(lambda: self._fresh(lambda file: file.read(len(buffer))))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset, whence = self._place + offset, os.SEEK_SET
        if (offset, whence) != (self._place, os.SEEK_SET):  # a server without ranges takes no other
            self._place = patiently(lambda: self._fresh(lambda file: file.seek(offset, whence)))
        return self._place

    def close(self) -> None:
        self._let_go()
        super().close()

    def _fresh(self, call: Callable[[Any], Answer]) -> Answer:
        """The answer of the file, which is closed if it fails: what it has read of a broken answer is not known."""
        try:
            return call(self._opened())
        except BaseException:
            self._let_go()
            raise

    def _opened(self) -> Any:
        if self._file is None:
            fs, path = open_store(self._address)
            self._file = fs.open(path, "rb")
            if self._place:
                self._file.seek(self._place)
        return self._file

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def open_file(address: str) -> BinaryIO:
    """A file open for reading from any place in it; what goes wrong while it is read is an OSError too.

    Raises:
        OSError: it cannot be opened.
        ConfigError: the store cannot be opened.
    """
    if scheme_of(address) is None:
        return Path(address).open("rb")
    return cast(BinaryIO, io.BufferedReader(_StoreFile(address)))


def read_file(address: str, *, limit: int) -> bytes:
    """The first `limit` bytes of a file.

    Raises:
        OSError: it cannot be read.
        ConfigError: the store cannot be opened.
    """
    if scheme_of(address) is None:
        with Path(address).open("rb") as file:
            return file.read(limit)
    fs, path = open_store(address)

    def read() -> bytes:
        with fs.open(path, "rb") as file:
            return bytes(file.read(limit))

    return patiently(read)


def size_of(address: str) -> int:
    """Bytes of a file.

    Raises:
        OSError: it is not there.
        ConfigError: the store cannot be opened.
    """
    if scheme_of(address) is None:
        return Path(address).stat().st_size
    fs, path = open_store(address)
    return int(patiently(lambda: fs.size(path)) or 0)


class Folder:
    """A folder on this machine or in a store, in which a file is whole or not there at all."""

    def __init__(self, address: str) -> None:
        """`address` need not exist yet."""
        self.address = address.rstrip("/") if scheme_of(address) else str(Path(address))
        self._fs: Any = None  # this machine's
        self._path = self.address
        if scheme_of(address):
            self._fs, self._path = open_store(self.address)

    def __reduce__(self) -> tuple[type["Folder"], tuple[str]]:
        return (Folder, (self.address,))  # a worker opens its own connection

    def make(self) -> None:
        """Make the folder and its parents where they are missing."""
        if self._fs is None:
            Path(self._path).mkdir(parents=True, exist_ok=True)
        else:
            self._ask(lambda: self._fs.makedirs(self._path, exist_ok=True))

    def place(self, name: str) -> str:
        """The address of a file in the folder."""
        return f"{self.address}/{name}"

    def names(self) -> set[str]:
        """Files in the folder, without those that are being written; empty where there is no folder."""
        return {name for name in self._entries() if not _is_partial(name)}

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        if self._fs is None:
            return Path(self._path, name).exists()
        return bool(self._ask(lambda: self._fs.exists(f"{self._path}/{name}")))

    def text(self, name: str) -> str | None:
        """What a small file says; None where there is none."""
        if not self.has(name):
            return None
        return self._ask(lambda: read_file(self.place(name), limit=1 << 20)).decode("utf-8")

    @contextmanager
    def writing(self, name: str) -> Iterator[str]:
        """A local path to fill; what is there at the end comes into the folder as `name`, whole, in one step.

        Nothing comes where the body raises. Any number of processes may write the same name: one of them wins.
        """
        if self._fs is not None:
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / "file"
                yield str(path)
                self._ask(lambda: self._fs.put_file(str(path), f"{self._path}/{name}"))  # not seen before it is whole
            return
        partial = Path(self._path) / f".{name}.{uuid.uuid4().hex[:12]}{PARTIAL_SUFFIX}"
        try:
            yield str(partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())  # the name must not survive a power cut that the bytes do not
            partial.replace(Path(self._path) / name)
        finally:
            partial.unlink(missing_ok=True)

    def sweep(self, prefix: str) -> None:
        """Remove files that killed writers left, and those whose names begin with `prefix`."""
        for name in self._entries():
            if _is_partial(name) or name.startswith(prefix):
                self.delete(name)

    def sweep_of(self, name: str) -> None:
        """Remove what killed writers left of one file, in a folder that is not the job's alone."""
        for each in self._entries() if self._fs is None else ():  # an upload leaves nothing that is seen
            if _is_partial(each, of=re.escape(name)):
                self.delete(each)

    def remove(self, own: Callable[[str], bool]) -> None:
        """Remove the files that `own` knows, what killed writers left, and the folder if nothing else is in it."""
        for name in self._entries():
            if own(name) or _is_partial(name):
                self.delete(name)
        if self._fs is None and Path(self._path).is_dir() and not any(Path(self._path).iterdir()):
            Path(self._path).rmdir()

    def delete(self, name: str) -> None:
        """Remove one file where it is there."""
        if self._fs is None:
            (Path(self._path) / name).unlink(missing_ok=True)
        elif self.has(name):
            self._ask(lambda: self._fs.rm_file(f"{self._path}/{name}"))

    def _entries(self) -> list[str]:
        try:
            if self._fs is None:
                return [path.name for path in Path(self._path).iterdir() if path.is_file()]
            self._fs.invalidate_cache()
            entries = self._ask(lambda: self._fs.ls(self._path))
            return [entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file"]
        except FileNotFoundError:
            return []

    def _ask(self, call: Callable[[], Answer]) -> Answer:
        """What the store of the folder answers.

        Raises:
            DataError: it does not, and the job cannot go on now.
            FileNotFoundError: what is asked for is not there.
        """
        try:
            return patiently(call)
        except FileNotFoundError:
            raise
        except OSError as error:
            cure = "check the address and your access, and go on with --resume"
            raise DataError(f"{self.address}: the store fails ({error}): {cure}") from error
