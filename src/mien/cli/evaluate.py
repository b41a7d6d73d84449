"""`mien evaluate`: how good a model is on labelled faces."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.labelled import Labelled, load_fair
from mien.cli.opened import Opened, names_of, open_model
from mien.cli.options import (
    DetectorName,
    ExcludeOption,
    Format,
    FormatOption,
    SplitName,
    SplitOption,
    TtaName,
    TtaOption,
)
from mien.cli.progress import Bar
from mien.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from mien.evaluation.evaluate import Evaluation


def command(  # noqa: PLR0913 - one parameter an option
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name, .onnx, run or checkpoint.", show_default=False)],
    *,
    data: Annotated[
        Path,
        typer.Option(help="Prepared data set, or a folder with one sub-folder a class.", show_default=False),
    ],
    split: SplitOption = SplitName.VALIDATION,
    tta: TtaOption = TtaName.NONE,
    detector: Annotated[
        DetectorName | None,
        typer.Option(help="The pictures of the folder are photos: find the largest face of each.", show_default=False),
    ] = None,
    exclude: ExcludeOption = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Instead, accuracy and ECE under ten corruptions at five strengths.")
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="With --robustness: a model beside it, repeatable; the first is what errors are divided by. "
            "(default: the packaged baseline)",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="With --robustness: so many faces, drawn at random. (default: all)"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where metrics.json, predictions and pictures go."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Faces of one call.")] = 256,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Measure a model on labelled faces: accuracy with its interval, calibration, and every class.

    Unreadable pictures are named, left out, and make the exit code 1.
    """
    if not robustness and (against or limit):
        raise ConfigError("--against and --limit belong to --robustness: add it, or compare models with `mien report`")
    opened = open_model(model)
    finder = None if detector is None else detector.value
    named = [(model, opened)]
    if robustness:
        from mien.cli import evaluate_robustness as robust

        named += robust.rivals(against, model, opened.spec.labels)
    names, models = zip(*named, strict=True)
    called = dict(zip(names_of(names, models), models, strict=True))
    faces = load_fair(called, data, split.value, detector=finder, count=counting, exclude=exclude)
    if robustness:
        found = robust.measure(called, faces, tta=tta.value, limit=limit, batch_size=batch_size, count=counting)
        if output is not None:
            robust.write(found, output, faces, landmarks=opened.spec.landmarks)
        (robust.print_json if format_ is Format.JSON else robust.print_table)(found)
    else:
        from mien.cli.evaluate_output import print_json, print_table

        evaluation = _evaluate(opened, faces, tta, batch_size)
        if output is not None:
            _write(evaluation, output)
        (print_json if format_ is Format.JSON else print_table)(evaluation)
    if faces.unreadable:
        raise typer.Exit(1)


def _evaluate(opened: Opened, faces: Labelled, tta: TtaName, batch_size: int) -> "Evaluation":
    from mien import __version__
    from mien.evaluation import evaluate as ev

    with counting("evaluating", len(faces.split)) as advance:
        evaluation = ev.evaluate(
            opened.predict,
            faces.split,
            labels=opened.spec.labels,
            tta=tta.value,
            batch_size=batch_size,
            progress=advance,
        )
    about = dict(faces.about)
    if "n_without_face" in about:
        among = len(faces.split) + faces.without_face
        about["accuracy_if_missed_faces_are_errors"] = float(evaluation.correct.sum() / among)
    where = {"tta": tta.value, "model": opened.about, "data": about, "version": __version__}
    twins = None if faces.training is None else ev.find_twins(faces.split.images, faces.training.images)
    return replace(evaluation, threshold=opened.spec.threshold, twins=twins, about=where)


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
def counting(what: str, total: int) -> "Iterator[Callable[[int], None]]":
    """A bar on stderr that is told how many more are done."""
    done = 0
    with Bar(what, total) as bar:

        def advance(more: int) -> None:
            nonlocal done
            done += more
            bar.update(done, total)

        yield advance
