"""`mien evaluate`: how good a model is on labelled faces."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mien.cli.opened import Opened, open_model
from mien.cli.progress import Bar
from mien.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from mien.datasets.packed import Split
    from mien.evaluation.evaluate import Evaluation
    from mien.evaluation.folder import Cut, FolderCrops
    from mien.results import Image
    from mien.runtime.predictor import Predictor


class SplitName(StrEnum):
    """Which images; the test split is opened when it is asked for by name, and by nothing else."""

    VALIDATION = "validation"
    TEST = "test"


class TtaName(StrEnum):
    """As `mien.evaluation.tta.VIEWS`, which a test compares."""

    NONE = "none"
    FLIP = "flip"
    FULL = "full"


class Format(StrEnum):
    """What goes to stdout."""

    TABLE = "table"
    JSON = "json"


class DetectorName(StrEnum):
    """As `mien.faces.detect.NAMES`."""

    CENTERFACE = "centerface"
    YUNET = "yunet"
    NONE = "none"


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name, .onnx, run or checkpoint.", show_default=False)],
    *,
    data: Annotated[
        Path,
        typer.Option(help="Prepared data set, or a folder with one sub-folder a class.", show_default=False),
    ],
    split: Annotated[SplitName, typer.Option(help="Which images.")] = SplitName.VALIDATION,
    tta: Annotated[
        TtaName, typer.Option(help="Average over 1, 2 (mirrored) or 10 (also shifted) views of each face.")
    ] = TtaName.NONE,
    detector: Annotated[
        DetectorName | None,
        typer.Option(help="The pictures of the folder are photos: find the largest face of each.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where metrics.json, predictions and pictures go."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Faces of one call.")] = 256,
    format_: Annotated[Format, typer.Option("--format", help="What to print on stdout.")] = Format.TABLE,
) -> None:
    """Measure a model on labelled faces: accuracy with its interval, calibration, and every class.

    Unreadable pictures are named, left out, and make the exit code 1.
    """
    from mien.cli.evaluate_output import print_json, print_table

    opened = open_model(model)
    if (data / "dataset.json").exists():
        if detector is not None:
            raise ConfigError(f"{data} is a prepared data set of face crops: leave out --detector")
        evaluation, unreadable = _packed(opened, data, split.value, tta, batch_size), 0
    else:
        name = (detector or DetectorName.NONE).value
        evaluation, unreadable = _folder(opened, data, split.value, tta, batch_size, detector=name)
    if output is not None:
        _write(evaluation, output)
    (print_json if format_ is Format.JSON else print_table)(evaluation)
    if unreadable:
        raise typer.Exit(1)


def _packed(opened: Opened, data: Path, split: str, tta: TtaName, batch_size: int) -> "Evaluation":
    """Evaluate on a prepared data set; of it, only `split` and the training images (for the twins) are opened."""
    from mien.datasets import packed
    from mien.evaluation import evaluate as ev

    dataset = packed.load(data, only=("train", split))
    images = ev.renumber(dataset.split(split), dataset.labels, opened.spec.labels)
    training = dataset.splits.get("train")
    about = {
        "source": data.resolve().name,
        "split": split,
        "digest": dataset.split(split).digest,
        "train_digest": None if training is None else training.digest,
        "protocol": dataset.provenance.get("protocol"),
    }
    evaluation = _evaluate(opened, images, tta, batch_size, about)
    twins = ev.find_twins(images.images, training.images) if training is not None and len(training) else None
    return replace(evaluation, twins=twins)


def _folder(
    opened: Opened, data: Path, split: str, tta: TtaName, batch_size: int, *, detector: str
) -> tuple["Evaluation", int]:
    """Evaluate on a folder of classes; also the number of pictures that could not be read."""
    from mien.evaluation.folder import list_folder, read_crops

    items, split = list_folder(data, opened.spec, split)
    with _bar("reading", len(items)) as advance:
        found = read_crops(data, items, _cut(opened, detector), progress=advance)
    _name_left_out(found)
    correct_among = len(found.split) + len(found.without_face)
    about = {
        "source": data.resolve().name,
        "split": split,
        "digest": found.split.digest,
        "detector": detector,
        "n_without_face": len(found.without_face),
        "n_unreadable": len(found.unreadable),
    }
    evaluation = _evaluate(opened, found.split, tta, batch_size, about)
    about["accuracy_if_missed_faces_are_errors"] = float(evaluation.correct.sum() / correct_among)
    return evaluation, len(found.unreadable)


def _evaluate(opened: Opened, images: "Split", tta: TtaName, batch_size: int, about: dict[str, object]) -> "Evaluation":
    from mien import __version__
    from mien.evaluation import evaluate as ev

    with _bar("evaluating", len(images)) as advance:
        evaluation = ev.evaluate(
            opened.predict, images, labels=opened.spec.labels, tta=tta.value, batch_size=batch_size, progress=advance
        )
    where = {"tta": tta.value, "model": opened.about, "data": about, "version": __version__}
    return replace(evaluation, threshold=opened.spec.threshold, about=where)


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


def _write(evaluation: "Evaluation", folder: Path) -> None:
    from mien.evaluation import evaluate as ev
    from mien.evaluation import plots

    try:
        ev.write(evaluation, folder)
        plots.write(evaluation, folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}: name another --output") from error
    except MissingExtraError as error:
        typer.echo(f"mien: no pictures: {error}", err=True)
    typer.echo(f"wrote {folder / 'metrics.json'}", err=True)


@contextmanager
def _bar(what: str, total: int) -> "Iterator[Callable[[int], None]]":
    """A bar on stderr that is told how many more are done."""
    done = 0
    with Bar(what, total) as bar:

        def advance(more: int) -> None:
            nonlocal done
            done += more
            bar.update(done, total)

        yield advance
