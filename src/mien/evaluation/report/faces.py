"""Which faces a report shows of a model, and the sheets that show them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from mien.errors import require
from mien.evaluation.evaluate import Evaluation
from mien.evaluation.metrics import Ints
from mien.evaluation.plots import DPI, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MISTAKES = 25
OF_A_CLASS = 32
SIDE_PX = 96  # the most that a page and a sheet show of a crop
FAINT = "#555555"


@dataclass(frozen=True, slots=True)
class FaceNote:
    """A face of a sheet, and what the model said of it."""

    row: int  # of the images
    name: str
    label: str
    said: str
    confidence: float  # of what it said, 0..1
    of_label: float  # probability of the label, 0..1

    @property
    def right(self) -> bool:
        """Whether it said the label."""
        return self.said == self.label

    @property
    def verdict(self) -> str:
        """`sad 62 %`, or `✗ happy 97 %`."""
        return f"{'' if self.right else '✗ '}{self.said} {100 * self.confidence:.0f} %"


@dataclass(frozen=True, slots=True)
class Sheet:
    """Faces under one heading."""

    key: str  # of the file
    title: str
    says: str
    faces: tuple[FaceNote, ...]


def sheets(evaluation: Evaluation) -> list[Sheet]:
    """The worst faces, the surest mistakes, and a contact sheet of every class that the images have.

    A contact sheet runs evenly from the face whose label the model is surest of to the one that it finds least likely.
    """
    probabilities, predicted = evaluation.probabilities, evaluation.predicted
    of_label = probabilities[np.arange(len(predicted)), evaluation.targets]
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(~evaluation.correct)
    worst = wrong[np.argsort(of_label[wrong], kind="stable")][:MISTAKES]
    sure = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    found = [
        Sheet("worst", "Worst", "the least probability of the label: the largest loss", _notes(evaluation, worst)),
        Sheet("sure-mistakes", "Surest mistakes", "wrong, and the most confident", _notes(evaluation, sure)),
    ]
    for k, label in enumerate(evaluation.labels):
        rows = np.flatnonzero(evaluation.targets == k)
        if len(rows):
            ranked = rows[np.argsort(-of_label[rows], kind="stable")]
            steps = np.unique(np.linspace(0, len(ranked) - 1, OF_A_CLASS).round().astype(np.int64))
            recall = 100 * evaluation.correct[rows].mean()
            says = (
                f"{len(steps)} of {len(rows):,} faces, {recall:.0f} % recognised; from the surest to the least likely"
            )
            found.append(Sheet(f"class-{label}", label, says, _notes(evaluation, ranked[steps])))
    return [sheet for sheet in found if sheet.faces]


def sheet_figure(sheet: Sheet, images: NDArray[np.uint8], *, title: str) -> "Figure":
    """The faces of `sheet` out of `(N, H, W)` or `(N, H, W, 3)` images, each over its label and what was said.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "train")
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    columns = 5 if len(sheet.faces) <= MISTAKES else 8
    lines = -(-len(sheet.faces) // columns)
    cell, text, head, side = 1.25, 0.42, 0.62, 1.15  # inches
    width, height = columns * cell + 0.1, head + lines * (cell + text)
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.text(0.1, 0.24, title, fontsize=12, color=INK)
    axes.text(0.1, 0.46, sheet.says, fontsize=8.5, color=FAINT)
    for number, note in enumerate(sheet.faces):
        line, column = divmod(number, columns)
        x, y = 0.1 + column * cell, head + line * (cell + text)
        axes.imshow(shown(images[note.row]), extent=(x, x + side, y + side, y), interpolation="nearest")
        axes.text(x, y + side + 0.13, note.label, fontsize=7.5, color=FAINT)
        weight = "normal" if note.right else "bold"
        axes.text(x, y + side + 0.265, note.verdict, fontsize=7.5, color=INK, fontweight=weight)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("auto")
    axes.set_axis_off()
    return figure


def shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(H, W)` or `(H, W, 3)` as `(h, w, 3)` RGB, no side over `SIDE_PX`."""
    longest = max(image.shape[:2])
    if longest > SIDE_PX:
        height, width = (max(1, round(side * SIDE_PX / longest)) for side in image.shape[:2])
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def data_uri(image: NDArray[np.uint8]) -> str:
    """A crop as a PNG inside an address, grey where it has no colour."""
    picture = PIL.Image.fromarray(shown(image)).convert("L" if image.ndim == 2 else "RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _notes(evaluation: Evaluation, rows: Ints) -> tuple[FaceNote, ...]:
    labels: Sequence[str] = evaluation.labels
    notes = []
    for row in rows.tolist():
        target, said = int(evaluation.targets[row]), int(evaluation.predicted[row])
        chances = evaluation.probabilities[row]
        name = evaluation.names[row]
        notes.append(FaceNote(row, name, labels[target], labels[said], float(chances[said]), float(chances[target])))
    return tuple(notes)
