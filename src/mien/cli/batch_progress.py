"""How far a batch job is: a line that redraws itself on a terminal, a line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import rich.status

    from mien.batch.plan import Plan
    from mien.batch.work import Done

TERMINAL_S = 0.25  # between two drawings
LOG_S = 30.0  # between two lines


class Progress:
    """Pictures done, their rate, and the time left by what was done since the start."""

    def __init__(self, *, terminal: bool | None = None) -> None:
        """`terminal` is whether stderr is one."""
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._status: rich.status.Status | None = None
        self._begun_s = self._shown_s = time.monotonic()
        self._plan: Plan | None = None
        self._before = self._shards = self._images = self._errors = 0

    def __enter__(self) -> "Progress":
        if self._terminal:
            from rich.console import Console

            self._status = Console(stderr=True).status("loading", spinner="line")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def listed(self, units: int) -> None:
        """So many files and row groups are found so far."""
        self._show(f"{units:,} files listed")

    def begun(self, work: "Plan", finished: int) -> None:
        """Scoring begins; so many shards have landed before."""
        self._plan, self._before = work, finished
        self._begun_s = time.monotonic()

    def done(self, news: "Done") -> None:
        """Pictures are done."""
        self._images += news.counts.images
        self._errors += news.counts.errors
        self._shards += news.landed
        self._show(self.text(time.monotonic() - self._begun_s))

    def assembling(self) -> None:
        """All shards have landed."""
        self._show("writing the table")

    def text(self, seconds: float) -> str:
        """`12,000 images, 230/s, shard 12 of 100, 6 min left`, `seconds` after scoring began."""
        assert self._plan is not None, "begun() comes first"
        rate = self._images / seconds if seconds > 0 else 0.0
        shard = min(self._before + self._shards + 1, self._plan.shards)
        parts = [f"{self._images:,} images", f"{rate:,.1f}/s", f"shard {shard:,} of {self._plan.shards:,}"]
        left_s = self._left_s(seconds)
        parts += [] if left_s is None else [f"{_duration(left_s)} left"]
        parts += [f"{self._errors:,} errors"] if self._errors else []
        return ", ".join(parts)

    def _left_s(self, seconds: float) -> float | None:
        """By pictures where their number is known and no shard was there before, else by shards."""
        assert self._plan is not None
        if self._plan.images is not None and not self._before:
            done, total = self._images, self._plan.images
        else:
            done, total = self._shards, self._plan.shards - self._before
        return None if not done else seconds * (total - done) / done

    def _show(self, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._shown_s < (TERMINAL_S if self._status is not None else LOG_S):
            return
        self._shown_s = now_s
        if self._status is not None:
            self._status.update(text)
        else:
            typer.echo(f"mien: {text}", err=True)


def _duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
