"""Who is told how a run goes: the terminal, TensorBoard."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mien.errors import require
from mien.training import pictures
from mien.training.engine import Engine, Reporter

ROWS = 12  # of the history that stay on the screen
BLOCKS = " ▁▂▃▄▅▆▇█"


class Terminal:
    """Live progress on stderr: epoch, images/s, loss, validation accuracy, time left; the curves with `watch`.

    Where stderr is no terminal, one line an epoch.
    """

    def __init__(self, epochs: int, *, watch: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.epochs, self.watch = epochs, watch
        self.rows: list[Mapping[str, float]] = []
        self.rate, self.seen_at = 0.0, time.perf_counter()
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]:.0f} images/s  left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
        )
        self.task = self.progress.add_task("train", total=None, epoch=0, loss=float("nan"), rate=0.0)
        self.live = Live(console=self.console, get_renderable=self.render, refresh_per_second=4)

    def __enter__(self) -> Self:
        self.seen_at = time.perf_counter()
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.live.stop()

    def step(self, epoch: int, step: int, steps: int, *, loss: float, images: int) -> None:
        """Advance the bar over all epochs, from which the time left follows."""
        now = time.perf_counter()
        rate = images / max(now - self.seen_at, 1e-9)
        self.rate, self.seen_at = (0.9 * self.rate + 0.1 * rate if self.rate else rate), now
        self.progress.update(
            self.task,
            total=self.epochs * steps,
            completed=epoch * steps + step,
            epoch=f"{epoch + 1}/{self.epochs}",
            loss=loss,
            rate=self.rate,
        )

    def epoch(self, row: Mapping[str, float]) -> None:
        """Keep the row; print it where no live view is."""
        self.rows.append(row)
        self.seen_at = time.perf_counter()
        if not self.console.is_terminal:
            self.console.print(
                f"epoch {row['epoch']:.0f}/{self.epochs}  train {row['train_loss']:.4f} {row['train_accuracy']:.4f}  "
                f"validation {row['validation_loss']:.4f} {row['validation_accuracy']:.4f}  "
                f"{row['images_per_s']:.0f} images/s  {row['seconds']:.0f} s",
                highlight=False,
                soft_wrap=True,
            )

    def render(self) -> RenderableType:
        """The last epochs, the curves, the bar."""
        parts: list[RenderableType] = [history_table(self.rows[-ROWS:])] if self.rows else []
        if self.watch and self.rows:
            for key in ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy"):
                parts.append(sparkline(key, [row[key] for row in self.rows]))
        return Group(*parts, self.progress)


class TensorBoard:
    """Scalars of each epoch as TensorBoard event files; of an `engine`, pictures too when its last epoch is done."""

    def __init__(self, folder: Path, engine: Engine | None = None) -> None:
        self.writer = require("torch.utils.tensorboard", "train").SummaryWriter(str(folder))
        self.engine = engine

    def step(self, epoch: int, step: int, steps: int, *, loss: float, images: int) -> None:
        """Nothing: an epoch is fine enough."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """Write the row's figures."""
        number = int(row["epoch"])
        for key, value in row.items():
            if key != "epoch":
                self.writer.add_scalar(key.replace("_", "/", 1), value, number)
        if self.engine is not None and number == self.engine.recipe.epochs:
            for tag, picture in pictures.of_a_run(self.engine).items():
                self.writer.add_image(tag, picture, number, dataformats="HWC")
        self.writer.flush()


class Several:
    """Tells every one of several reporters."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self.reporters = reporters

    def step(self, epoch: int, step: int, steps: int, *, loss: float, images: int) -> None:
        """Pass it on."""
        for reporter in self.reporters:
            reporter.step(epoch, step, steps, loss=loss, images=images)

    def epoch(self, row: Mapping[str, float]) -> None:
        """Pass it on."""
        for reporter in self.reporters:
            reporter.epoch(row)


def history_table(rows: Sequence[Mapping[str, float]]) -> Table:
    """Epochs as a table; the best validation accuracy of those shown stands out."""
    table = Table("epoch", "loss", "accuracy", "val. loss", "val. accuracy", "images/s", "s", box=None)
    best = max(row["validation_accuracy"] for row in rows)
    for row in rows:
        table.add_row(
            f"{row['epoch']:.0f}",
            f"{row['train_loss']:.4f}",
            f"{row['train_accuracy']:.4f}",
            f"{row['validation_loss']:.4f}",
            Text(f"{row['validation_accuracy']:.4f}", style="bold" if row["validation_accuracy"] == best else ""),
            f"{row['images_per_s']:.0f}",
            f"{row['seconds']:.0f}",
        )
    return table


def sparkline(name: str, values: Sequence[float], *, width: int = 60) -> Text:
    """One curve in one line of text: its lowest value is the lowest block, its highest the highest."""
    picked = [values[i * len(values) // min(width, len(values))] for i in range(min(width, len(values)))]
    low, high = min(values), max(values)
    span = high - low or 1.0
    line = "".join(BLOCKS[1 + round((value - low) / span * (len(BLOCKS) - 2))] for value in picked)
    return Text(f"{name:>20} {low:.3f} {line} {high:.3f}")
