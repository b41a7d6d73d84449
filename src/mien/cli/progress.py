"""A progress bar on stderr for what takes longer than a second."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress

PATIENCE_S = 1.0  # no bar before


class Bar:
    """Counts towards `total`; draws itself once a second has gone and only on a terminal."""

    def __init__(self, what: str, total: int = 0, *, of_bytes: bool = False) -> None:
        """`what` names the work; `total` counts items, or bytes, and may be told later, by `update`."""
        self._what, self._total, self._done, self._of_bytes = what, total, 0, of_bytes
        self._start_s = time.monotonic()
        self._shown: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown is not None:
            self._shown.stop()

    def advance(self) -> None:
        """One more is done."""
        self.update(self._done + 1, self._total)

    def update(self, done: int, total: int) -> None:
        """So many of so many are done; of 0, nobody knows of how many."""
        self._done, self._total = done, total
        if self._shown is None:
            patient = time.monotonic() - self._start_s < PATIENCE_S
            if patient or (total and done >= total) or not sys.stderr.isatty():
                return
            self._show()
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, completed=done, total=total or None)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar away while lines are written to the terminal."""
        if self._shown is None:
            yield
            return
        self._shown.stop()
        try:
            yield
        finally:
            self._shown.start()

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        count = DownloadColumn() if self._of_bytes else MofNCompleteColumn()
        columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
        self._shown = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        self._task = self._shown.add_task(self._what, total=self._total or None)
        self._shown.start()
