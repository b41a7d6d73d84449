"""What `mien data` shows: progress on stderr, counts on stdout."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from mien.cli.messages import name_unreadable

if TYPE_CHECKING:
    from mien.datasets.prepare import PrepareReport

UPDATE_EVERY = 64  # images; the bar is redrawn ten times a second anyway


@contextmanager
def reading() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for `prepare`: stage, images done, images in all."""
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)  # a file or a pipe gets no bar, nor the empty line that Rich leaves there
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def show(stage: str, done: int, total: int) -> None:
            if done % UPDATE_EVERY == 0 or done == total:
                bar.update(task, description=stage, completed=done, total=total or None)

        yield show


@contextmanager
def fetching(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for a download: bytes done, bytes in all."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)  # a file or a pipe gets no bar, nor the empty line that Rich leaves there
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"fetching {name}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def counts_table(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """Images per class (rows) and split (columns), with sums."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for split in counts:
        table.add_column(split, justify="right")
    labels = next(iter(counts.values())).keys()
    for label in labels:
        table.add_row(label, *(f"{by_label[label]:,}" for by_label in counts.values()))
    table.add_section()
    table.add_row("all", *(f"{sum(by_label.values()):,}" for by_label in counts.values()), style="bold")
    return table


def print_report(report: "PrepareReport", out: Path) -> None:
    """The counts on stdout; what was skipped, unreadable or empty on stderr."""
    Console().print(counts_table(report.counts))
    for reason, number in report.skipped.items():
        typer.echo(f"skipped {number:,} x {reason}", err=True)
    name_unreadable(report.unreadable, listed_in=f"the provenance in {out}")
    for split, files in report.empty_splits().items():
        typer.echo(f"the {split} split is empty: it would need {files}", err=True)
    if (without := report.without_face()) is not None:
        about = report.provenance["aligned"]
        found = f"{sum(about['images'].values()):,}"
        if about.get("added"):
            typer.echo(f"added aligned crops of {found} training images; {without:,} show no face", err=True)
        else:
            typer.echo(f"aligned {found} images; {without:,} show no face and stay as they are", err=True)
    typer.echo(f"wrote {out}", err=True)
