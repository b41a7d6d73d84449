"""An audit as one self-contained page, and its pictures as files beside it."""

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from mien import __version__
from mien.datasets.audit import sheets
from mien.datasets.audit.copies import SURE_CORRELATION
from mien.datasets.audit.findings import MEANING, Audit, Problem

ADVICE = {
    Problem.CONFLICT: "No label of them can be trusted more than the other: all are suggested to go.",
    Problem.LEAK: "A model is measured on images that it trained on. The copies to train on are suggested to go, "
    "so that what is measured on stays as it is.",
    Problem.DUPLICATE: "They count double. The first of each group stays.",
    Problem.NEAR_LEAK: "Mostly one photograph, cropped, lit or compressed otherwise. The copies to train on "
    f"are suggested to go where the correlation is over {SURE_CORRELATION}; look at the others. The least alike come "
    "first.",
    Problem.NEAR_CONFLICT: "One photograph, two labels: look at them.",
    Problem.NEAR_DUPLICATE: "Harmless in training, but they make a class look larger than it is.",
    Problem.CONSTANT: "They show nothing.",
    Problem.ALMOST_CONSTANT: "They show nothing, or next to nothing.",
    Problem.NOT_A_FACE: "Left out by FER+, or at least half of its taggers saw no face.",
    Problem.NO_FACE_FOUND: "Detectors miss faces too, above all turned, covered and drawn ones: look at them.",
    Problem.VOTES: "More than half of FER+'s ten taggers see another expression. Where eight or more agree and at most "
    "one sees the label, that class is suggested.",
    Problem.LABEL_ERROR: "A classifier that was fitted without the image and its copies contradicts the label "
    "(confident learning). It errs too: look before you change anything.",
}


def write(audit: Audit, folder: Path) -> None:
    """Write `index.html` and one PNG a problem into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [sheets.sheet(audit, problem) for problem in Problem if audit.of(problem)]
    for sheet in shown:
        sheets.draw(sheet).save(folder / f"{sheet.problem}.png")
    (folder / "index.html").write_text(render(audit, shown), encoding="utf-8")


def render(audit: Audit, shown: list[sheets.Sheet]) -> str:
    """The page: no script, nothing from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["thousands"] = "{:,}".format
    return environment.get_template("page.html").render(
        summary=audit.summary(), sheets=shown, meaning=MEANING, advice=ADVICE, version=__version__
    )


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
