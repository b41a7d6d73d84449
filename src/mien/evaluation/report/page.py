"""The page of a report: one HTML file with its pictures inside, for screens, phones and paper."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from numpy.typing import NDArray

import mien
from mien.evaluation import metrics
from mien.evaluation.compare import ConfusedPair
from mien.evaluation.report import tables
from mien.evaluation.report.faces import FaceNote, Sheet, data_uri
from mien.evaluation.report.subject import Subject
from mien.evaluation.tta import VIEWS

if TYPE_CHECKING:
    from mien.evaluation.report.writer import Content

PAIRS = 12  # of confused classes in the table; confused-pairs.csv has them all


def render(content: "Content", pictures: Path, images: NDArray[np.uint8]) -> str:
    """The page; `pictures` holds the SVG files, `images` `(N, H, W)` or `(N, H, W, 3)` the faces."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    subjects = content.subjects
    return environment.get_template("page.html").render(
        version=mien.__version__,
        names=[one.name for one in subjects],
        labels=subjects[0].evaluation.labels,
        ranked=[label for label in subjects[0].evaluation.labels if subjects[0].rankings[label] is not None],
        data=_data(content.about, len(images)),
        leads=_leads(content),
        models=[_model(content, number, images) for number in range(len(subjects))],
        differences=[_difference(content, number) for number in range(len(content.differences))],
        pairs=_pairs(content),
        shrank=_shrank(content),
        has_pair_picture=len(subjects) > 1 and bool(content.pairs),
        picture=lambda name: _svg(pictures / f"{name}.svg"),
    )


def _svg(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _data(about: Mapping[str, Any], n: int) -> str:
    """What was measured on, in a line."""
    parts = [f"{n:,} faces", *(str(about[key]) for key in ("source", "split") if about.get(key))]
    if about.get("n_excluded"):
        parts.append(f"without {about['n_excluded']:,} that a list of exclusions names")
    if (views := VIEWS[about.get("tta", "none")]) > 1:
        parts.append(f"answers averaged over {views} views of each face")
    return ", ".join(parts)


def _leads(content: "Content") -> list[str]:
    """What the page says, in a sentence or two."""
    first = content.subjects[0]
    sentences = [f"{first.name} recognises {tables.accuracy_of(first)} of the faces."]
    for found in content.differences:
        if found.first != first.name:
            continue
        points = tables.change(found.accuracy)
        doubt = "more than chance" if found.p_holm < 0.05 else "which can be chance"
        test = f"McNemar, p\N{NO-BREAK SPACE}{_equals(found.p_holm)}"
        sentences.append(f"{found.second}: {points} percentage points, {doubt} ({test}).")
    return sentences


def _model(content: "Content", number: int, images: NDArray[np.uint8]) -> dict[str, Any]:
    subject, slug = content.subjects[number], content.slugs[number]
    found = subject.evaluation
    history = subject.history
    return {
        "name": subject.name,
        "slug": slug,
        "summary": _summary(subject),
        "no_history": subject.no_history or "no training history is at hand",
        "history": None if history is None else history.to_dict(),
        "history_line": _history_line(subject),
        "classes": [
            (row[0], *(tables.percent(float(str(cell))) for cell in row[1:4]), f"{row[4]:,}")
            for row in tables.per_class(subject)
        ],
        "stages": _stages(subject),
        "calibrated": subject.calibrated,
        "threshold": f"{subject.threshold:.3f}",
        "own_threshold": bool(found.threshold),
        "sheets": [_sheet(sheet, images) for sheet in content.sheets[number]],
        "ranking": [
            (label, *(("–", "–") if one is None else (f"{one.roc_auc:.3f}", f"{one.average_precision:.3f}")))
            for label, one in subject.rankings.items()
        ],
    }


def _summary(subject: Subject) -> list[tuple[str, str]]:
    """Name and value of the figures over all classes."""
    found, scores = subject.evaluation, subject.evaluation.scores
    coverage, accuracy = found.coverage.at_threshold(subject.threshold)
    table = found.to_dict()
    apart, twins = table["accuracy_without_twins"], "–"
    if apart is not None:
        twins = f"{tables.percent(apart)} ({tables.interval(table['accuracy_without_twins_ci95'])})"
    certain = f"{tables.percent(coverage, 0)}, {tables.percent(accuracy)} of them right"
    return [
        ("accuracy (95 % interval)", tables.accuracy_of(subject)),
        ("without twins of training images", twins),
        ("macro-F1", f"{scores.macro(scores.f1):.3f}"),
        ("mean recall of the classes", tables.percent(scores.macro(scores.recall))),
        ("log-loss", f"{metrics.log_loss(found.probabilities, found.targets):.3f}"),
        ("ECE as trained", tables.percent(subject.before.ece)),
        ("ECE as it answers", tables.percent(found.reliability.ece) if subject.calibrated else "not calibrated"),
        ("ECE of so few faces, were it calibrated", tables.percent(metrics.if_calibrated(found.reliability).ece)),
        ("kept by the threshold", certain),
    ]


def _history_line(subject: Subject) -> str:
    history = subject.history
    if history is None:
        return ""
    table = history.to_dict()
    best = f"Best epoch {table['best_epoch']} of {table['epochs']}: {100 * table['best_validation_accuracy']:.1f} %"
    gap = 100 * table["gap_at_last_epoch"]
    ahead = "ahead of" if gap >= 0 else "behind"
    rise = table["validation_loss_rise"]
    loss = "is at its lowest" if rise < 0.005 else f"has risen by {rise:.2f} since its lowest"
    return (
        f"{best}; measured here: epoch {table['measured_epoch']}. At the end training is {abs(gap):.1f} points {ahead} "
        f"validation, whose loss {loss}."
    )


def _stages(subject: Subject) -> list[tuple[str, str, str, str]]:
    """Name, temperature, ECE and log-loss: as trained, as the model answers, cross-fitted."""
    table = subject.to_dict()["calibration_stages"]
    fitted = " and ".join(f"{one:.2f}" for one in table["cross_fitted"]["temperatures"])
    named = [("as trained", "1", table["as_trained"])]
    if subject.calibrated:
        named.append(("with the temperature it carries", f"{subject.temperature:.2f}", table["as_it_answers"]))
    named.append(("fitted on one half, scored on the other", fitted, table["cross_fitted"]))
    return [(name, t, tables.percent(row["ece"], 2), f"{row['log_loss']:.3f}") for name, t, row in named]


def _sheet(sheet: Sheet, images: NDArray[np.uint8]) -> dict[str, Any]:
    return {
        "key": sheet.key,
        "title": sheet.title,
        "says": sheet.says,
        "of_a_class": sheet.key.startswith("class-"),
        "faces": [_face(note, images) for note in sheet.faces],
    }


def _face(note: FaceNote, images: NDArray[np.uint8]) -> dict[str, Any]:
    return {
        "picture": data_uri(np.asarray(images[note.row])),
        "name": note.name,
        "label": note.label,
        "said": f"{note.said} {100 * note.confidence:.0f}\N{NO-BREAK SPACE}%",
        "of_label": f"{100 * note.of_label:.0f}\N{NO-BREAK SPACE}%",
        "right": note.right,
    }


def _difference(content: "Content", number: int) -> dict[str, str]:
    found = content.differences[number]
    return {
        "models": f"{found.second} against {found.first}",
        "accuracy": tables.change(found.accuracy),
        "macro_f1": tables.change(found.macro_f1, factor=1, digits=3),
        "log_loss": tables.change(found.log_loss, factor=1, digits=3),
        "only": f"{found.mcnemar.only_second:,} : {found.mcnemar.only_first:,}",
        "p": tables.p_value(found.mcnemar.p_value),
        "p_holm": tables.p_value(found.p_holm),
    }


def _pairs(content: "Content") -> list[dict[str, Any]]:
    """Confused classes: those that the case study names, then the most confused."""
    ordered = sorted(content.pairs, key=lambda pair: not pair.named)[:PAIRS]
    return [
        {
            "named": pair.named,
            "labels": _both(pair),
            "counts": [f"{there + back:,} ({there:,} + {back:,})" for there, back in pair.counts],
            "changes": [
                {"text": tables.change(one, factor=1, digits=0), "certain": one.certain, "fewer": one.value < 0}
                for one in pair.changes
            ],
        }
        for pair in ordered
    ]


def _shrank(content: "Content") -> list[str]:
    """For each later model: the case study's pairs in faces, and which pairs clearly shrank or grew."""
    first, *others = [one.name for one in content.subjects]
    sentences = []
    for number, name in enumerate(others):
        followed = [
            f"{_both(pair)} {pair.totals[0]:,} to {pair.totals[number + 1]:,}" for pair in content.pairs if pair.named
        ]
        moved = [(_both(pair), pair.changes[number]) for pair in content.pairs]
        fewer = [labels for labels, one in moved if one.certain and one.value < 0]
        more = [labels for labels, one in moved if one.certain and one.value > 0]
        text = f"From {first} to {name}: {'; '.join(followed)} faces. " if followed else f"From {first} to {name}: "
        sentences.append(
            f"{text}Clearly fewer: {', '.join(fewer) or 'none'}; clearly more: {', '.join(more) or 'none'}."
        )
    return sentences


def _both(pair: ConfusedPair) -> str:
    """The names of two classes; a line may end after the dash, never before it."""
    return "\N{NO-BREAK SPACE}\N{EN DASH} ".join(pair.labels)


def _equals(p: float) -> str:
    text = tables.p_value(p)
    return (text if text.startswith("<") else f"= {text}").replace(" ", "\N{NO-BREAK SPACE}")
