"""The timeline as a picture: a row a track, with its face, by matplotlib without pyplot."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mien import fonts
from mien.annotate import colour_of_label
from mien.errors import VideoError, require
from mien.video.timeline import Timeline, TrackLine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 12
WIDTH_IN, ROW_IN, HEAD_IN, FOOT_IN = 11.0, 1.05, 0.75, 0.62
FACE_IN, MARGIN_IN = 0.8, 0.2
DPI = 150
TITLE_SIZE = 11  # points
INK, SOFT = "#1a1a1a", "#5b5e63"
STRIP = 0.13  # height of the strip that says which emotion was shown, of the probabilities' height
EMPTY = "#f4f3f0"
MOST_TICKS = 11
TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


def timeline_figure(timeline: Timeline, *, title: str) -> "Figure":
    """Stacked probabilities over time of the longest tracks; the strip above each is the emotion that was shown.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "video")
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    lines = timeline.lines(MOST_ROWS)
    height_in = HEAD_IN + ROW_IN * max(1, len(lines)) + FOOT_IN
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor="white")
    _head(figure, timeline, title, height_in)
    if not lines:
        figure.text(0.5, 0.5, "no face was seen", ha="center", va="center", color=SOFT, fontsize=11)
    for number, line in enumerate(lines):
        bottom_in = FOOT_IN + ROW_IN * (len(lines) - 1 - number)
        _face(figure, line, bottom_in, height_in)
        axes = _row(figure, bottom_in, height_in)
        _draw(axes, line, timeline)
        if number + 1 == len(lines):
            axes.set_xlabel("time in the film", color=SOFT, fontsize=8.5)
        else:
            axes.tick_params(labelbottom=False)
    note = "strip above: the emotion shown, pale where uncertain"
    figure.text(MARGIN_IN / WIDTH_IN, 0.12 / height_in, note, ha="left", color=SOFT, fontsize=8)
    if (missing := timeline.known - len(lines)) > 0:
        note = f"and {missing} shorter track{'s' * (missing != 1)}"
        figure.text(1 - MARGIN_IN / WIDTH_IN, 0.12 / height_in, note, ha="right", color=SOFT, fontsize=8)
    return figure


def write_picture(timeline: Timeline, path: Path, *, title: str) -> None:
    """Draw the timeline into `path` (.png, .svg or .pdf).

    Raises:
        VideoError: the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    figure = timeline_figure(timeline, title=title)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise VideoError(f"{path}: cannot write it ({error})") from error


def clock(seconds: float) -> str:
    """`1:05`, `1:02:03`; tenths under ten seconds."""
    seconds = round(seconds, 1)
    if seconds < 10 and seconds != int(seconds):
        return f"{int(seconds) // 60}:{seconds % 60:04.1f}"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def colour_hex(label: str, labels: tuple[str, ...]) -> str:
    """`#rrggbb` of a label."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of_label(label, labels))


def _head(figure: "Figure", timeline: Timeline, title: str, height_in: float) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415 - optional

    top = 1 - 0.24 / height_in
    shown, _ = fonts.lettering(title, TITLE_SIZE)  # as the font of the picture has it
    name = figure.text(
        MARGIN_IN / WIDTH_IN, top, shown, ha="left", va="center", color=INK, fontsize=TITLE_SIZE, weight="bold"
    )
    name.set_parse_math(False)  # a file may be called `$1$.mp4`
    patches = [Patch(facecolor=colour_hex(label, timeline.labels), label=label) for label in timeline.labels]
    corner = (1 - MARGIN_IN / WIDTH_IN, 1 - 0.5 / height_in)
    legend = figure.legend(
        handles=patches, loc="center right", bbox_to_anchor=corner, frameon=False,
        ncols=len(patches), fontsize=8.5, handlelength=1.1, handleheight=1.1, columnspacing=1.3, borderaxespad=0,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _face(figure: "Figure", line: TrackLine, bottom_in: float, height_in: float) -> None:
    place = (MARGIN_IN / WIDTH_IN, (bottom_in + 0.12) / height_in, FACE_IN / WIDTH_IN, FACE_IN / height_in)
    axes = figure.add_axes(place)
    axes.imshow(line.thumbnail, interpolation="lanczos", aspect="auto")
    axes.set_axis_off()
    badge = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.6}
    axes.text(0.06, 0.06, str(line.track), transform=axes.transAxes, fontsize=9, weight="bold", color=INK, bbox=badge)


def _row(figure: "Figure", bottom_in: float, height_in: float) -> "Axes":
    left_in = MARGIN_IN + FACE_IN + 0.25
    width_in = WIDTH_IN - left_in - MARGIN_IN
    place = (left_in / WIDTH_IN, (bottom_in + 0.1) / height_in, width_in / WIDTH_IN, (ROW_IN - 0.2) / height_in)
    return figure.add_axes(place)


def _draw(axes: "Axes", line: TrackLine, timeline: Timeline) -> None:
    """The stack, the strip above it, and the axis."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator  # noqa: PLC0415 - optional

    start_s = timeline.origin_s or 0.0
    colours = [colour_hex(label, timeline.labels) for label in timeline.labels]
    axes.set_facecolor(EMPTY)
    for run in line.runs():
        first, last = line.bins[run][0], line.bins[run][-1] + 1
        edges = start_s + np.arange(first, last + 1) * timeline.bin_s
        shares = np.vstack([line.probabilities[run], line.probabilities[run][-1:]]).T
        axes.stackplot(edges, shares, colors=colours, step="post", linewidth=0)
        for start, end, emotion, doubtful in _stretches(line, run):
            strip: dict[str, Any] = {"alpha": 0.4 if doubtful else 1.0, "linewidth": 0, "color": colours[emotion]}
            axes.broken_barh([(edges[start], edges[end] - edges[start])], (1.06, STRIP), **strip)
    axes.set_xlim(start_s, max(timeline.end_s, start_s) + timeline.bin_s)
    axes.set_ylim(0, 1.06 + STRIP)
    axes.set_yticks([0, 1], ["0", "1"])
    axes.xaxis.set_major_locator(MultipleLocator(_tick_s(timeline)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(value)))
    axes.tick_params(length=2.5, labelsize=8, colors=SOFT)
    axes.spines[:].set_visible(False)


def _tick_s(timeline: Timeline) -> float:
    """Distance of the time marks, such as people use."""
    span_s = timeline.end_s - (timeline.origin_s or 0.0)
    return next((tick_s for tick_s in TICKS_S if span_s / tick_s <= MOST_TICKS), span_s / MOST_TICKS)


def _stretches(line: TrackLine, run: slice) -> list[tuple[int, int, int, bool]]:
    """First bin and bin after the last, counted in the run, of each stretch of one emotion; and whether uncertain."""
    emotions, doubtful = line.emotions[run], line.uncertain[run] > 0.5
    cuts = np.flatnonzero((np.diff(emotions) != 0) | (np.diff(doubtful.astype(int)) != 0)) + 1
    ends = [0, *cuts.tolist(), len(emotions)]
    return [(a, b, int(emotions[a]), bool(doubtful[a])) for a, b in pairwise(ends)]
