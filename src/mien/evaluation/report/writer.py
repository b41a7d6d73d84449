"""The parts of a report: pictures as PNG and SVG, figures as CSV and JSON, and the page that holds them all."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import mien
from mien.errors import DataError, require
from mien.evaluation import evaluate as ev
from mien.evaluation import plots
from mien.evaluation.compare import ConfusedPair, Difference, confused_pairs, differences
from mien.evaluation.report import faces, figures, page, tables
from mien.evaluation.report.subject import Subject, in_order_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "index.html"


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """All that the page is made of."""

    subjects: tuple[Subject, ...]
    differences: tuple[Difference, ...]
    pairs: tuple[ConfusedPair, ...]
    about: Mapping[str, Any]  # of the data: source, split, ...
    slugs: tuple[str, ...]  # file names' part of each subject
    sheets: tuple[tuple[faces.Sheet, ...], ...]  # of each subject; empty where faces are left out


def write_report(
    subjects: Sequence[Subject],
    images: NDArray[np.uint8],
    folder: Path,
    *,
    about: Mapping[str, Any] | None = None,
    show_faces: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report of one or several models on the same `(N, H, W)` or `(N, H, W, 3)` images; returns its page.

    `index.html` needs no other file and no other host. Beside it stand `report.json`, `data/*.csv`, `pictures/` with
    each picture as PNG and SVG, and `models/NAME/` with what `mien evaluate` writes of each. `about` names the data.
    `progress` hears of the pictures done, and of how many there are. Equal input gives equal files.

    Raises:
        DataError: there is no model, or the models were not measured on these images with the same classes.
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "train")
    content = _content(subjects, images, about or {}, show_faces=show_faces)
    data, pictures = folder / "data", folder / "pictures"
    for inner in (data, pictures):
        inner.mkdir(parents=True, exist_ok=True)
    planned = _pictures(content, images)
    for done, (name, draw) in enumerate(planned.items(), 1):
        plots.save(draw(), pictures / name)
        if progress is not None:
            progress(done, len(planned))
    for name, table in tables.csv_tables(content.subjects, content.differences, content.pairs).items():
        tables.write_csv(table, data / f"{name}.csv")
    for subject, slug in zip(content.subjects, content.slugs, strict=True):
        ev.write(subject.evaluation, folder / "models" / slug)
    text = json.dumps(_to_dict(content), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / PAGE).write_text(page.render(content, pictures, images), encoding="utf-8")
    return folder / PAGE


def _content(
    subjects: Sequence[Subject], images: NDArray[np.uint8], about: Mapping[str, Any], *, show_faces: bool
) -> Content:
    if not subjects:
        raise DataError("a report needs at least one model")
    labels = subjects[0].evaluation.labels
    ordered = tuple(replace(one, evaluation=in_order_of(one.evaluation, labels)) for one in subjects)
    if any(len(one.evaluation.targets) != len(images) for one in ordered):
        raise DataError(f"the answers are not those about these {len(images)} images: evaluate every model on them")
    evaluations = [(one.name, one.evaluation) for one in ordered]
    return Content(
        subjects=ordered,
        differences=differences(evaluations),
        pairs=confused_pairs([evaluation for _, evaluation in evaluations]),
        about=about,
        slugs=tuple(_slugs([one.name for one in ordered])),
        sheets=tuple(tuple(faces.sheets(one.evaluation)) if show_faces else () for one in ordered),
    )


def _pictures(content: Content, images: NDArray[np.uint8]) -> dict[str, Callable[[], "Figure"]]:
    """Every picture by its file name, drawn when it is asked for: together they would fill the memory."""
    planned = dict(_shared(content))
    histories = [one.history for one in content.subjects if one.history is not None]
    for number, (subject, slug) in enumerate(zip(content.subjects, content.slugs, strict=True)):
        for name, draw in _own(subject, histories):
            planned[f"{slug}-{name}"] = draw
        for sheet in content.sheets[number]:
            planned[f"{slug}-{sheet.key}"] = _sheet(sheet, images, subject.name)
    return planned


def _shared(content: Content) -> Iterator[tuple[str, Callable[[], "Figure"]]]:
    subjects = content.subjects
    yield "coverage", lambda: figures.coverage_figure(subjects)
    for label in subjects[0].evaluation.labels:
        if subjects[0].rankings[label] is not None:
            yield f"ranking-{label}", lambda label=label: figures.ranking_figure(label, subjects)  # type: ignore[misc]
    if len(subjects) > 1 and content.pairs:
        yield "confused", lambda: figures.confused_figure(content.pairs, [one.name for one in subjects])


def _own(subject: Subject, histories: Sequence[Any]) -> Iterator[tuple[str, Callable[[], "Figure"]]]:
    found, history = subject.evaluation, subject.history
    if history is not None:
        scale = figures.Scale.of(histories)
        yield "curves", lambda: figures.history_figure(history, scale, title=subject.name)
    yield "confusion-counts", lambda: plots.confusion_figure(found.confusion, found.labels, show="counts")
    yield "confusion-shares", lambda: plots.confusion_figure(found.confusion, found.labels, show="shares")
    yield "reliability-before", lambda: plots.reliability_figure(subject.before, title="As trained")
    after = "Calibrated" if subject.calibrated else "Cross-fitted"
    yield "reliability-after", lambda: plots.reliability_figure(subject.after, title=after)


def _sheet(sheet: faces.Sheet, images: NDArray[np.uint8], name: str) -> Callable[[], "Figure"]:
    return lambda: faces.sheet_figure(sheet, images, title=f"{name}: {sheet.title}")


def _to_dict(content: Content) -> dict[str, Any]:
    """The content of `report.json`."""
    names = [one.name for one in content.subjects]
    return {
        "version": mien.__version__,
        "data": dict(content.about),
        "n": len(content.subjects[0].evaluation.targets),
        "labels": list(content.subjects[0].evaluation.labels),
        "models": [
            {**one.to_dict(), "folder": f"models/{slug}"}
            for one, slug in zip(content.subjects, content.slugs, strict=True)
        ],
        "differences": [one.to_dict() for one in content.differences],
        "confused_pairs": [pair.to_dict(names) for pair in content.pairs],
    }


def _slugs(names: Sequence[str]) -> Iterator[str]:
    """Names as parts of file names, each only once."""
    taken: set[str] = set()
    for name in names:
        slug = plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"
        number = 2
        while slug in taken:
            slug, number = f"{plain}-{number}", number + 1
        taken.add(slug)
        yield slug
