"""What --data means on the command line: a prepared data set, or a folder of classes, as crops with their labels."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from mien.cli.messages import complain
from mien.cli.opened import Opened
from mien.errors import ConfigError

if TYPE_CHECKING:
    from mien.datasets.layout import Item
    from mien.datasets.packed import Split
    from mien.evaluation.folder import Cut, FolderCrops
    from mien.results import Image
    from mien.runtime.predictor import Predictor

Counter = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""What and how many is counted, to something that is told how many more are done."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Crops to measure models on."""

    split: "Split"  # labels numbered as `labels`
    labels: tuple[str, ...]
    about: dict[str, Any]  # source, split, digests: goes into what is written
    training: "Split | None" = None  # to know the twins of training images
    unreadable: int = 0  # pictures that could not be read
    without_face: int = 0  # pictures on which the detector found none


def load_labelled(
    opened: Opened, data: Path, split: str, *, detector: str | None, count: Counter, exclude: Path | None = None
) -> Labelled:
    """The images in `data`, numbered as the labels of `opened`, in whose geometry faces are cut out of photos.

    Unreadable pictures, and those without a face, are named on stderr. `exclude` lists images to leave out.

    Raises:
        DataError: there are no such images, or they belong to a class that the model does not know.
        ConfigError: a detector is asked for on a data set of crops.
    """
    if not (data / "dataset.json").exists():
        return _folder(opened, data, split, detector or "none", count, exclude)
    if detector is not None:
        raise ConfigError(f"{data} is a prepared data set of face crops: leave out --detector")
    return _packed(opened, data, split, exclude)


def load_fair(
    models: Mapping[str, Opened],
    data: Path,
    split: str,
    *,
    detector: str | None,
    count: Counter,
    exclude: Path | None = None,
) -> Labelled:
    """The images in `data` that none of the models, by the names to call them, was trained on, for all of them.

    Raises:
        DataError: there is none, or as `load_labelled`.
        ConfigError: as `load_labelled`.
    """
    from mien.evaluation.folder import narrowed, together

    first, spec = next(iter(models.values())), together({name: one.spec for name, one in models.items()})
    faces = load_labelled(replace(first, spec=spec), data, split, detector=detector, count=count, exclude=exclude)
    if names := narrowed(data, spec):
        complain(f"{names} split {data} differently: measured on {len(faces.split)} images that none trained on")
    return faces


def _packed(opened: Opened, data: Path, split: str, exclude: Path | None) -> Labelled:
    """Of a prepared data set, only `split` and the training images (for the twins) are opened."""
    from mien.datasets import exclusions, packed
    from mien.evaluation import evaluate as ev

    dataset = packed.load(data, only=("train", split))
    among = len(dataset.split(split))
    if exclude is not None:
        kept_only = exclusions.without(dataset, exclude, root=data).splits[split]
        dataset = replace(dataset, splits={**dataset.splits, split: kept_only})
    images = ev.judged(dataset.split(split), dataset.labels, opened.spec.labels)
    training = dataset.splits.get("train")
    about = {
        "source": data.resolve().name,
        "split": split,
        "n_excluded": among - len(dataset.split(split)),
        "digest": dataset.split(split).digest,
        "train_digest": None if training is None else training.digest,
        "protocol": dataset.provenance.get("protocol"),
    }
    if dropped := len(dataset.split(split)) - len(images):
        about |= {"labels": "majority of the FER+ votes", "n_without_majority": dropped}
        complain(f"{dropped} faces without a majority of the FER+ votes are left out, as in training")
    kept = training if training is not None and len(training) else None
    return Labelled(images, opened.spec.labels, about, training=kept)


def _folder(opened: Opened, data: Path, split: str, detector: str, count: Counter, exclude: Path | None) -> Labelled:
    from mien.evaluation.folder import list_folder, read_crops

    listed, split = list_folder(data, opened.spec, split)
    items = listed if exclude is None else _without(data, listed, split, exclude)
    with count("reading", len(items)) as advance:
        found = read_crops(data, items, _cut(opened, detector), progress=advance)
    _name_left_out(found)
    about = {
        "source": data.resolve().name,
        "split": split,
        "digest": found.split.digest,
        "n_excluded": len(listed) - len(items),
        "detector": detector,
        "n_without_face": len(found.without_face),
        "n_unreadable": len(found.unreadable),
    }
    unreadable, without_face = len(found.unreadable), len(found.without_face)
    return Labelled(found.split, opened.spec.labels, about, unreadable=unreadable, without_face=without_face)


def _without(data: Path, items: "list[Item]", split: str, exclude: Path) -> "list[Item]":
    """Those of `items`, the images of `split`, that the list does not name.

    Raises:
        DataError: the list cannot be read, or names images that are not there.
    """
    from mien.datasets import exclusions

    listed = exclusions.read(exclude)
    parted = any(item.usage or item.folder_split for item in items)
    # where a folder has splits, the audit names images inside the folder of their split
    called = [{item.path, item.path.partition("/")[2]} if parted else {item.path} for item in items]
    unwanted = listed.of(split) if parted else listed.drawn().of("train")
    missing = unwanted.difference(*called)
    of_any_split = listed.everywhere if parted else unwanted  # these may be of images that are not measured on
    folders = (data, *(path for path in data.glob("*") if path.is_dir()))
    elsewhere = {name for name in missing & of_any_split if any((path / name).is_file() for path in folders)}
    exclusions.refuse(missing - elsewhere, exclude)
    return [item for item, names in zip(items, called, strict=True) if not names & unwanted]


def _cut(opened: Opened, detector: str) -> "Cut":
    """The largest face of a picture, in the geometry that the model was trained on."""
    from mien.faces import detect
    from mien.pipeline import Analyzer

    analyzer = Analyzer(cast("Predictor", opened), detect.create(detector))  # it asks the model for its spec only

    def cut(picture: "Image") -> "Image | None":
        found = analyzer.detector.detect([picture])[0]
        if not len(found):
            return None
        sides = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
        crops = analyzer.crops(picture, found)
        largest: Image = crops[sides.prod(axis=1).argmax()]
        return largest

    return cut


def _name_left_out(found: "FolderCrops") -> None:
    for fault in found.unreadable:
        typer.echo(f"mien: {fault}", err=True)
    for path in found.without_face:
        typer.echo(f"mien: {path}: no face found, left out", err=True)
