"""`mien evaluate --robustness`: models under corruptions, side by side on the same faces."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mien.cli.labelled import Counter, Labelled
from mien.cli.opened import Opened, open_model
from mien.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from mien.evaluation.corruptions import Landmarks
    from mien.evaluation.robustness import Robustness
    from mien.evaluation.tta import Tta

BASELINE = "baseline"  # the packaged name that stands beside every other model


def rivals(against: list[str] | None, model: str, labels: Sequence[str]) -> list[tuple[str, Opened]]:
    """The models of --against with their names; without any, the packaged baseline beside any other `model`.

    It is left out where it is not packaged, or tells other classes apart than `labels`.
    """
    from mien import hub

    if against:
        return [(name, open_model(name)) for name in against]
    if BASELINE in hub.packaged() and model != BASELINE:
        baseline = open_model(BASELINE)
        if set(baseline.spec.labels) == set(labels):
            return [(BASELINE, baseline)]
    typer.echo("mien: no mean corruption error: it needs a model to divide by; add --against MODEL", err=True)
    return []


def measure(
    models: Mapping[str, Opened], faces: Labelled, *, tta: "Tta", limit: int | None, batch_size: int, count: Counter
) -> "Robustness":
    """Every model, by the name to call it, on every corruption of the faces, or of `limit` of them."""
    from dataclasses import replace

    from mien import __version__
    from mien.evaluation import robustness
    from mien.evaluation.tta import with_tta

    split = faces.split if limit is None else robustness.subset(faces.split, limit)
    contenders = [
        robustness.Contender(name, one.spec.labels, with_tta(one.predict, tta), one.about)
        for name, one in models.items()
    ]
    with count("corrupting and evaluating", robustness.PASSES * len(split) * len(models)) as advance:
        found = robustness.measure(
            contenders,
            split,
            faces.labels,
            landmarks=next(iter(models.values())).spec.landmarks,
            batch_size=batch_size,
            progress=advance,
        )
    about = {**found.about, "tta": tta, "limit": limit, "data": faces.about, "version": __version__}
    return replace(found, about=about)


def write(found: "Robustness", folder: Path, faces: Labelled, *, landmarks: "Landmarks") -> None:
    """Tables, figures and data into `folder`; the corruptions are shown on the first of the faces."""
    import numpy as np

    from mien.evaluation import robustness_output as output

    try:
        output.write(found, folder)
        face = np.asarray(faces.split.images[0])
        output.write_pictures(found, folder, face, landmarks=landmarks)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}: name another --output") from error
    except MissingExtraError as error:
        typer.echo(f"mien: no pictures: {error}", err=True)
    typer.echo(f"wrote {folder / 'robustness.json'}", err=True)


def print_json(found: "Robustness") -> None:
    """The content of robustness.json."""
    typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, allow_nan=False, indent=1))


def print_table(found: "Robustness") -> None:
    """A row a corruption."""
    from rich.console import Console
    from rich.table import Table

    from mien.evaluation.robustness_output import rows, summary

    head, *body = rows(found)
    grid: Any = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(head):
        grid.add_column(name.replace(": ", "\n"), justify="right" if i else "left", vertical="bottom", no_wrap=not i)
    for row in body:
        grid.add_row(*row, style="bold" if row is body[-1] else "")
    console = Console(width=max(100, Console().width))
    console.print(grid)
    console.print(f"\nPer cent of {found.n:,} faces; accuracy and ECE are means of the five strengths.")
    for sentence in summary(found):
        console.print(sentence)
