"""The live view of a terminal: a panel of bars a face, the frame rate and the delay. Needs no display."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mien.annotate import colour_of_label
from mien.video.analyze import FrameResult
from mien.video.loop import Pace
from mien.video.track import TrackedFace

BAR_CELLS = 18
REDRAWS_HZ = 12  # of the terminal: more is not seen, and costs time
LINE_EVERY_S = 1.0  # where the output is no terminal
EIGHTHS = " ▏▎▍▌▋▊▉█"


class TerminalView:
    """Shows results as they come; off a terminal, one line a second."""

    def __init__(self, name: str, console: Console | None = None) -> None:
        """`name` is the camera's."""
        self._name = name
        self._console = console or Console()
        self._live: Live | None = None
        self._shown_s = -LINE_EVERY_S

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            waiting = Text(f"{self._name}: waiting for a picture; Ctrl-C ends it", style="dim")
            self._live = Live(waiting, console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def notify(self, sentence: str) -> None:
        """A sentence that stays, from any thread; off a terminal it goes to stderr."""
        console = self._console if self._console.is_terminal else Console(stderr=True, soft_wrap=True)
        console.print(sentence, style="bold", markup=False, highlight=False)

    def show(self, result: FrameResult, pace: Pace) -> bool:
        """The newest result; always True: only Ctrl-C ends this view."""
        now_s = time.monotonic()
        if self._live is not None:
            if now_s - self._shown_s >= 1 / REDRAWS_HZ:
                self._shown_s = now_s
                self._live.update(self.render(result, pace), refresh=True)
        elif now_s - self._shown_s >= LINE_EVERY_S:
            self._shown_s = now_s
            self._console.print(self.line(result, pace), markup=False, highlight=False, soft_wrap=True)
        return True

    def render(self, result: FrameResult, pace: Pace) -> RenderableType:
        """Header and panels."""
        head = Text(f"{self._name}  {_pace(pace)}", style="bold")
        if not result.faces:
            return Group(head, Text("no face in sight", style="dim"))
        return Group(head, Columns([_panel(face) for face in result.faces]))

    def line(self, result: FrameResult, pace: Pace) -> str:
        """All of it in one line."""
        faces = "; ".join(face.title for face in result.faces) or "no face in sight"
        return f"{result.time_s:8.1f} s  {_pace(pace)}  {faces}"


def _pace(pace: Pace) -> str:
    return f"{pace.rate_hz:.1f} frames/s, {pace.delay_ms:.0f} ms delay, {pace.dropped:,} dropped"


def _panel(face: TrackedFace) -> Panel:
    """A face's smoothed probabilities."""
    labels = face.face.labels
    table = Table.grid(padding=(0, 1))
    for label, probability in zip(labels, face.probabilities, strict=True):
        style = "bold" if label == face.emotion else "dim" if probability < 0.05 else ""
        bar = Text(_bar(float(probability)), style=_rgb(label, labels))
        table.add_row(Text(label, style=style), bar, Text(f"{100 * float(probability):3.0f}", style=style))
    return Panel(table, title=face.title, border_style=_rgb(face.emotion, labels), expand=False)


def _bar(share: float) -> str:
    """`share` in 0..1 as `BAR_CELLS` characters, fine to an eighth of one."""
    eighths = round(share * BAR_CELLS * 8)
    whole, rest = divmod(eighths, 8)
    return (EIGHTHS[8] * whole + (EIGHTHS[rest] if rest else "")).ljust(BAR_CELLS)


def _rgb(label: str, labels: Sequence[str]) -> str:
    red, green, blue = colour_of_label(label, labels)
    return f"rgb({red},{green},{blue})"
