"""Sources to splits: read, check, join the FER+ votes, write packed arrays or a tree of folders."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien import __version__
from mien.datasets import packed
from mien.datasets.ferplus import FerPlus, read_ferplus
from mien.datasets.layout import PROTOCOLS, Item, Listing
from mien.datasets.sources import Loaded, Source, open_source
from mien.datasets.writers import TREE_MARKER, Align, PackedWriter, Planned, TreeWriter, Writer
from mien.errors import ConfigError, DataError
from mien.labels import FER7

LAYOUTS = ("packed", "folders")
NAMED_FOLDERS = 8  # unknown folders named in an error

Progress = Callable[[str, int, int], None]
"""Called with what is going on, and how many images of how many are done (0 of 0: not known yet)."""

_USAGE_FILES = {
    "Training": "the Training_*.jpg files of Kaggle's train folder",
    "PublicTest": "the PublicTest_*.jpg files of Kaggle's test folder",
    "PrivateTest": "the PrivateTest_*.jpg files of Kaggle's test folder",
}


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How sources become splits."""

    protocol: str = "icml"  # or "case-study", which swaps validation and test
    ferplus: Path | None = None  # fer2013new.csv; without it the splits have no votes
    size_hw: tuple[int, int] = (48, 48)  # of the packed images; others are resized to it
    allow_missing: bool = False  # let a split lack a class
    align: Align | None = None  # crops the packed images once more, upright; None: they stay as they are
    add_aligned: bool = False  # the crops of the training images are added to them; all images stay as they are

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"protocol {self.protocol!r} is unknown: use {' or '.join(PROTOCOLS)}")
        if self.add_aligned and self.align is None:
            raise ConfigError("add_aligned needs `align`: there is nothing to add")
        if min(self.size_hw) < 8:
            raise ConfigError(f"size_hw {self.size_hw} is too small to show a face: use 8 or more")


@dataclass(frozen=True, kw_only=True)
class PrepareReport:
    """What was written, and what was not."""

    counts: Mapping[str, Mapping[str, int]]  # split -> label -> images
    skipped: Mapping[str, int]  # reason -> files that are no images of the data set
    unreadable: tuple[str, ...]  # "source: path: fault" of each image that could not be read
    provenance: Mapping[str, Any]

    def without_face(self) -> int | None:
        """Images that were to be aligned and show no face, so none was cropped; None: nothing was to be aligned."""
        aligned = self.provenance.get("aligned")
        return None if aligned is None else sum(aligned["images_without_a_face"].values())

    def empty_splits(self) -> Mapping[str, str]:
        """Splits without images, and the files that would fill them."""
        return {name: self.provenance["fills"][name] for name in packed.SPLITS if not sum(self.counts[name].values())}


def prepare(
    sources: Sequence[Path],
    out: Path,
    *,
    layout: str = "packed",
    options: PrepareOptions | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Write the images of `sources` to the folder `out`: packed arrays, or a tree of image files.

    Inside a split, images are in the order of class, source and file name, added crops behind them. Unreadable
    images are left out and named in the report. `out` appears when it is complete; a killed run leaves what was there
    before.

    Raises:
        DataError: a source cannot be read, has an unknown class, or a split lacks a class; or `out` is in the way.
        ConfigError: an option is unknown, or votes are asked for in a layout that cannot hold them.
    """
    options = options or PrepareOptions()
    tell = progress or _quiet
    _check_layout(layout, out, options)
    ferplus = read_ferplus(options.ferplus) if options.ferplus else None
    found = _Found.scan(sources, options, tell, ferplus=ferplus)
    writer: Writer
    if layout == "folders":
        writer = TreeWriter(out, found.names)
    else:
        sizes = found.sizes()
        writer = PackedWriter(
            sizes, found.names, options.size_hw, ferplus=ferplus, align=options.align, add_aligned=options.add_aligned
        )
    with _discarding(writer, out):
        counts = found.read_into(writer, tell)
        if not options.allow_missing:
            _check_classes(counts)
        provenance = {**found.provenance(options, counts), **writer.describe()}
        tell("writing", 0, 0)
        writer.finish(out, provenance)
    skipped: Counter[str] = sum((Counter(listing.skipped) for listing in found.listings), Counter())
    return PrepareReport(
        counts=counts, skipped=dict(skipped), unreadable=tuple(found.unreadable), provenance=provenance
    )


def fills(protocol: str) -> dict[str, str]:
    """The files that each split is made of, in words."""
    return {
        split: f"{_USAGE_FILES[usage]} (or the rows of fer2013.csv with Usage {usage})"
        for usage, split in PROTOCOLS[protocol].items()
    }


class _Found:
    """The sources of one run, what is in them, and what of it could be read."""

    def __init__(self, sources: list[Source], listings: list[Listing], protocol: str) -> None:
        self.sources, self.listings = sources, listings
        self.names = _unique_names([source.path for source in sources])
        self.plan = _plan(listings, protocol)
        self.unreadable: list[str] = []
        self._read: Counter[int] = Counter()  # images by source

    @classmethod
    def scan(
        cls, paths: Sequence[Path], options: PrepareOptions, tell: Progress, *, ferplus: FerPlus | None = None
    ) -> "_Found":
        """Open and list every source; rows that `ferplus` may be joined to are kept.

        Raises:
            DataError: there is none, or one is missing, damaged, or holds no image of a known class.
        """
        if not paths:
            raise DataError("no source: name a FER-2013 folder, its archive or fer2013.csv")
        sources, listings = [], []
        for path in paths:
            tell(f"listing {path.name}", 0, 0)
            with _reading(path):
                source = open_source(path)
                listing = source.scan()
            if not listing.items:
                raise DataError(_no_class(path, listing))
            sources.append(source)
            listings.append(listing if ferplus is None else ferplus.joinable(listing))
        return cls(sources, listings, options.protocol)

    def sizes(self) -> dict[str, int]:
        """Images planned for each split."""
        return Counter(planned.split for source in self.plan for planned in source)

    def read_into(self, writer: Writer, tell: Progress) -> dict[str, dict[str, int]]:
        """Read every image into `writer`; returns the counts, split -> label -> images."""
        counts = {split: dict.fromkeys(FER7, 0) for split in packed.SPLITS}
        total, done = sum(map(len, self.plan)), 0
        for index, (source, plan) in enumerate(zip(self.sources, self.plan, strict=True)):
            places = {planned.item.path: planned for planned in plan}
            for loaded in _read(source, [planned.item for planned in plan]):
                planned = places[loaded.item.path]
                if loaded.pixels is None:
                    self.unreadable.append(f"{self.names[index]}: {loaded.item.path}: {loaded.fault}")
                else:
                    writer.add(planned, loaded)
                    counts[planned.split][FER7[planned.item.label]] += 1
                    self._read[index] += 1
                done += 1
                tell(f"reading {source.path.name}", done, total)
        return counts

    def provenance(self, options: PrepareOptions, counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        """Where the data came from and how it was split."""
        described = [
            {
                "name": name,
                "kind": source.kind,
                "sha256": _sha256(source),
                "images": self._read[index],
                "skipped": dict(listing.skipped),
                "unreadable": len(listing.items) - self._read[index],
            }
            for index, (name, source, listing) in enumerate(zip(self.names, self.sources, self.listings, strict=True))
        ]
        return {
            "mien": __version__,
            "protocol": options.protocol,
            "sources": described,
            "counts": counts,
            "unreadable": self.unreadable,
            "fills": fills(options.protocol),
        }


def _quiet(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def _no_class(path: Path, listing: Listing) -> str:
    """Why a source has nothing to prepare."""
    if not listing.unknown:
        return f"{path} holds no images in class folders: expected <split>/<class>/<image> or <class>/<image>"
    named = ", ".join(sorted(listing.unknown)[:NAMED_FOLDERS])
    more = ", ..." if len(listing.unknown) > NAMED_FOLDERS else ""
    fault = f"{path}: none of its folders ({named}{more}) is one of FER-2013's classes, {', '.join(FER7)}: rename them"
    if not path.is_dir():
        return fault
    train = shlex.join(["mien", "train", "--from", "default", "--data", str(path), "--output", "run"])
    return f"{fault}, or train on classes of your own as they are: `{train}`"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the source where it cannot be read: it is not the target that is at fault."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _read(source: Source, items: Sequence[Item]) -> Iterator[Loaded]:
    with _reading(source.path):
        yield from source.read(items)


def _sha256(source: Source) -> str:
    with _reading(source.path):
        return source.sha256()


@contextmanager
def _discarding(writer: Writer, out: Path) -> Iterator[None]:
    """Leave nothing behind when a run fails, and say so where the disk is the reason."""
    try:
        yield
    except OSError as error:
        writer.discard()
        raise DataError(f"{out} cannot be written: {error.strerror or error}") from error
    except BaseException:
        writer.discard()
        raise


def _check_layout(layout: str, out: Path, options: PrepareOptions) -> None:
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r} is unknown: use {' or '.join(LAYOUTS)}")
    if layout == "folders" and options.ferplus:
        raise ConfigError("a tree of folders has no place for the FER+ votes: use --layout packed with --ferplus")
    if layout == "folders" and options.align:
        raise ConfigError(
            "a tree of folders keeps the files as they are: use --layout packed with --align or --add-aligned"
        )
    packed.check_target(out, TREE_MARKER if layout == "folders" else "dataset.json")


def _check_classes(counts: Mapping[str, Mapping[str, int]]) -> None:
    for split, by_label in counts.items():
        missing = [label for label, n in by_label.items() if not n]
        if missing and len(missing) < len(by_label):
            raise DataError(
                f"the {split} split has no images of {', '.join(missing)}: add them (several sources can be merged), "
                "or allow it with --allow-missing"
            )
    if not any(sum(by_label.values()) for by_label in counts.values()):
        raise DataError("no image could be read: fetch the data again")


def _plan(listings: Sequence[Listing], protocol: str) -> list[list[Planned]]:
    """A place for every image, source by source: splits are in the order of class, source, file name, path."""
    splits: dict[str, list[tuple[int, int, str, str]]] = {split: [] for split in packed.SPLITS}
    for index, listing in enumerate(listings):
        for item in listing.items:
            splits[item.split(protocol)].append((item.label, index, item.name, item.path))
    rows = {(index, path): row for keys in splits.values() for row, (_, index, _, path) in enumerate(sorted(keys))}
    return [
        [Planned(item, index, item.split(protocol), rows[index, item.path]) for item in listing.items]
        for index, listing in enumerate(listings)
    ]


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Each source's bare name, numbered where two are called the same: no path of this machine is kept."""
    names: list[str] = []
    for path in paths:
        base = path.resolve().name or "root"
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names
