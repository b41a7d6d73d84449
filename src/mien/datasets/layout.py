"""What the paths of a data set mean: which files are images, of which class, for which split.

    train/<class>/Training_*.jpg, test/<class>/PublicTest_*.jpg and PrivateTest_*.jpg   Kaggle's FER-2013
    train/<class>/*, validation/<class>/*, test/<class>/*                               the case study, and many others
    <class>/*                                                                           anyone's own faces

Each may stand some folders down. Pure functions over path names: the same rules serve folders and archives.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mien.errors import DataError
from mien.images import SUFFIXES
from mien.labels import FER7, canonical

USAGES = ("Training", "PublicTest", "PrivateTest")
"""Parts of the ICML 2013 challenge, as file names and the CSV's `Usage` column spell them."""

PROTOCOLS: Mapping[str, Mapping[str, str]] = {
    "icml": {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"},
    "case-study": {"Training": "train", "PublicTest": "test", "PrivateTest": "validation"},
}
"""Which split each part fills; the case study of this project swapped the challenge's two test sets."""

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "publictest": "validation",
    "privatetest": "test",
}
"""Folder names, in lower case, and the split that they mean where the file name does not say one.

Folders named for the challenge's test parts are here as the challenge has them; `Item.usage` names the part itself,
and any protocol follows that.
"""

_USAGE_FOLDERS = {usage.lower(): usage for usage in ("PublicTest", "PrivateTest")}

SYSTEM_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"})
"""What Windows, macOS and network disks leave behind, in lower case; dotfiles beside."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source, before it is read."""

    path: str  # inside the source, with forward slashes
    label: int  # index into the labels
    usage: str | None  # one of USAGES, where the name, a folder or the CSV says it
    folder_split: str | None  # the split that the folder names
    row: int | None = None  # of the original fer2013.csv, counted from 0

    @property
    def name(self) -> str:
        """The bare file name."""
        return self.path.rpartition("/")[2]

    def split(self, protocol: str) -> str:
        """The split it goes to: by file name, else by folder, else train."""
        if self.usage is not None:
            return PROTOCOLS[protocol][self.usage]
        return self.folder_split or "train"


@dataclass(frozen=True, slots=True)
class Listing:
    """The images of a source, and how many files were left out for which reason."""

    items: tuple[Item, ...]
    skipped: Mapping[str, int]  # "system file", "not an image", "outside the class folders"
    unknown: tuple[str, ...] = ()  # folders of images that are neither classes nor splits


def skip_reason(path: str) -> str | None:
    """Why a file is no image of the data set; None where it may be one."""
    parts = path.split("/")
    if any(part.startswith(".") or part.lower() in SYSTEM_NAMES for part in parts):
        return "system file"
    if PurePosixPath(path).suffix.lower() not in SUFFIXES:
        return "not an image"
    return None


def usage_of(name: str) -> str | None:
    """The challenge's part in a file name: "PublicTest_88305.jpg" is of PublicTest."""
    prefix, underscore, _ = name.partition("_")
    return prefix if underscore and prefix in USAGES else None


def usage_of_folders(path: str) -> str | None:
    """The challenge's test part that a folder of a path is named for: "PublicTest/happy" is of PublicTest."""
    parts = (_USAGE_FOLDERS.get(part.lower()) for part in reversed(path.split("/")))
    return next((usage for usage in parts if usage), None)


def list_items(paths: Iterable[str], source: str, *, labels: Sequence[str] = FER7, root_name: str = "") -> Listing:
    """The images among `paths`; folders end in "/". `root_name` is the root's own name, which may mean a split too.

    Raises:
        DataError: a folder beside class folders, or in a split folder, is no known class; or some folders say which
            split they are and another, beside them, does not.
    """
    skipped: Counter[str] = Counter()
    files: list[str] = []
    folders: set[str] = set()
    for path in paths:
        reason = skip_reason(path.rstrip("/"))
        if path.endswith("/"):
            if reason != "system file":
                folders.add(path.rstrip("/"))
        elif reason:
            skipped[reason] += 1
        else:
            files.append(path)
            folders.add(path.rpartition("/")[0])
    classes = _ClassFolders(folders, source, labels)
    classes.walk("", split_of_folder(root_name))
    items = []
    unknown: dict[str, None] = {}
    for path in dict.fromkeys(files):
        if (class_folder := classes.above(path)) is None:
            skipped["outside the class folders"] += 1
            folder = path.rpartition("/")[0]
            if folder and split_of_folder(_last(folder)) is None:
                unknown[folder] = None
            continue
        label, split = classes.found[class_folder]
        folder, _, name = path.rpartition("/")
        inner = (split_of_folder(part) for part in reversed(folder[len(class_folder) :].split("/")))
        split = next((one for one in inner if one), split)
        items.append(Item(path, label, usage_of(name) or usage_of_folders(f"{root_name}/{folder}"), split))
    classes.check_splits(items)
    return Listing(tuple(items), dict(skipped), tuple(unknown))


def split_of_folder(name: str) -> str | None:
    """The split that a folder's bare name means, if any."""
    return SPLIT_FOLDERS.get(name.lower())


class _ClassFolders:
    """Finds the class folders in a tree: from the root down, the first level that has them."""

    def __init__(self, folders: Iterable[str], source: str, labels: Sequence[str]) -> None:
        self.children: dict[str, set[str]] = {}
        for folder in folders:
            while folder:
                parent = folder.rpartition("/")[0]
                self.children.setdefault(parent, set()).add(folder)
                folder = parent  # noqa: PLW2901 - up to the root
        self.source, self.labels = source, labels
        self.found: dict[str, tuple[int, str | None]] = {}

    def walk(self, folder: str, split: str | None) -> None:
        """Note the class folders in and below `folder`, which stands under a folder named for `split`."""
        children = sorted(self.children.get(folder, ()))
        labels = {child: self._label(child) for child in children}
        splits = {child: split_of_folder(_last(child)) for child in children}
        is_class_level = any(label is not None for label in labels.values())
        if not is_class_level and split is not None and not any(map(self._has_classes, children)):
            is_class_level = True  # a split with folders that are all unknown
        for child in children:
            label = labels[child]
            if label is not None:
                self.found[child] = (label, split)
            elif not is_class_level or splits[child]:
                self.walk(child, splits[child] or split)
            else:
                raise DataError(
                    f"{self.source}: the folder {child} is no known class: "
                    f"rename it to one of {', '.join(self.labels)}, or take it out"
                )

    def above(self, path: str) -> str | None:
        """The nearest class folder above a file."""
        folder = path.rpartition("/")[0]
        while folder and folder not in self.found:
            folder = folder.rpartition("/")[0]
        return folder or None

    def check_splits(self, items: Iterable[Item]) -> None:
        """See that no folder of classes goes to train only because its name is unknown, beside folders of splits.

        Raises:
            DataError: there is one.
        """
        if all(split is None for _, split in self.found.values()):
            return
        for item in items:
            if item.usage is None and item.folder_split is None and (folder := self.above(item.path)):
                parent = folder.rpartition("/")[0]
                if not any(split_of_folder(_last(child)) for child in self.children.get(parent, ())):
                    raise DataError(
                        f"{self.source}: other folders say which split they are, {parent} does not: rename it to "
                        "train, validation or test, or take it out"
                    )

    def _label(self, folder: str) -> int | None:
        try:
            return self.labels.index(canonical(_last(folder), self.labels))
        except DataError:
            return None

    def _has_classes(self, folder: str) -> bool:
        return any(
            self._label(child) is not None or self._has_classes(child) for child in self.children.get(folder, ())
        )


def _last(folder: str) -> str:
    return folder.rpartition("/")[2]
