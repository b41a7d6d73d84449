"""All that `mien explain` found about faces, as one figure and as data."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError
from mien.explain.canvas import Canvas, Cell, figure
from mien.explain.charts import comparison_chart, randomisation_chart
from mien.explain.checks import Faithfulness, Randomisation
from mien.explain.heatmap import METHODS, Heatmap
from mien.explain.overlay import Panel, display_limit, heatmap_panel, original_panel, percent
from mien.files import printable, unicode_of

LABELS_PER_ROW = 4  # the original and seven labels fill two rows


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One map, with its checks where they were asked for."""

    heatmap: Heatmap
    faithfulness: Faithfulness | None = None
    randomisation: Randomisation | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form of the map, with `check` where there is one."""
        if self.faithfulness is None:
            return self.heatmap.to_dict()
        check = self.faithfulness.to_dict()
        if self.randomisation is not None:
            check["randomisation"] = self.randomisation.to_dict()
        return {**self.heatmap.to_dict(), "check": check}


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """What one model says of one face, and why."""

    source: str
    face: int  # its place among those of its picture: the detector's surest is 0; tables count from 1
    box_xyxy: tuple[float, float, float, float]  # pixels of the whole upright picture
    model: str
    crop: NDArray[np.uint8]  # (H, W, 3) RGB that the network saw
    emotion: str
    confidence: float
    findings: tuple[Finding, ...]
    missing: Mapping[str, str] = field(default_factory=dict)  # method -> why it cannot explain this model

    def to_dicts(self) -> list[dict[str, Any]]:
        """One JSON-safe entry a map."""
        about = {
            "source": self.source,
            "face": self.face,
            "box_xyxy": [round(float(v), 1) for v in self.box_xyxy],
            "model": self.model,
            "emotion": self.emotion,
            "confidence": round(self.confidence, 4),
        }
        return [{**about, **finding.to_dict()} for finding in self.findings]


def explanation_figure(explained: Sequence[Explained], *, by_label: bool = False) -> Canvas:
    """A row for each face and model: the original, then its maps. Maps with checks have a row each.

    `by_label` sets the labels of one method in rows of `LABELS_PER_ROW`, with one scale for all of them.
    """
    rows: list[list[Cell]] = []
    for entry in explained:
        if any(finding.faithfulness is not None for finding in entry.findings):
            rows += [_check_row(entry, finding) for finding in entry.findings]
        elif by_label:
            rows += _label_rows(entry)
        else:
            rows.append([_original(entry), *_method_cells(entry)])
    return figure(rows)


def to_csv(explained: Sequence[Explained]) -> str:
    """A line a pixel: source, face (its number, from 1), model, method, label, row, column, value in [-1, 1], raw value
    in the unit.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("source", "face", "model", "method", "label", "row", "column", "value", "raw"))
    for entry, heatmap in _heatmaps(explained):
        about = (unicode_of(entry.source), entry.face + 1, entry.model, heatmap.method, heatmap.label)
        for (row, column), value in np.ndenumerate(heatmap.values):
            writer.writerow((*about, row, column, f"{value:.4f}", f"{value * heatmap.scale:.6g}"))
    return table.getvalue()


def to_array(explained: Sequence[Explained]) -> NDArray[np.float32]:
    """All maps `(M, H, W)` float32 in [-1, 1], in the order of the JSON entries.

    Raises:
        ConfigError: they differ in size, as those of models with different inputs do.
    """
    maps = [heatmap.values for _, heatmap in _heatmaps(explained)]
    if len({values.shape for values in maps}) > 1:
        raise ConfigError("the maps differ in size, so they are no single array: write them as JSON or CSV")
    return np.stack(maps)


def save_array(explained: Sequence[Explained], path: Path | BinaryIO) -> None:
    """Write `to_array` as a NumPy file, or to an open binary stream."""
    np.save(path, to_array(explained))


def _heatmaps(explained: Sequence[Explained]) -> Iterator[tuple[Explained, Heatmap]]:
    for entry in explained:
        for finding in entry.findings:
            yield entry, finding.heatmap


def _original(entry: Explained) -> Panel:
    answer = f"{entry.model}: {entry.emotion} {percent(entry.confidence)}"
    place = printable(Path(entry.source).name) + (f", face {entry.face + 1}" if entry.face else "")
    return original_panel(entry.crop, answer, place)


def _missing(entry: Explained) -> list[Panel]:
    return [Panel(METHODS[method].title, note=reason) for method, reason in entry.missing.items()]


def _method_cells(entry: Explained) -> list[Cell]:
    """Maps, or why there is none, method by method: a method has the same column in every model's row."""
    cells: list[Cell] = []
    for method, about in METHODS.items():
        heatmaps = [finding.heatmap for finding in entry.findings if finding.heatmap.method == method]
        cells += [heatmap_panel(entry.crop, heatmap) for heatmap in heatmaps]
        if method in entry.missing:
            cells.append(Panel(about.title, note=entry.missing[method]))
    return cells


def _label_rows(entry: Explained) -> list[list[Cell]]:
    """The original and one method's labels, then the next method's."""
    rows: list[list[Cell]] = []
    for method in dict.fromkeys(finding.heatmap.method for finding in entry.findings):
        maps = [finding.heatmap for finding in entry.findings if finding.heatmap.method == method]
        limit = display_limit(*maps)
        title = METHODS[method].title
        cells: list[Cell] = [_original(entry)]
        cells += [heatmap_panel(entry.crop, h, title=f"{title}: {h.label}", limit=limit) for h in maps]
        rows += [cells[start : start + LABELS_PER_ROW] for start in range(0, len(cells), LABELS_PER_ROW)]
    if notes := _missing(entry):
        rows.append([*notes])
    return rows


def _check_row(entry: Explained, finding: Finding) -> list[Cell]:
    assert finding.faithfulness is not None
    row: list[Cell] = [
        _original(entry),
        heatmap_panel(entry.crop, finding.heatmap),
        comparison_chart("Deletion", finding.faithfulness.deletion, x_name="share of pixels greyed, strongest first"),
        comparison_chart("Insertion", finding.faithfulness.insertion, x_name="share of pixels shown, strongest first"),
    ]
    if finding.randomisation is not None:
        row.append(randomisation_chart([finding.randomisation]))
    return row
