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


def unicode_of(name: str) -> str:
    """`name` as UTF-8 can hold it: undecodable bytes of file names, lone surrogates in Python, come out escaped."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def in_package(package: str, place: str) -> Path | None:
    """The file at `place` of an installed package, which is not imported; None where one of them is missing."""
    spec = find_spec(package)
    folders = (spec and spec.submodule_search_locations) or ()
    return next((path for folder in folders if (path := Path(folder, place)).is_file()), None)
