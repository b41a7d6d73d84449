"""`mien sweep`: a recipe with each combination of settings, several seeds each."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.messages import Unreadable
from mien.cli.options import ExcludeOption, Format, FormatOption

if TYPE_CHECKING:
    from mien.training.reporters import Terminal
    from mien.training.sweep import Sweep


def command(  # noqa: PLR0913 - one parameter an option
    recipe: Annotated[str, typer.Argument(metavar="MODEL_OR_RECIPE", help="Recipe, network, or .toml file.")],
    *,
    data: Annotated[Path, typer.Option(help="Prepared data set, or a folder of class sub-folders.")],
    output: Annotated[Path, typer.Option(help="Folder of the sweep: a run a trial, sweep.json, sweep.csv.")],
    grid: Annotated[
        list[str],
        typer.Option("--grid", metavar="KEY=A,B,C", help="Values of a setting; repeat for more settings."),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each combination.")] = 3,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting in all of them.")
    ] = None,
    exclude: ExcludeOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    format_: FormatOption = Format.TABLE,
) -> None:
    """Train each combination with each seed and compare them on the validation faces.

    Run it again to go on with a sweep that was killed: finished trials are kept.
    """
    from mien.errors import require

    require("torch", "train")
    from mien.training import start, sweep
    from mien.training.recipe import parse_settings

    order = start.Order(
        recipe=recipe, settings=parse_settings(settings or ()), data=data, output=output, exclude=exclude, device=device
    )
    unreadable = Unreadable("recipe.json of each trial")
    done = sweep.sweep(order, sweep.parse_grid(grid), seeds=seeds, watch=_watch, loaded=unreadable)
    if format_ is Format.JSON:
        typer.echo(json.dumps(done.to_dict(), indent=1))
    else:
        _print_table(done)
    typer.echo(f"wrote {output / 'sweep.json'}", err=True)
    unreadable.end()


def _watch(title: str, epochs: int) -> "Terminal":
    from mien.training.reporters import Terminal

    typer.echo(title, err=True)
    return Terminal(epochs)


def _print_table(done: "Sweep") -> None:
    """Combinations, the best mean validation accuracy first: mean and standard deviation over the seeds."""
    from rich.console import Console
    from rich.table import Table

    from mien.training.sweep import FIGURES

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for key in done.rows[0].settings:
        grid.add_column(key)
    for head in ("seeds", "accuracy", "macro-F1", "log-loss"):
        grid.add_column(head, justify="right")
    for number, row in enumerate(done.rows):
        figures = []
        for figure in FIGURES:
            deviation = row.deviation(figure)
            figures.append(f"{row.mean(figure):.4f}" + ("" if deviation is None else f" ± {deviation:.4f}"))
        style = "" if number else "bold"
        grid.add_row(*map(str, row.settings.values()), str(len(row.trials)), *figures, style=style)
    Console(width=max(100, Console().width)).print(grid)
