"""`mien report`: one page about one or several models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.evaluate import counting
from mien.cli.labelled import Labelled, load_fair
from mien.cli.opened import Opened, names_of, open_model
from mien.cli.options import ExcludeOption, SplitName, SplitOption, TtaName, TtaOption
from mien.errors import ConfigError, require

if TYPE_CHECKING:
    from mien.evaluation.report import History, Subject
    from mien.evaluation.tta import Tta


def command(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Runs, checkpoints, .onnx files or names.", show_default=False),
    ],
    *,
    data: Annotated[
        Path, typer.Option(help="Prepared data set, or a folder with one sub-folder a class.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the page and its parts go.", show_default=False)
    ],
    split: SplitOption = SplitName.VALIDATION,
    tta: TtaOption = TtaName.NONE,
    exclude: ExcludeOption = None,
    faces: Annotated[
        bool,
        typer.Option("--faces/--no-faces", help="Show faces of the data set; without them a page can be published."),
    ] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Faces of one call.")] = 256,
) -> None:
    """Write a page about models: curves, confusions, classes, calibration, ranking, and the faces they get wrong.

    Several models stand side by side, with tests and intervals of their differences; the first one is what the others
    are compared with. Prints the page's path.
    """
    require("matplotlib", "train")
    from mien.cli.progress import Bar
    from mien.evaluation.evaluate import require_same_classes
    from mien.evaluation.report import write_report

    models = [open_model(run) for run in runs]
    require_same_classes([one.spec.labels for one in models], cure="report them apart")
    called = dict(zip(names_of(runs, models), models, strict=True))
    labelled = load_fair(called, data, split.value, detector=None, count=counting, exclude=exclude)
    named = zip(runs, called, models, strict=True)
    subjects = [_subject(*one, labelled, tta.value, batch_size) for one in named]
    try:
        with Bar("drawing") as bar:
            page = write_report(
                subjects,
                labelled.split.images,
                output,
                about={**labelled.about, "tta": tta.value},
                show_faces=faces,
                progress=bar.update,
            )
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror or error}: name another --output") from error
    typer.echo(page)
    if labelled.unreadable:
        raise typer.Exit(1)


def _subject(run: str, name: str, opened: Opened, faces: Labelled, tta: "Tta", batch_size: int) -> "Subject":
    """The model's answers about the faces, and how it was trained where that is known."""
    from dataclasses import replace

    from mien import __version__, hub
    from mien.evaluation import evaluate as ev
    from mien.evaluation.report import Subject

    spec = opened.spec
    images = ev.renumber(faces.split, faces.labels, spec.labels)
    with counting(f"evaluating {name}", len(images)) as advance:
        found = ev.evaluate(
            opened.predict, images, labels=spec.labels, tta=tta, batch_size=batch_size, progress=advance
        )
    about = {"tta": tta, "model": opened.about, "data": faces.about, "version": __version__}
    twins = None if faces.training is None else ev.find_twins(images.images, faces.training.images)
    evaluation = replace(found, threshold=spec.threshold, twins=twins, about=about)
    history, why = _history(hub.resolve(run))
    return Subject(name, evaluation, temperature=spec.temperature, history=history, no_history=why)


def _history(path: Path) -> "tuple[History | None, str]":
    """The epochs of a run or checkpoint, or why there are none."""
    from mien import hub
    from mien.evaluation.report.history import history_of, read_history

    if path.is_dir():
        return read_history(path), "the run has finished no epoch"
    if hub.is_trained(path) and path.suffix != ".safetensors":
        from mien.training import checkpoint

        state = checkpoint.load(path)
        return history_of(state.history, keep="last"), "the checkpoint was written before an epoch had finished"
    return None, "an .onnx file carries weights and no training history; name the run to see it"
