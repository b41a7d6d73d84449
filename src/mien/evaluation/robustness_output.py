"""What a measurement of robustness leaves: JSON, CSV, a Markdown table, curves, and the corruptions on one face."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mien.bundle import FER2013_LANDMARKS
from mien.errors import require
from mien.evaluation import metrics, plots
from mien.evaluation.corruptions import CORRUPTIONS, STRENGTHS, Landmarks, corrupt
from mien.evaluation.plots import DPI, INK
from mien.evaluation.robustness import Robustness

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 5  # of small charts
AS_IS = "none"  # the corruption of the crops as they are, in tables
Figures = Literal["accuracy", "ece"]


def write(found: Robustness, folder: Path) -> None:
    """Write `robustness.json` and `.csv`, the table as `robustness.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "robustness.json").write_text(text + "\n", encoding="utf-8")
    (folder / "robustness.csv").write_text(to_csv(found), encoding="utf-8")
    (folder / "robustness.md").write_text(markdown(found), encoding="utf-8")


def write_pictures(found: Robustness, folder: Path, face: NDArray[np.uint8], *, landmarks: Landmarks) -> None:
    """Write the curves of accuracy and ECE, and every corruption of `face`, as PNG and SVG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots.save(curves_figure(found, show="accuracy"), folder / "robustness-accuracy")
    plots.save(curves_figure(found, show="ece"), folder / "robustness-ece")
    plots.save(samples_figure(face, landmarks=landmarks), folder / "robustness-samples")


def to_csv(found: Robustness) -> str:
    """A line for each model, corruption and strength: accuracy with its 95 % interval, and ECE, all in 0..1."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("model", "corruption", "strength", "level", "accuracy", "low", "high", "ece", "n"))
    for model in found.models:
        rows = [(AS_IS, 0, "", model.clean, model.clean_ece)]
        for c, kind in enumerate(CORRUPTIONS.values()):
            at = zip(kind.levels, model.correct[c], model.ece[c], strict=True)
            rows += [(kind.name, s, f"{level:g}", right, float(ece)) for s, (level, right, ece) in enumerate(at, 1)]
        for name, strength, level, right, ece in rows:
            low, high = metrics.wilson_interval(int(right.sum()), found.n)
            numbers = (f"{value:.6f}" for value in (right.mean(), low, high, ece))
            writer.writerow((model.name, name, strength, level, *numbers, found.n))
    return table.getvalue()


def rows(found: Robustness) -> list[tuple[str, ...]]:
    """The table, in per cent: a heading, the crops as they are, a row a corruption, the means.

    Each model has three columns: accuracy as the mean of the five strengths, at the worst of them, and mean ECE. All
    but the reference have a fourth, the corruption error: its share of the reference's errors.
    """
    head, clean, mean = ["corruption"], ["none"], ["mean of the corruptions"]
    body = [[kind.title] for kind in CORRUPTIONS.values()]
    for model in found.models:
        head += [f"{model.name}: accuracy", "at strength 5", "ECE"]
        clean += [_percent(model.clean.mean()), "", _percent(model.clean_ece)]
        mean += [_percent(values.mean()) for values in (model.accuracy, model.accuracy[:, -1], model.ece)]
        for c, row in enumerate(body):
            accuracy = model.accuracy[c]
            row += [_percent(accuracy.mean()), _percent(accuracy[-1]), _percent(model.ece[c].mean())]
        error = None if model is found.reference else found.error_of(model)
        if error is not None:
            for row, share in zip(body, error.by_corruption.values(), strict=True):
                row.append(_percent(share))
            head, clean, mean = [*head, "error"], [*clean, ""], [*mean, _percent(error.mean)]
    return [tuple(row) for row in (head, clean, *body, mean)]


def summary(found: Robustness) -> list[str]:
    """A sentence for each model beside the reference: its mean corruption error, with the interval, or why none."""
    if found.reference is not None and found.faultless:
        kinds = ", ".join(CORRUPTIONS[name].title for name in found.faultless)
        return [f"No mean corruption error: {found.reference.name} makes no error to divide by under {kinds}."]
    sentences = []
    for model in found.models:
        error = None if model is found.reference else found.error_of(model)
        if error is None or found.reference is None:
            continue
        low, high = error.mean_ci95
        share = f"{_percent(error.mean)} % (95 % interval {_percent(low)} to {_percent(high)})"
        text = f"Mean corruption error of {model.name} beside {found.reference.name}: {share}"
        if error.relative is not None:
            text += f"; of the errors that the corruptions add, {_percent(error.relative)} %"
        sentences.append(f"{text}.")
    return sentences


def markdown(found: Robustness) -> str:
    """`rows` as a Markdown table, and the mean corruption errors below."""
    table = rows(found)
    head, *body = (f"| {' | '.join(cells)} |" for cells in table)
    rule = "|---|" + "---:|" * (len(table[0]) - 1)
    return "\n".join((head, rule, *body, *(f"\n{text}" for text in summary(found)))) + "\n"


def curves_figure(found: Robustness, *, show: Figures) -> "Figure":
    """A small chart a corruption, all on one scale: accuracy or ECE of each model, in per cent, by strength.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "train")
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    lines = -(-len(CORRUPTIONS) // COLUMNS)
    figure = Figure(figsize=(2.35 * COLUMNS, 0.6 + 2.35 * lines), dpi=DPI, layout="constrained")
    grid = figure.subplots(lines, COLUMNS, sharey=True, squeeze=False)
    for c, (kind, axes) in enumerate(zip(CORRUPTIONS.values(), grid.flat, strict=True)):
        for number, model in enumerate(found.models):
            colour, dash, marker = plots.style(number)
            first, rest = (
                (model.clean.mean(), model.accuracy[c]) if show == "accuracy" else (model.clean_ece, model.ece[c])
            )
            values = 100 * np.array([first, *rest])
            axes.plot(values, color=colour, linestyle=dash, marker=marker, markersize=3.5, label=model.name)
        axes.set_title(kind.title, fontsize=10.5)
        axes.set_xticks(range(STRENGTHS + 1), ["none", *(f"{level:g}" for level in kind.levels)], fontsize=8)
        axes.set_xlabel(kind.unit, fontsize=9)
        _frame(axes)
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy, %" if show == "accuracy" else "ECE, %")
    top = max(axes.get_ylim()[1] for axes in grid.flat)
    grid[0, 0].set_ylim(0, 100 if show == "accuracy" and top > 90 else top)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=min(4, len(names)), frameon=False, handlelength=3.5)
    return figure


def samples_figure(face: NDArray[np.uint8], *, landmarks: Landmarks = FER2013_LANDMARKS) -> "Figure":
    """Every corruption of one crop, `(H, W)` or `(H, W, 3)`: a row a kind, as it is and at the five strengths.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "train")
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    height, width = face.shape[:2]
    gap, room = height // 12, height // 4  # between faces, and over each for its level
    across, down = width + gap, height + room
    page = np.full((down * len(CORRUPTIONS), across * (STRENGTHS + 1) - gap, 3), 255, np.uint8)
    left = 1.5  # inches for the names
    figure = Figure(figsize=(left + 5.8, 5.8 * page.shape[0] / page.shape[1]), dpi=DPI)
    axes = figure.add_axes((left / (left + 5.8), 0, 5.8 / (left + 5.8), 1))
    for row, kind in enumerate(CORRUPTIONS.values()):
        top = row * down + room
        for strength in range(STRENGTHS + 1):
            damaged = corrupt(face[None], kind.name, strength, landmarks=landmarks)[0]
            colour = damaged if damaged.ndim == 3 else np.repeat(damaged[:, :, None], 3, axis=2)
            x = strength * across
            page[top : top + height, x : x + width] = colour
            level = f"{kind.levels[strength - 1]:g}" if strength else "none"
            axes.text(x + width / 2, top - 0.25 * room, level, ha="center", fontsize=8, color=INK)
        axes.text(-gap, top + 0.45 * height, kind.title, ha="right", fontsize=10, color=INK)
        axes.text(-gap, top + 0.62 * height, kind.unit, ha="right", fontsize=8, color="#555555")
    axes.imshow(page, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return figure


def _frame(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", labelsize=8)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
