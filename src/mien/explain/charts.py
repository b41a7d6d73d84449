"""Small line charts for the checks, on the same canvas as the faces: readable without colour by their dashes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.explain.canvas import ABOVE, FAINT, INK, SIDE, SMALL_SIZE, TEXT_SIZE, TITLE_SIZE, Canvas, fit
from mien.explain.checks import Comparison, Randomisation

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8c8c8c"  # Okabe & Ito (2008): distinct for colour-blind readers
INSET = 26.0  # room for the numbers beside the axes


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One line of a chart."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    name: str
    colour: str = BLUE
    dash: float = 0.0
    width: float = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """Lines over axes that run from 0 to 1, or from -1 to 1 where a value is negative."""

    title: str
    series: tuple[Series, ...]
    x_name: str
    y_name: str

    def draw(self, canvas: Canvas, x: float, y: float) -> None:
        """Put the chart's top left corner at `(x, y)`."""
        canvas.text(x, y + 14, fit(self.title, SIDE, TITLE_SIZE), size=TITLE_SIZE)
        left, right, top, bottom = x + INSET, x + SIDE - 4, y + ABOVE + 16, y + ABOVE + SIDE - 28
        lowest = -1.0 if any(line.y.min(initial=0) < 0 for line in self.series) else 0.0
        canvas.text(x, y + ABOVE + 8, fit(self.y_name, SIDE, SMALL_SIZE), size=SMALL_SIZE, colour=FAINT)
        for tick in (lowest, (lowest + 1) / 2, 1.0):
            height = _place(tick, lowest, bottom, top)
            canvas.line([(left, height), (right, height)], colour="#dddddd", width=0.8)
            canvas.text(left - 5, height + 3.5, f"{tick:g}".replace("-", "−"), size=SMALL_SIZE, anchor="end")
        for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
            canvas.text(left + share * (right - left), bottom + 14, f"{share:g}", size=SMALL_SIZE, anchor=anchor)
        middle = (left + right) / 2
        canvas.text(
            middle, bottom + 27, fit(self.x_name, SIDE, SMALL_SIZE), size=SMALL_SIZE, colour=FAINT, anchor="middle"
        )
        for line in reversed(self.series):  # the first on top
            points = [
                (left + float(px) * (right - left), _place(float(py), lowest, bottom, top))
                for px, py in zip(line.x, line.y, strict=True)
            ]
            canvas.line(points, colour=line.colour, width=line.width, dash=line.dash)
        for i, line in enumerate(self.series):
            base = y + ABOVE + SIDE + 22 + 17 * i
            canvas.line([(x, base - 4), (x + 22, base - 4)], colour=line.colour, width=line.width, dash=line.dash)
            canvas.text(x + 28, base, fit(line.name, SIDE - 28, TEXT_SIZE), size=TEXT_SIZE, colour=INK)


def comparison_chart(title: str, comparison: Comparison, *, x_name: str) -> Chart:
    """The map's curve over those of the random maps and of the centre, with the areas in the legend."""
    curve, random, centre = comparison.curve, comparison.random_mean, comparison.centre
    chance = f"random: {comparison.random_auc_mean:.2f} ± {comparison.random_auc_sd:.2f}"
    series = (
        Series(curve.fractions, curve.probabilities, f"map: area {curve.auc:.2f}"),
        Series(random.fractions, random.probabilities, chance, colour=GREY, dash=4, width=1.6),
        Series(centre.fractions, centre.probabilities, f"centre: {centre.auc:.2f}", colour=ORANGE, dash=1.5, width=1.6),
    )
    return Chart(title, series, x_name, "probability of the label")


def randomisation_chart(checks: Sequence[Randomisation], *, title: str = "Randomised model") -> Chart:
    """Similarity with the map of the model as more of its layers are shuffled; at most four checks."""
    styles = ((BLUE, 0.0), (ORANGE, 5.0), (INK, 1.5), (GREY, 3.0))
    series = []
    for check, (colour, dash) in zip(checks, styles, strict=False):
        values = np.array([1.0, *check.similarities], np.float32)
        along = np.linspace(0, 1, len(values), dtype=np.float32)
        name = f"{check.method}: ends at {check.similarities[-1]:.2f}".replace("-0", "−0")
        series.append(Series(along, values, name, colour=colour, dash=dash))
    return Chart(title, tuple(series), "share of layers shuffled, from the logits", "rank correlation with the map")


def _place(value: float, lowest: float, bottom: float, top: float) -> float:
    """Height on the page of a value between `lowest` and 1."""
    share = (min(max(value, lowest), 1.0) - lowest) / (1 - lowest)
    return bottom - share * (bottom - top)
