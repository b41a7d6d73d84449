"""What users name on the command line, as a list of picture files: files, folders, globs."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from itertools import takewhile
from pathlib import Path, PurePath


@dataclass(frozen=True, slots=True)
class Found:
    """One file to read, and where it lies below the source that brought it."""

    path: str
    relative: PurePath  # for a file named directly: its name


@dataclass(slots=True)
class Expansion:
    """The files behind the sources, and what was left out."""

    files: list[Found] = field(default_factory=list)
    skipped: int = 0  # files in folders that are no pictures by their name
    problems: list[str] = field(default_factory=list)  # sources that bring nothing, a sentence each
    output: Path | None = None  # where marked copies go: not searched
    met_output: bool = False  # whether a search came upon it


def expand(sources: Sequence[str], *, output: Path | None = None) -> Expansion:
    """Folders are searched with their sub-folders for picture names, in order; a glob is resolved where no file is
    called so. Files that are named directly are taken whatever they are called. A search leaves `output` out, or a
    second run would take the marked copies of the first for pictures.
    """
    expansion = Expansion(output=output)
    for source in sources:
        if os.path.isdir(source):  # noqa: PTH112 - Path("") is ".", and "a/" is as good as "a"
            _search(source, expansion)
        elif any(sign in source for sign in "*?[") and not os.path.lexists(source):
            _match(source, expansion)
        else:
            expansion.files.append(Found(source, PurePath(PurePath(source).name)))
    return expansion


def _match(pattern: str, expansion: Expansion) -> None:
    from mien.images import is_picture

    matches = sorted(glob(pattern, recursive=True))  # noqa: PTH207 - keeps absolute and relative patterns as typed
    if not matches:
        expansion.problems.append(f"{pattern}: no file matches: check the pattern and the folder")
    copies = _key(expansion.output) + os.sep if expansion.output and _lies_below(expansion.output, pattern) else None
    for match in matches:
        if copies and (_key(Path(match)) + os.sep).startswith(copies):
            expansion.met_output = True
        elif os.path.isdir(match):  # noqa: PTH112
            _search(match, expansion)
        elif is_picture(match):
            expansion.files.append(Found(match, PurePath(PurePath(match).name)))
        else:
            expansion.skipped += 1


def _lies_below(folder: Path, pattern: str) -> bool:
    """Whether a folder is below the part of a glob that is no pattern."""
    parts = PurePath(pattern).parts[:-1]
    root = Path(*takewhile(lambda part: not any(sign in part for sign in "*?["), parts))
    return _key(folder) != _key(root) and _key(folder).startswith(os.path.join(_key(root), ""))  # noqa: PTH118 - slash


def _search(folder: str, expansion: Expansion) -> None:
    from mien.images import is_picture

    if _is_output(folder, expansion):
        return
    before, skipped = len(expansion.files), expansion.skipped
    for path in _walk(folder, expansion):
        if is_picture(path):
            expansion.files.append(Found(path, PurePath(os.path.relpath(path, folder))))
        else:
            expansion.skipped += 1
    if len(expansion.files) == before:
        others = expansion.skipped - skipped
        holds = f"only {others} other file{'s' * (others != 1)}" if others else "it is empty"
        expansion.problems.append(f"{folder}: no pictures there, {holds}: name a folder with JPEG or PNG files")


def _walk(folder: str, expansion: Expansion) -> Iterator[str]:
    def report(error: OSError) -> None:
        expansion.problems.append(f"{error.filename}: may not be searched ({error.strerror}): check its permissions")

    for parent, folders, names in os.walk(folder, onerror=report):
        for path in (os.path.join(parent, name) for name in sorted(folders) if not name.startswith(".")):  # noqa: PTH118
            if os.path.islink(path):  # noqa: PTH114
                expansion.problems.append(f"{path}: a link to a folder, not followed: name it as a source of its own")
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not _is_output(os.path.join(parent, name), expansion)  # noqa: PTH118
        )
        yield from (os.path.join(parent, name) for name in sorted(names))  # noqa: PTH118 - keeps the source as typed


def _is_output(folder: str, expansion: Expansion) -> bool:
    """Whether a folder is where the marked copies go, which is noted."""
    if expansion.output is None or _key(Path(folder)) != _key(expansion.output):
        return False
    expansion.met_output = True
    return True


def output_paths(files: Sequence[Found], folder: Path) -> list[Path]:
    """A file in `folder` for each picture's marked copy: its place below the source is kept, no two are the same,
    and none is one of the pictures themselves.
    """
    reserved = {_key(Path(found.path)) for found in files}
    targets = []
    for found in files:
        name = found.relative.name
        if found.relative.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
            name += ".png"
        first = target = folder / found.relative.with_name(name)
        number = 2
        while _key(target) in reserved:
            target = first.with_name(f"{first.stem}-{number}{first.suffix}")
            number += 1
        reserved.add(_key(target))
        targets.append(target)
    return targets


def _key(path: Path) -> str:
    """Equal for paths that are one file, also where the file system does not tell cases apart."""
    return os.path.realpath(path).casefold()
