"""What a verb says beside its result."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mien.datasets.packed import Dataset

NAMED_FAULTS = 20  # unreadable images named on the terminal


def complain(text: str) -> None:
    """One line on stderr, whatever characters a file name brings."""
    from mien.files import printable

    typer.echo(f"mien: {printable(text)}", err=True)


def name_unreadable(faults: Sequence[str], *, listed_in: object) -> None:
    """A line on stderr for each image that could not be read; of many the first, and where all of them are named."""
    from mien.files import printable

    for fault in faults[:NAMED_FAULTS]:
        typer.echo(f"unreadable: {printable(fault)}", err=True)
    if (more := len(faults) - NAMED_FAULTS) > 0:
        typer.echo(f"unreadable: {more:,} more, all named in {listed_in}", err=True)


class Unreadable:
    """Names what a folder lost while it was read; the verb goes on without, and ends with exit code 1."""

    def __init__(self, listed_in: object) -> None:
        """`listed_in` is the file where all of them are named."""
        self._listed_in = listed_in
        self._named: tuple[str, ...] = ()

    def __call__(self, dataset: "Dataset") -> None:
        """Name the images that were not named before: a folder may be read once for each size."""
        new = tuple(fault for fault in dataset.unreadable if fault not in self._named)
        name_unreadable(new, listed_in=self._listed_in)
        self._named += new

    def end(self) -> None:
        """Exit with 1 where something was named."""
        if self._named:
            raise typer.Exit(1)
