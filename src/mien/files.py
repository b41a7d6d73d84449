"""Files that are there whole or not at all, the names they have, and those that packages bring along."""

from importlib.util import find_spec
from pathlib import Path


def write_whole(path: Path, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) beside `path`, then rename: a killed write leaves the old file, or none.

    Makes the folder where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data.encode() if isinstance(data, str) else data)
    partial.replace(path)


def check_writable(path: Path) -> None:
    """Make the folder where it is missing, and see whether the file can be written; what is there stays as it is.

    Raises:
        OSError: it cannot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    existed = path.exists()
    path.open("ab").close()
    if not existed:
        path.unlink()


def printable(text: str) -> str:
    """For people: control characters and undecodable bytes, which file names can hold, come out escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def unicode_of(name: str) -> str:
    """`name` as UTF-8 can hold it: undecodable bytes of file names, lone surrogates in Python, come out escaped."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def in_package(package: str, place: str) -> Path | None:
    """The file at `place` of an installed package, which is not imported; None where one of them is missing."""
    spec = find_spec(package)
    folders = (spec and spec.submodule_search_locations) or ()
    return next((path for folder in folders if (path := Path(folder, place)).is_file()), None)
