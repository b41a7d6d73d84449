"""Class balance and attention, compared: the tables, sentences and pictures of two pages, from records alone.

    mien results add runs/baseline-balance-sampler --data DATA       (and so for each run that has ended)
    python benchmarks/comparisons.py

docs/class-balance.md and docs/attention.md name the commands that train the runs. Their figures come from the records
in results/runs and, for the packaged models, from results/evaluation; a run without a record is "not run".
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from page import replace_section, signed, table

from mien.evaluation import metrics, plots
from mien.labels import FER7
from mien.training import records
from mien.training.records import Record
from mien.training.results import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RECORDS, PACKAGED = ROOT / "results" / "runs", ROOT / "results" / "evaluation"
NOT_RUN = "not run"
RARE = ("disgust", "fear")
"""Disgust is the rarest class by far; fear is no rare one, but the one that is recognised worst."""


@dataclass(frozen=True)
class Entry:
    """A line of a table: a run, or a packaged model, which has figures and no record."""

    label: str  # as tables and legends call it
    found: Mapping[str, Any] | None = None  # as metrics.json has them; None: not run
    record: Record | None = None

    def counts(self, label: str) -> tuple[int, int]:
        """Faces of a class that were recognised, and all there are."""
        assert self.found is not None
        k = list(self.found["labels"]).index(label)
        row = self.found["confusion"][k]
        return row[k], sum(row)


@dataclass(frozen=True)
class Group:
    """Runs that differ in one thing; the first is what the others are compared with."""

    title: str
    runs: Mapping[str, str]  # record: what to call it
    packaged: Mapping[str, str]  # packaged model: what to call it

    def entries(self, known: Mapping[str, Record], packaged: Path) -> list[Entry]:
        """The runs in their order, then the packaged models."""
        runs = [Entry(label, known[name].metrics, known[name]) if name in known else Entry(label)
                for name, label in self.runs.items()]  # fmt: skip
        return runs + [Entry(label, _packaged(packaged / name)) for name, label in self.packaged.items()]


WAYS = ("none", "sampler", "loss", "logit-adjust")
BALANCE = {
    "baseline": Group(
        "baseline, from scratch",
        {"baseline": "none", **{f"baseline-balance-{way}": way for way in WAYS[1:]}},
        {"baseline": "*packaged* baseline"},
    ),
    "default": Group(
        "resnet9-narrow, trained on",
        {f"default-balance-{way}": way for way in WAYS},
        {"default": "*packaged* default"},
    ),
}
ATTENTION = Group(
    "Networks with and without attention",
    {
        "attention-resnet18-narrow": "resnet18-narrow (none)",
        "attention-cbam": "cbam",
        "attention-lhc": "lhc",
        "resnet18-se": "resnet18-se (full width)",
    },
    {"default": "*packaged* default", "baseline": "*packaged* baseline"},
)


def main() -> None:
    """Write the sections of both pages, and their pictures."""
    known = {one.name: one for one in records.read(RECORDS)}
    for page, sections in pages(known, PACKAGED).items():
        for name, text in sections.items():
            replace_section(name, text, DOCS / page)
        print(DOCS / page)
    groups = {one.title: one.entries(known, PACKAGED) for one in BALANCE.values()}
    draw(groups, DOCS / "images" / "class-balance")
    draw({ATTENTION.title: ATTENTION.entries(known, PACKAGED)}, DOCS / "images" / "attention")


def pages(known: Mapping[str, Record], packaged: Path) -> dict[str, dict[str, str]]:
    """What stands between the comments of each page, by page and comment."""
    balance = {}
    for name, group in BALANCE.items():
        entries = group.entries(known, packaged)
        parts = [overall(entries), recalls(entries), rare(entries), sentences(entries)]
        balance[name] = "\n\n".join(part for part in parts if part)
    entries = ATTENTION.entries(known, packaged)
    same_size = entries[:3]  # the full-width network has no plain counterpart here
    parts = [sizes(entries), overall(entries), recalls(entries), sentences(same_size)]
    return {"class-balance.md": balance, "attention.md": {"networks": "\n\n".join(part for part in parts if part)}}


def rows(
    entries: Sequence[Entry], width: int, cells: Callable[[Entry, Mapping[str, Any]], list[str]]
) -> list[list[str]]:
    """A row an entry: its label and `width` cells, made of what was found, or "not run" and dashes."""
    gap = [NOT_RUN, *["–"] * (width - 1)]
    return [[one.label, *(gap if one.found is None else cells(one, one.found))] for one in entries]


def overall(entries: Sequence[Entry]) -> str:
    """Figures over all classes."""

    def cells(one: Entry, found: Mapping[str, Any]) -> list[str]:
        low, high = found["accuracy_ci95"]
        return [
            _epochs(one),
            f"{100 * found['accuracy']:.2f} ± {50 * (high - low):.2f}",
            f"{100 * found['macro']['recall']:.2f}",
            f"{found['macro_f1']:.4f}",
            f"{found['log_loss']:.4f}",
            f"{100 * found['ece']:.2f}",
        ]

    names = ["epochs", "accuracy, %", "mean recall, %", "macro-F1", "log-loss", "ECE, %"]
    return table(["", *names], rows(entries, len(names), cells))


def recalls(entries: Sequence[Entry]) -> str:
    """Recall of every class in per cent."""

    def cells(_: Entry, found: Mapping[str, Any]) -> list[str]:
        return [f"{100 * found['per_class'][label]['recall']:.1f}" for label in FER7]

    return table(["recall, %", *FER7], rows(entries, len(FER7), cells))


def rare(entries: Sequence[Entry]) -> str:
    """Of disgust and fear: faces found with the interval of the recall, and how many of the answers are right."""

    def cells(one: Entry, found: Mapping[str, Any]) -> list[str]:
        texts = []
        for label in RARE:
            right, n = one.counts(label)
            low, high = metrics.wilson_interval(right, n)
            texts.append(f"{right} of {n}: {100 * right / n:.1f} % ({100 * low:.0f} to {100 * high:.0f})")
            said = sum(row[found["labels"].index(label)] for row in found["confusion"])
            texts.append(f"{100 * right / said:.1f} of {said}" if said else "never said")
        return texts

    names = [f"{label}: {what}" for label in RARE for what in ("found (95 % interval)", "precision, %")]
    return table(["", *names], rows(entries, len(names), cells))


def sizes(entries: Sequence[Entry]) -> str:
    """Size, speed of training and settings of the runs; packaged models have cards of their own."""
    lines = []
    for one in entries:
        if one.record is not None:
            record = one.record
            took = (f"{_epochs(one)}", duration(record.seconds), record.about["device"])
            lines.append([one.label, f"{record.parameters:,}", f"{record.macs / 1e6:,.1f} M", *took])
        elif one.found is None:
            lines.append([one.label, NOT_RUN, *["–"] * 4])
    return table(["network", "parameters", "MACs", "epochs", "time", "device"], lines)


def sentences(entries: Sequence[Entry]) -> str:
    """What each run changed beside the first, in words; nothing where one of the two was not run."""
    first, *others = [one for one in entries if one.record is not None or one.found is None]
    if first.found is None:
        return ""
    return "\n".join(_sentence(first, one) for one in others if one.found is not None)


def _sentence(first: Entry, other: Entry) -> str:
    assert first.found is not None
    assert other.found is not None
    low, high = difference(first.found, other.found)
    points = 100 * (other.found["accuracy"] - first.found["accuracy"])
    doubt = "can be chance" if low <= 0 <= high else "more than chance"
    recall = 100 * (other.found["macro"]["recall"] - first.found["macro"]["recall"])
    faces = []
    for label in RARE:
        (right, n), (before, _) = other.counts(label), first.counts(label)
        faces.append(f"{label} {right} of {n} faces ({before})")
    return (
        f"- **{_plain(other)}** beside {_plain(first)}: accuracy {signed(points)} points ({signed(100 * low)} to "
        f"{signed(100 * high)}, {doubt}), mean recall of the classes {signed(recall)}; found: {', '.join(faces)}."
    )


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[float, float]:
    """95 % interval of the second accuracy less the first, as of different faces (Newcombe 1998, method 10)."""
    (p, q), change = (first["accuracy"], second["accuracy"]), second["accuracy"] - first["accuracy"]
    (p_low, p_high), (q_low, q_high) = first["accuracy_ci95"], second["accuracy_ci95"]
    return change - math.hypot(q - q_low, p_high - p), change + math.hypot(q_high - q, p - p_low)


def draw(groups: Mapping[str, Sequence[Entry]], path: Path) -> None:
    """Recall by class, a panel a group and a mark a run, as PNG and SVG."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    figure = Figure(figsize=(6.2 * len(groups), 5.2), dpi=plots.DPI, layout="constrained")
    for axes, (title, entries) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        _panel(axes, entries)
        axes.set_title(title)
    plots.save(figure, path)


def _panel(axes: "Axes", entries: Sequence[Entry]) -> None:
    rows = np.arange(len(FER7))[::-1]
    for row in rows[:-1]:
        axes.axhline(row - 0.5, color="#dddddd", linewidth=0.6)
    for number, one in enumerate(entries):
        look, name = plots.style(number), _plain(one)
        places = rows + 0.14 * ((len(entries) - 1) / 2 - number)  # one below the other, so that no mark covers another
        if one.found is None:
            axes.plot([], [], look.marker, color=look.colour, label=f"{name}: {NOT_RUN}")
            continue
        values = [100 * one.found["per_class"][label]["recall"] for label in FER7]
        packaged = one.record is None
        fill = "none" if packaged else look.colour
        label = f"{name}: accuracy {100 * one.found['accuracy']:.1f} %"
        axes.plot(values, places, look.marker, color=look.colour, markerfacecolor=fill, markersize=6, label=label)
    axes.set_yticks(rows, FER7)
    axes.set_ylim(-0.5, len(FER7) - 0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("recall, % of the faces of the class")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, fontsize=9, ncols=2)


def _packaged(folder: Path) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def _epochs(entry: Entry) -> str:
    return "see its card" if entry.record is None else f"{len(entry.record.history)}"


def _plain(entry: Entry) -> str:
    return entry.label.replace("*", "")


if __name__ == "__main__":
    main()
