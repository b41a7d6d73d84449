"""Learning curves of records: a panel a run, on the records' own figures."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from mien.training import curves, records
from mien.training.records import Record

RECORDS = Path(__file__).parents[2] / "results" / "runs"


@pytest.fixture(scope="module")
def saved() -> list[Record]:
    return records.read(RECORDS)


def _line(axes: Any, label: str) -> tuple[Any, Any]:
    (line,) = [one for one in axes.get_lines() if one.get_label() == label]
    return line.get_data()


@pytest.mark.parametrize(("what", "factor"), [("accuracy", 100), ("loss", 1)])
def test_panels_show_what_the_records_hold(
    saved: list[Record], what: Literal["accuracy", "loss"], factor: float
) -> None:
    panels = [axes for axes in curves.curves_figure(saved, what).axes if axes.get_visible()]

    shown = [one for one in saved if len(one.history) > 1]
    assert len(shown) < len(saved), "a run of one epoch has no curve"
    assert [axes.get_title() for axes in panels] == [one.name for one in shown]
    for axes, record in zip(panels, shown, strict=True):
        rows = json.loads((RECORDS / f"{record.name}.json").read_text())["history"]
        for label, kind in (("training", "train"), ("validation", "validation")):
            epochs, values = _line(axes, label)
            np.testing.assert_array_equal(epochs, [row["epoch"] for row in rows])
            np.testing.assert_allclose(values, [factor * row[f"{kind}_{what}"] for row in rows])
        best = max(rows, key=lambda row: row["validation_accuracy"])["epoch"]
        assert set(_line(axes, "best epoch")[0]) == {best}


def test_words_do_not_overlap(saved: list[Record]) -> None:
    figure = curves.curves_figure(saved, "accuracy")
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.get_visible()]
    words = [axes.title for axes in panels] + [axes.xaxis.label for axes in panels if axes.get_xlabel()]
    boxes = [word.get_window_extent() for word in words] + [figure.legends[0].get_window_extent()]

    overlaps = [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].overlaps(boxes[j])]

    assert not overlaps


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no record"):
        curves.curves_figure([], "loss")
