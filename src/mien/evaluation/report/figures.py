"""Pictures of a report that are not those of a single evaluation: training curves, ranking, models side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mien.errors import require
from mien.evaluation.compare import ConfusedPair
from mien.evaluation.plots import DPI, INK, STYLES, open_frame, style
from mien.evaluation.report.history import History
from mien.evaluation.report.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = 24  # characters of a model's name in legends
PAIRS = 12  # of confused classes in the picture


@dataclass(frozen=True, slots=True)
class Scale:
    """Axes that the curves of several runs share, so that they compare side by side."""

    epochs: int
    accuracy: tuple[float, float]  # 0..1
    loss: tuple[float, float]  # nats

    @classmethod
    def of(cls, histories: Sequence[History]) -> "Scale":
        """From the lowest to the highest of all, with a little air."""

        def span(*keys: str) -> tuple[float, float]:
            values = np.concatenate([history.column(key) for history in histories for key in keys])
            values = values[np.isfinite(values)]
            low, high = float(values.min()), float(values.max())
            air = max(0.05 * (high - low), 1e-3)
            return low - air, high + air

        return cls(
            epochs=max(len(history.rows) for history in histories),
            accuracy=span("train_accuracy", "validation_accuracy"),
            loss=span("train_loss", "validation_loss"),
        )


def history_figure(history: History, scale: Scale, *, title: str) -> "Figure":
    """Accuracy over loss, of training and validation, by epoch; the best epoch and the gap of overfitting are marked.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = _figure(4.9, 5.8)
    top, bottom = figure.subplots(2, 1, sharex=True)
    epochs, best = history.column("epoch"), history.best_epoch
    every = max(1, len(epochs) // 12)
    for axes, what, factor in ((top, "accuracy", 100), (bottom, "loss", 1)):
        for kind, name, look in (("train", "training", STYLES[1]), ("validation", "validation", STYLES[0])):
            values = factor * history.column(f"{kind}_{what}")
            axes.plot(
                epochs, values, color=look.colour, linestyle=look.dash, marker=look.marker, markersize=4,
                markevery=every, label=name,
            )  # fmt: skip
        axes.axvline(best, color=INK, linestyle=":", linewidth=1.2, label=f"best epoch: {best}")
        open_frame(axes)
    train, validation = (100 * history.column(f"{kind}_accuracy") for kind in ("train", "validation"))
    gap = f"gap at the end: {100 * history.gap[-1]:.1f} points".replace("-", "−")
    top.fill_between(
        epochs, validation, train, where=(train > validation).tolist(), interpolate=True, facecolor="none",
        edgecolor="#9a9a9a", hatch="////", linewidth=0, label=gap,
    )  # fmt: skip
    top.set_ylim(100 * scale.accuracy[0], 100 * scale.accuracy[1])
    bottom.set_ylim(*scale.loss)
    bottom.set_xlim(min(1, scale.epochs - 1), scale.epochs + 0.3)
    top.set_title(_short(title))
    top.set_ylabel("accuracy, %")
    bottom.set_ylabel("loss")
    bottom.set_xlabel("epoch")
    _legend(figure, top, columns=2)
    return figure


def coverage_figure(subjects: Sequence[Subject]) -> "Figure":
    """Accuracy of the most confident faces against their share, one line a model, with its threshold marked.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = _figure(5.4, 4.2 + 0.22 * len(subjects))
    axes = figure.subplots()
    for number, subject in enumerate(subjects):
        colour, dash, marker = style(number)
        curve = subject.evaluation.coverage
        steady = curve.coverage >= min(0.05, 50 / len(curve.coverage))  # the first few faces are noise
        axes.plot(100 * curve.coverage[steady], 100 * curve.accuracy[steady], color=colour, linestyle=dash, zorder=2)
        coverage, accuracy = curve.at_threshold(subject.threshold)
        kept = "none kept"
        if accuracy is not None:
            axes.plot([100 * coverage], [100 * accuracy], marker, color=colour, markersize=8, zorder=3)
            kept = f"{100 * coverage:.0f} % kept, {100 * accuracy:.1f} % right"
        label = f"{_short(subject.name)}, from {subject.threshold:.2f}: {kept}"
        axes.plot([], [], color=colour, linestyle=dash, marker=marker, markersize=7, label=label)
    axes.set_xlim(0, 101)
    axes.set_xlabel("coverage: % of the faces, the most confident first")
    axes.set_ylabel("accuracy of those, %")
    axes.set_title("Accuracy against coverage; the marks are the thresholds")
    open_frame(axes)
    _legend(figure, axes, columns=1)
    return figure


def ranking_figure(label: str, subjects: Sequence[Subject]) -> "Figure":
    """ROC and precision-recall curve of one class, one line a model; dotted: guessing.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: no model has curves of this class.
    """
    ranked = [(n, one.name, one.rankings[label]) for n, one in enumerate(subjects)]
    drawn = [(n, name, found) for n, name, found in ranked if found is not None]
    if not drawn:
        raise ValueError(f"the images tell nothing of {label}: there is none of it, or nothing else")
    figure = _figure(6.2, 3.4 + 0.2 * len(subjects))
    left, right = figure.subplots(1, 2)
    for number, name, found in drawn:
        colour, dash, marker = style(number)
        few = found.thinned()
        areas = f"{_short(name)}: ROC area {found.roc_auc:.3f}, average precision {found.average_precision:.3f}"
        look = {"color": colour, "linestyle": dash, "marker": marker, "markersize": 4}
        left.plot([0, *few.false_positive_rate], [0, *few.recall], markevery=25, label=areas, **look)
        right.plot(few.recall, few.precision, drawstyle="steps-pre", markevery=(12, 25), **look)
    left.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1)
    right.axhline(drawn[0][2].prevalence, color=INK, linestyle=":", linewidth=1)
    for axes in (left, right):
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(0, 1.02)
        open_frame(axes)
    left.set_xlabel("false positive rate")
    left.set_ylabel("recall")
    right.set_xlabel("recall")
    right.set_ylabel("precision")
    left.set_title(f"{label}: ROC")
    right.set_title("precision-recall")
    _legend(figure, left, columns=1)
    return figure


def confused_figure(pairs: Sequence[ConfusedPair], names: Sequence[str]) -> "Figure":
    """Faces confused between two classes, a line a pair and a mark a model; the case study's pairs stand first.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("no classes were confused")
    shown = sorted(pairs, key=lambda pair: not pair.named)[:PAIRS]
    figure = _figure(5.4, 1.5 + 0.34 * len(shown) + 0.2 * len(names))
    axes = figure.subplots()
    places = np.arange(len(shown))[::-1]
    for place, pair in zip(places, shown, strict=True):
        axes.plot([min(pair.totals), max(pair.totals)], [place, place], color="#bbbbbb", linewidth=2.5, zorder=1)
    for number, name in enumerate(names):
        colour, _, marker = style(number)
        totals = [pair.totals[number] for pair in shown]
        # not clipped: a mark at 0 stands on the edge
        axes.plot(
            totals, places, marker, color=colour, markersize=7, label=_short(name), zorder=2 + number, clip_on=False
        )
    axes.set_yticks(places, [" – ".join(pair.labels) for pair in shown])
    for tick, pair in zip(axes.get_yticklabels(), shown, strict=True):
        tick.set_fontweight("bold" if pair.named else "normal")
    axes.set_xlim(left=0)
    axes.set_xlabel("faces of one called the other")
    axes.set_title("Confused classes")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=8)  # beside a mark at 0
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    _legend(figure, axes, columns=2)
    return figure


def _figure(width_in: float, height_in: float) -> "Figure":
    require("matplotlib", "train")
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    return Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")


def _legend(figure: "Figure", axes: "Axes", *, columns: int) -> None:
    """Under the figure, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, handlelength=3.2
    )


def _short(name: str) -> str:
    """The name, or its two ends: what tells long names apart is often last."""
    half = NAME // 2
    return name if len(name) <= NAME else f"{name[:half]}…{name[-(NAME - half - 1) :]}"
