"""Learning curves of recorded runs, a small panel each on shared axes: what docs/results.md shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mien.errors import require
from mien.evaluation.plots import DPI, INK, STYLES, open_frame
from mien.evaluation.report.figures import Scale
from mien.evaluation.report.history import History, history_of
from mien.training.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
CELL_IN = (2.6, 2.1)  # width and height of a panel
FOOT_IN = 0.7  # for the legend


def curves_figure(records: Sequence[Record], what: Literal["accuracy", "loss"]) -> "Figure":
    """Training and validation accuracy (%) or loss (nats) of each record by epoch, its best epoch marked.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: no record has two epochs, so that there is no curve.
    """
    require("matplotlib", "train")
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    curved = [one for one in records if one.has_curve]
    found = [(one.name, history_of(one.history, keep=one.about["recipe"]["keep"])) for one in curved]
    shown = [(name, history) for name, history in found if history is not None]
    if not shown:
        raise ValueError("no record has two finished epochs")
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    size = (max(CELL_IN[0] * columns, 4.5), CELL_IN[1] * rows + FOOT_IN)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    cells = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    scale = Scale.of([history for _, history in shown])
    limits = tuple(100 * share for share in scale.accuracy) if what == "accuracy" else scale.loss
    for cell, (name, history) in zip(cells, shown, strict=False):
        _panel(cell, history, what)
        cell.set_title(name, fontsize=10)
    cells[0].set_ylim(*limits)
    for cell in cells[len(shown) :]:
        cell.set_visible(False)
    for first in cells[::columns]:
        first.set_ylabel("accuracy, %" if what == "accuracy" else "loss")
    for last in cells[max(0, len(shown) - columns) : len(shown)]:
        last.set_xlabel("epoch")
    handles, labels = cells[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=10, handlelength=3.2)
    return figure


def _panel(axes: "Axes", history: History, what: str) -> None:
    factor = 100 if what == "accuracy" else 1
    epochs = history.column("epoch")
    every = max(1, len(epochs) // 6)
    for kind, name, look in (("train", "training", STYLES[1]), ("validation", "validation", STYLES[0])):
        values = factor * history.column(f"{kind}_{what}")
        axes.plot(
            epochs,
            values,
            color=look.colour,
            linestyle=look.dash,
            marker=look.marker,
            markersize=4,
            markevery=every,
            label=name,
        )
    axes.axvline(history.best_epoch, color=INK, linestyle=":", linewidth=1.2, label="best epoch")
    axes.locator_params(axis="x", integer=True, nbins=5)
    open_frame(axes)
