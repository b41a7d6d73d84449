"""Lists of images to leave out (`--exclude FILE`): what `mien data audit` writes, training and evaluation read.

One image a line: `<split><tab><name>`, the name as in `names.json` of a prepared data set, or a path inside the folder
of classes. A name alone means every split that has it; `#` starts a comment.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mien.datasets.packed import SPLITS, Dataset
from mien.errors import DataError

DRAWN = ("train", "validation")  # of a folder without validation images: a part of those to train on is drawn


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What a list says: names of images in any split, and in one split."""

    everywhere: frozenset[str]
    of_split: frozenset[tuple[str, str]]  # (split, name)

    def of(self, split: str) -> frozenset[str]:
        """Names that are to be left out of `split`."""
        return self.everywhere | {name for which, name in self.of_split if which == split}

    def drawn(self) -> "Exclusions":
        """The same where validation images were drawn from those to train on: a list cannot know which were."""
        either = {(split, name) for which, name in self.of_split if which in DRAWN for split in DRAWN}
        return replace(self, of_split=self.of_split | either)


def read(path: Path) -> Exclusions:
    """The list in `path`.

    Raises:
        DataError: the file cannot be read, or names a split that does not exist.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read it as a list of names: {error}") from error
    everywhere, of_split = set[str](), set[tuple[str, str]]()
    for line in (line.strip() for line in lines):
        split, tab, name = line.partition("\t")
        if not line or line.startswith("#"):
            continue
        if not tab:
            everywhere.add(line)
        elif split in SPLITS:
            of_split.add((split, name.strip()))
        else:
            raise DataError(f"{path}: {split!r} in front of {name} is no split: use one of {', '.join(SPLITS)}")
    return Exclusions(frozenset(everywhere), frozenset(of_split))


def without(dataset: Dataset, path: Path, *, root: Path | None = None) -> Dataset:
    """`dataset` without the images that the list in `path` names; its provenance counts them.

    `root` is the prepared data set that `dataset` is some splits of: names of its other splits are no error then.

    Raises:
        DataError: the list cannot be read, or names images that are not there.
    """
    listed = read(path)
    known = {**_names_in(root), **{name: frozenset(split.names) for name, split in dataset.splits.items()}}
    if "validation_ratio" in dataset.provenance:
        listed = listed.drawn()
        both = frozenset[str]().union(*(known.get(split, ()) for split in DRAWN))
        known |= dict.fromkeys(DRAWN, both)
    strange = listed.everywhere - frozenset[str]().union(*known.values())
    refuse(strange | {name for split, name in listed.of_split if split in known and name not in known[split]}, path)
    splits = {name: split.drop(listed.of(name)) for name, split in dataset.splits.items()}
    left_out = sum(len(split) - len(splits[name]) for name, split in dataset.splits.items())
    return replace(dataset, splits=splits, provenance={**dataset.provenance, "excluded": left_out})


def refuse(strange: Collection[str], path: Path) -> None:
    """See that the list in `path` has no `strange` names, those that the data do not have.

    Raises:
        DataError: it has; a list for other data would leave out nothing, unnoticed.
    """
    if strange:
        raise DataError(
            f"{path} names {len(strange)} images that the data set does not have, such as {min(strange)}: "
            "it was written for other data"
        )


def lines(entries: Iterable[tuple[str, str]]) -> list[str]:
    """(split, name) as lines of a list: the name alone only where the data have no splits.

    Splits that were not opened may have other images of the same name.
    """
    return [f"{split}\t{name}" if split in SPLITS else name for split, name in entries]


def _names_in(root: Path | None) -> dict[str, frozenset[str]]:
    """Split -> names of a prepared data set; its images are not opened."""
    if root is None or not (root / "dataset.json").exists():
        return {}
    files = {split: root / split / "names.json" for split in SPLITS}
    return {
        split: frozenset(json.loads(file.read_text(encoding="utf-8"))) for split, file in files.items() if file.exists()
    }
