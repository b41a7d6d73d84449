"""Results on stdout: a table for people, JSON and CSV for programs. All three write each picture as it comes."""

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import typer

from mien.files import printable, unicode_of

if TYPE_CHECKING:
    from mien.results import Face, Prediction

NUMBERS = re.compile(r"\[\n((?:\s*-?[\d.e+-]+,?\n)+)\s*\]")
"""A list of numbers spread over lines; a JSON string holds no line break, so no string matches."""


class Writer(Protocol):
    """Writes predictions one after the other; nothing where there is none."""

    def write(self, prediction: "Prediction") -> None:
        """One picture."""

    def end(self) -> None:
        """After the last."""


class Table:
    """One line a face: its number, the emotion, each label's percentage, where it is, the picture."""

    def __init__(self, labels: Sequence[str]) -> None:
        """`labels` are the model's."""
        self._labels = labels
        self._begun = False
        self._emotion_width = max(len("no face"), *map(len, labels)) + 6
        self._widths = [max(3, len(label)) for label in labels]

    def write(self, prediction: "Prediction") -> None:
        """Write a line for each face, or one that says that there is none."""
        if not self._begun:
            self._begun = True
            heads = " ".join(f"{label:>{width}}" for label, width in zip(self._labels, self._widths, strict=True))
            _line(_style(f"face {'emotion':<{self._emotion_width}} {heads} {'centre':>9}  picture", bold=True))
        name = printable(prediction.source)
        for number, face in enumerate(prediction.faces, start=1):
            _line(f"{number:>4} {self._emotion(face)} {self._percentages(face)} {_centre(face):>9}  {name}")
        if not prediction.faces:
            blank = sum(self._widths) + len(self._widths) - 1
            _line(f"{'-':>4} {'no face':<{self._emotion_width}} {'':<{blank}} {'':>9}  {name}")

    def end(self) -> None:
        """Nothing follows."""

    def _emotion(self, face: "Face") -> str:
        text = f"{face.emotion}{'?' if face.uncertain else ''}"
        text = f"{text:<{self._emotion_width - 5}}{100 * face.confidence:>3.0f} %"
        return _style(text, bold=not face.uncertain)

    def _percentages(self, face: "Face") -> str:
        cells = []
        for probability, width in zip(face.probabilities, self._widths, strict=True):
            text = f"{100 * float(probability):>{width}.0f}"
            cells.append(_style(text, dim=True) if probability < 0.005 else text)
        return " ".join(cells)


class Json:
    """A list with one entry a picture, as docs/json.md describes."""

    def __init__(self, labels: Sequence[str]) -> None:
        """The labels are in each entry."""
        self._before = "[\n"

    def write(self, prediction: "Prediction") -> None:
        """Write one entry."""
        # an undecodable byte of a file name is a lone surrogate: backslashreplace makes it a JSON escape
        text = json.dumps(prediction.to_dict(), ensure_ascii=not is_utf8(), allow_nan=False, indent=2)
        text = NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text)
        write(self._before + unicode_of(text))
        self._before = ",\n"

    def end(self) -> None:
        """Close the list."""
        if self._before != "[\n":
            write("\n]\n")


class Csv:
    """One row a face; a picture without one has a row with an empty `face`."""

    def __init__(self, labels: Sequence[str]) -> None:
        """`labels` are the model's, a column each."""
        heads = ["source", "width", "height", "face", "left", "top", "right", "bottom", "score"]
        heads += ["emotion", "confidence", "uncertain", *labels, "size_px", "blur", "tilt_deg", "turn_ratio"]
        self._heads = [*heads, "model", "sha256"]
        self._begun = False

    def write(self, prediction: "Prediction") -> None:
        """Write the rows of one picture."""
        if not self._begun:
            self._begun = True
            self._row(self._heads)
        picture = [prediction.source, prediction.width, prediction.height]
        model = [prediction.model["name"], prediction.model["sha256"]]
        for number, face in enumerate(prediction.faces, start=1):
            entry = face.to_dict()
            self._row(
                [
                    *(*picture, number, *entry["box_xyxy"], entry["score"], entry["emotion"], entry["confidence"]),
                    *(str(face.uncertain).lower(), *entry["probabilities"].values(), *entry["quality"].values()),
                    *model,
                ]
            )
        if not prediction.faces:
            self._row([*picture, *[""] * (len(self._heads) - 5), *model])

    def end(self) -> None:
        """Nothing follows."""

    def _row(self, cells: Sequence[object]) -> None:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow(cells)
        write(buffer.getvalue())


WRITERS: dict[str, Callable[[Sequence[str]], Writer]] = {"table": Table, "json": Json, "csv": Csv}


def _centre(face: "Face") -> str:
    left, top, right, bottom = (float(value) for value in face.box_xyxy)
    return f"{(left + right) / 2:.0f},{(top + bottom) / 2:.0f}"


def _line(text: str) -> None:
    write(text + "\n")


def write(text: str) -> None:
    """Print on stdout; what its encoding lacks comes out escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, "backslashreplace").decode(encoding), nl=False)


def is_utf8() -> bool:
    """Whether stdout takes every character."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _style(text: str, *, bold: bool = False, dim: bool = False) -> str:
    if os.environ.get("NO_COLOR"):
        return text
    return typer.style(text, bold=bold or None, dim=dim or None)  # typer.echo drops the codes off a terminal
