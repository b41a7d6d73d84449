"""Pictures of an evaluation: confusion matrices, reliability diagram, coverage-accuracy curve.

Sequential colours of rising darkness and black text or lines: readable in black and white and by colour-blind
readers. Figures are drawn without pyplot, so nothing global is touched.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien.errors import require
from mien.evaluation.evaluate import Evaluation
from mien.evaluation.metrics import CoverageCurve, Ints, Reliability, if_calibrated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT, SOFT = "#1a1a1a", "#1f5a94", "#a9c6e0"  # contrast of the first two with white: 17:1 and 7:1
DPI = 150
FEW = 10  # images: a bin of fewer says little, and is drawn as an outline


class Style(NamedTuple):
    """How one model's line looks: three marks, each of which tells it apart without the others."""

    colour: str
    dash: str | tuple[int, tuple[float, ...]]
    marker: str


STYLES = (
    Style("#0072b2", "-", "o"),
    Style("#d55e00", (0, (5, 2)), "s"),
    Style("#1a1a1a", (0, (1.2, 1.6)), "^"),
    Style("#009e73", (0, (6, 2, 1.2, 2)), "D"),
    Style("#cc79a7", (0, (3, 1.2)), "v"),
    Style("#e69f00", (0, (8, 1.5, 1.2, 1.5, 1.2, 1.5)), "P"),
)
"""Of the first model, the second, ...; colours of Okabe & Ito 2008, "Color universal design"."""


def style(number: int) -> Style:
    """The style of model `number`, from 0; they begin again after the last."""
    return STYLES[number % len(STYLES)]


def confusion_figure(confusion: Ints, labels: Sequence[str], *, show: Literal["counts", "shares"]) -> "Figure":
    """A `(K, K)` confusion matrix (row the truth) as counts, or as shares of each row.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, axes = _figure(1.2 + 0.72 * len(labels), 1.1 + 0.62 * len(labels))
    of_row = shares(confusion)
    axes.imshow(of_row, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(of_row):
        text = f"{confusion[row, column]:,}" if show == "counts" else f"{100 * share:.0f}"
        weight = "bold" if row == column else "normal"
        axes.text(column, row, text, ha="center", va="center", color=_on(share), weight=weight)
    places = np.arange(len(labels))
    axes.set_xticks(places, labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, labels)
    axes.set_xticks(places[1:] - 0.5, minor=True)
    axes.set_yticks(places[1:] - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("Images" if show == "counts" else "Per cent of the true class")
    return figure


def reliability_figure(bins: Reliability, *, title: str = "Reliability") -> "Figure":
    """Accuracy of each confidence bin against the diagonal, with the share of images in each bin below.

    Grey bars: where 19 of 20 dots of a calibrated model would lie (consistency bars, `metrics.if_calibrated`).

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "train")
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    figure = Figure(figsize=(4.8, 5.8), dpi=DPI, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    left, width = bins.edges[:-1], np.diff(bins.edges)
    filled, few = bins.counts > 0, bins.counts < FEW
    look = {"align": "edge", "edgecolor": ACCENT, "linewidth": 0.8}
    top.bar(left[~few], bins.accuracy[~few], width[~few], color=SOFT, label="accuracy", **look)
    if (bare := filled & few).any():
        name = f"of fewer than {FEW} images"
        top.bar(left[bare], bins.accuracy[bare], width[bare], color="none", linestyle=":", label=name, **look)
    top.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, label="perfect calibration")
    expected = if_calibrated(bins)
    bars = (bins.confidence[~few], expected.low[~few], expected.high[~few])
    top.vlines(*bars, color=INK, linewidth=4, alpha=0.25, label="perfect, 95 %")
    means = (bins.confidence[filled], bins.accuracy[filled])
    top.plot(*means, "o", color=INK, markersize=3.5, clip_on=False, label="mean confidence")
    top.set_ylabel("accuracy")
    top.set_ylim(0, 1)
    top.set_title(f"{title}, ECE {100 * bins.ece:.1f} % (perfect: {100 * expected.ece:.1f} %)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    bottom.bar(left, 100 * bins.counts / bins.counts.sum(), width, align="edge", color=SOFT, edgecolor=ACCENT)
    bottom.set_xlabel("confidence (probability of the predicted class)")
    bottom.set_ylabel("% of images")
    bottom.set_xlim(0, 1)
    for axes in (top, bottom):
        open_frame(axes)
    return figure


def coverage_figure(curve: CoverageCurve, *, threshold: float = 0.0) -> "Figure":
    """Accuracy of the most confident images against their share, with the model's threshold marked.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, axes = _figure(4.8, 3.8)
    steady = curve.coverage >= min(0.05, 50 / len(curve.coverage))  # the first few images are noise
    axes.plot(100 * curve.coverage[steady], 100 * curve.accuracy[steady], color=ACCENT, linewidth=1.8)
    coverage, accuracy = curve.at_threshold(threshold)
    if threshold > 0 and accuracy is not None:
        axes.plot([100 * coverage], [100 * accuracy], "o", color=INK)
        axes.annotate(
            f"threshold {threshold:.2f}:\n{100 * coverage:.0f} % kept, {100 * accuracy:.1f} % right",
            (100 * coverage, 100 * accuracy),
            xytext=(-10, -8),
            textcoords="offset points",
            ha="right",
            va="top",
        )
    axes.set_xlim(0, 100)
    axes.set_xlabel("coverage: % of images kept, the most confident first")
    axes.set_ylabel("accuracy of those, %")
    axes.set_title("Accuracy against coverage")
    open_frame(axes)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Write `figure` as PNG and as SVG; the suffix of `path` is replaced. Equal figures give equal files."""
    from matplotlib import rc_context  # noqa: PLC0415 - optional

    figure.savefig(path.with_suffix(".png"), metadata={"Software": None})
    figure.set_layout_engine("none")  # laid out already: twice would take twice as long
    with rc_context({"svg.hashsalt": "mien"}):  # the names inside would be random
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})


def to_image(figure: "Figure") -> NDArray[np.uint8]:
    """`figure` as pixels `(H, W, 3)` RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional

    canvas: Any = FigureCanvasAgg(figure)  # its methods are untyped
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba(), np.uint8)[:, :, :3])


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write the four pictures of an evaluation into `folder`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figures = {
        "confusion-counts": confusion_figure(evaluation.confusion, evaluation.labels, show="counts"),
        "confusion-shares": confusion_figure(evaluation.confusion, evaluation.labels, show="shares"),
        "reliability": reliability_figure(evaluation.reliability),
        "coverage": coverage_figure(evaluation.coverage, threshold=evaluation.threshold),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        save(figure, folder / name)


def shares(confusion: Ints) -> NDArray[np.float64]:
    """Rows of a `(K, K)` confusion matrix as shares in 0..1; zeros where a class has no images."""
    rows = confusion.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(confusion, rows, out=np.zeros(confusion.shape), where=rows > 0), np.float64)


def _figure(width_in: float, height_in: float) -> tuple["Figure", "Axes"]:
    require("matplotlib", "train")
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def _on(share: float) -> str:
    """Colour of a number on the cell of a share: the one of higher contrast."""
    return "white" if share > 0.62 else INK


def open_frame(axes: "Axes") -> None:
    """Two sides of a frame, and faint lines to read heights by."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
