"""Folders and archives behind one interface: list what is inside, then read chosen files in storage order.

Nothing is unpacked to the disk: archive members are read in memory.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

from mien.errors import DataError
from mien.hub import sha256_of

KEPT_BYTES = 256 << 20  # the 32,298 files of FER-2013 at hand are 52 MB

Opened = tuple[str, Callable[[], IO[bytes]]]
"""A path inside the tree and what opens it; tar members can be opened only before the next one is asked for."""


class Tree(Protocol):
    """Files under names with forward slashes."""

    path: Path
    kind: str

    def entries(self) -> list[str]:
        """Paths of all files, and of folders with "/" behind them.

        Raises:
            DataError: the tree cannot be listed.
        """
        ...

    def open_each(self, wanted: Collection[str]) -> Iterator[Opened]:
        """The files among `wanted`, in the order that is quick to read."""
        ...

    def sha256(self) -> str | None:
        """Hash of the whole archive; None for a folder, whose hash follows from its files."""
        ...


class FolderTree:
    """A folder on the disk; links to folders are followed once."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[str]:
        """See `Tree`."""
        found: list[str] = []
        seen: set[str] = set()
        for folder, subfolders, files in os.walk(self.path, followlinks=True, onerror=self._refuse):
            real = os.path.realpath(folder)
            if real in seen:  # a link back up
                subfolders.clear()
                continue
            seen.add(real)
            inside = Path(folder).relative_to(self.path).as_posix()
            prefix = "" if inside == "." else f"{inside}/"
            found += [f"{prefix}{name}/" for name in subfolders] + [f"{prefix}{name}" for name in files]
        return sorted(found)

    def open_each(self, wanted: Collection[str]) -> Iterator[Opened]:
        """See `Tree`."""
        for name in sorted(wanted):
            yield name, partial(_open_file, self.path / name)

    def sha256(self) -> str | None:
        """See `Tree`."""
        return None

    def _refuse(self, error: OSError) -> None:
        raise DataError(f"{error.filename}: this folder cannot be listed: {error.strerror}") from error


class ZipTree:
    """A zip archive."""

    kind = "zip"

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[str]:
        """See `Tree`."""
        with self._opened() as archive:
            infos = archive.infolist()
            if any(info.flag_bits & 1 for info in infos):
                raise DataError(f"{self.path} is encrypted: unpack it with its password and give the folder")
            return [_inside(info.filename) + ("/" if info.is_dir() else "") for info in infos]

    def open_each(self, wanted: Collection[str]) -> Iterator[Opened]:
        """See `Tree`."""
        with self._opened() as archive:
            for info in archive.infolist():
                if (name := _inside(info.filename)) in wanted and not info.is_dir():
                    yield name, partial(archive.open, info)

    def sha256(self) -> str | None:
        """See `Tree`."""
        return sha256_of(self.path)

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} cannot be read as a zip archive ({error}): download it again") from error


class TarTree:
    """A tar archive, plain or packed with gzip, bzip2 or xz.

    It can only be read from front to back, and unpacking xz is most of the work: so the files seen while listing are
    kept, unless they are more than `KEPT_BYTES` together. Then a second pass reads them again, one at a time.
    """

    kind = "tar"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: dict[str, bytes] | None = {}

    def entries(self) -> list[str]:
        """See `Tree`."""
        found: list[str] = []
        self._kept, kept_bytes = {}, 0
        with self._opened() as archive:
            for member in archive:
                name = _inside(member.name)
                if member.isdir():
                    found.append(f"{name}/")
                elif member.isreg():
                    found.append(name)
                    kept_bytes += member.size
                    if kept_bytes > KEPT_BYTES:
                        self._kept = None
                    elif self._kept is not None:
                        self._kept[name] = _extract(archive, member).read()
        return found

    def open_each(self, wanted: Collection[str]) -> Iterator[Opened]:
        """See `Tree`."""
        if self._kept is not None:
            yield from ((name, partial(io.BytesIO, data)) for name, data in self._kept.items() if name in wanted)
            return
        with self._opened() as archive:
            for member in archive:
                if member.isreg() and (name := _inside(member.name)) in wanted:
                    yield name, partial(_extract, archive, member)

    def sha256(self) -> str | None:
        """See `Tree`."""
        return sha256_of(self.path)

    @contextmanager
    def _opened(self) -> Iterator[tarfile.TarFile]:
        try:
            with self.path.open("rb") as file, _decompressed(file) as stream:
                watched = _Watched(stream)
                with tarfile.open(fileobj=cast(IO[bytes], watched), mode="r|") as archive:
                    yield archive
                if watched.tail.strip(b"\0") or len(watched.tail) < tarfile.BLOCKSIZE:
                    raise EOFError("it is cut short")  # tarfile takes a missing end for the end
        except (OSError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
            raise DataError(f"{self.path} cannot be read as a tar archive ({error}): download it again") from error


class _Watched:
    """A stream that remembers its last block: a whole tar archive ends in zeros."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tail = b""

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.tail = (self.tail + data)[-tarfile.BLOCKSIZE :]
        return data


def _decompressed(file: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    """The content of a file that may be packed; told by its first bytes."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return cast(IO[bytes], bz2.BZ2File(file))
    if start == b"\xfd7zXZ\0":
        return cast(IO[bytes], lzma.LZMAFile(file))
    return nullcontext(file)


def open_tree(path: Path) -> Tree:
    """The folder or archive at `path`.

    Raises:
        DataError: there is nothing at `path`, or it is neither a folder nor an archive that mien reads.
    """
    if path.is_dir():
        return FolderTree(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder: check the path, or fetch it with `mien data download`")
    try:
        if tarfile.is_tarfile(path):
            return TarTree(path)
        if zipfile.is_zipfile(path):
            return ZipTree(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    raise DataError(f"{path} is no folder, zip, tar or CSV: give the FER-2013 folder, its archive or fer2013.csv")


def folder_sha256(hashes: dict[str, str]) -> str:
    """One hash for a folder: over the lines `<sha256>  <path>` of its images, sorted by path."""
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _open_file(path: Path) -> IO[bytes]:
    return path.open("rb")


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None, "a regular file has content"
    return file


def _inside(name: str) -> str:
    """A member's name as a clean relative path: archives made on Windows or with `tar c .` spell it otherwise."""
    return str(PurePosixPath(name.replace("\\", "/").lstrip("/")))
