"""docs/case-study.md: the case study's three networks side by side, from their records.

    mien results add runs/vgg --data DATA                       (and so for each run)
    python benchmarks/case_study.py [--maps runs/vgg ...]

Tables, curves and matrices come from the records in results/runs: of each network the longest run with the case study's
settings, and the most accurate with ours. Maps need the weights, and are drawn again for runs that are named, on two
portraits. A network without a record is "not run". No face of FER-2013 is shown.
"""

import argparse
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from explain import load
from explanation_figures import portraits, shrink
from page import replace_section, table

from mien.evaluation import plots
from mien.evaluation.report.figures import Scale, history_figure
from mien.evaluation.report.history import History
from mien.explain.canvas import Canvas, Cell, figure
from mien.explain.explainer import explain
from mien.explain.overlay import heatmap_panel, original_panel, percent
from mien.faces import detect
from mien.images import read_image
from mien.pipeline import Analyzer
from mien.training import recipe as recipes
from mien.training import records, results
from mien.training.records import Record

ROOT = Path(__file__).parents[1]
PAGE, IMAGES, RECORDS = ROOT / "docs" / "case-study.md", ROOT / "docs" / "images", ROOT / "results" / "runs"
OPTIMIZERS = (
    "baseline", "baseline-sgd", "resnet50-optimizer-adam-1e-3", "resnet50-optimizer-adam-1e-4", "resnet50-optimizer-sgd"
)  # fmt: skip
"""Runs of equal settings but these."""

GROUPS = ("As the case study describes them", "With settings of our own")
METHODS = ("saliency", "occlusion")
LENGTHS = {"epochs", "precision", "planned epochs"}  # what may differ in a run of a recipe
START = {"pretrained", "layout"}  # this too where a network's own start cannot be had; the table says so


@dataclass(frozen=True)
class Network:
    """One of the three, and the recipes that train it."""

    name: str  # its faithful recipe is called the same
    about: str
    ours: tuple[str, ...]  # recipes
    networks: tuple[str, ...] = ()  # of mien's own: every run of theirs counts as ours, whatever its recipe


NETWORKS = (
    Network("baseline", "baseline CNN", ("baseline-improved", "baseline-distilled")),
    Network(
        "vgg",
        "VGG-style CNN",
        ("vgg-modern", "vgg-narrow", "vgg-narrow-distilled", "vgg-narrow-refined"),
        ("vgg-narrow",),
    ),
    Network(
        "resnet50",
        "ResNet-50",
        (
            "resnet50-improved",
            "resnet50-scratch",
            "resnet50-distilled",
            "resnet50-imagenet",
            "resnet50-imagenet-further",
        ),
    ),
)


def main() -> None:
    """Draw the pictures, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="+", default=(), metavar="RUN", help="folders: a row of maps each")
    parser.add_argument("--portraits", type=Path, default=ROOT / "build" / "portraits")
    options = parser.parse_args()
    known = {record.name: record for record in records.read(RECORDS)}
    for shown in chosen(known).values():
        draw(shown, known)
    for run in options.maps:
        path = _picture(Path(run).name, "maps")
        maps(run, portraits(options.portraits)).save(path)
        shrink(path)
    replace_section("measured", section(known), PAGE)
    print(PAGE)


def section(known: Mapping[str, Record]) -> str:
    """All that is measured, as Markdown."""
    parts = [comparison(known)]
    for title, shown in chosen(known).items():
        parts += [
            f"## {title}",
            "### Curves",
            _pictures(shown, "curves", "Accuracy and loss of {} by epoch"),
            "### Confusion matrices",
            _pictures(shown, "confusion-shares", "Confusion matrix of {}"),
            "### Classification reports",
            "Precision / recall / F1 of each class, per cent.",
            classes(shown),
            "### What they look at",
            *(
                f"![Saliency and occlusion of {one.name} on two portraits](images/{_picture(one.name, 'maps').name})"
                for one in shown
            ),
        ]
    return "\n\n".join([*parts, "## Adam against SGD", optimizers(known)])


def optimizers(known: Mapping[str, Record]) -> str:
    """A row a run of `OPTIMIZERS`."""
    rows = []
    for name in OPTIMIZERS:
        if name not in known:
            rows.append([f"`{name}`: not run", *[""] * 7])
            continue
        found, recipe = known[name].metrics, known[name].about["recipe"]
        low, high = found["accuracy_ci95"]
        rows.append([
            f"`{name}`",
            f"{recipe['optimizer']}, {recipe['lr']:g}",
            str(len(known[name].history)),
            f"{100 * found['accuracy']:.2f} ± {50 * (high - low):.2f}",
            f"{found['log_loss']:.2f}",
            f"{found['macro_f1']:.3f}",
            *(f"{100 * found['per_class'][label]['recall']:.1f}" for label in ("fear", "disgust")),
        ])  # fmt: skip
    heads = [
        "run",
        "optimiser, rate",
        "epochs",
        "accuracy, %",
        "loss",
        "macro-F1",
        "recall of fear, %",
        "of disgust, %",
    ]
    return table(heads, rows, text_columns=2)


def chosen(known: Mapping[str, Record]) -> dict[str, list[Record]]:
    """By group, a run of each network that has one: the longest with the case study's settings, the best with ours.

    A run of a single epoch stands in the table alone: it has no curve.
    """
    found: dict[str, list[Record]] = {group: [] for group in GROUPS}
    for network in NETWORKS:
        theirs, ours = ([one for one in runs if one.has_curve] for runs in runs_of(network, known))
        if theirs:
            found[GROUPS[0]].append(max(theirs, key=lambda one: len(one.history)))
        if ours:
            found[GROUPS[1]].append(max(ours, key=lambda one: one.metrics["accuracy"]))
    return found


def runs_of(network: Network, known: Mapping[str, Record]) -> tuple[list[Record], list[Record]]:
    """Its runs with the case study's settings, and those with ours, the least accurate first."""
    ranked = sorted(known.values(), key=lambda one: one.metrics["accuracy"])
    theirs = [one for one in ranked if _follows(one, network.name, LENGTHS | START)]
    ours = [
        one
        for one in ranked
        if one.about["recipe"]["model"] in network.networks or any(_follows(one, recipe) for recipe in network.ours)
    ]
    return theirs, ours


def draw(shown: Sequence[Record], known: Mapping[str, Record]) -> None:
    """Curves on axes that all share, and confusion matrices."""
    histories = [course(one, known) for one in shown]
    scale = Scale.of(histories)
    for one, history in zip(shown, histories, strict=True):
        matrix = np.array(one.metrics["confusion"], np.int64)
        figures = {
            "curves": history_figure(history, scale, title=one.name),
            "confusion-shares": plots.confusion_figure(matrix, one.metrics["labels"], show="shares"),
        }
        for what, drawn in figures.items():
            drawn.savefig(_picture(one.name, what), metadata={"Software": None})


def course(record: Record, known: Mapping[str, Record]) -> History:
    """Its epochs, behind those of the runs that it went on with, counted through."""
    runs = [record]
    while (begun := runs[0].about.get("start")) and (before := known.get(begun["source"].removesuffix(".safetensors"))):
        runs.insert(0, before)
    rows = list(chain.from_iterable(one.history for one in runs))
    measured = len(rows) - len(record.history) + record.epoch
    return History(tuple({**row, "epoch": epoch} for epoch, row in enumerate(rows, 1)), measured)


def _picture(run: str, what: str) -> Path:
    return IMAGES / f"case-study-{run}-{what}.png"


def comparison(known: Mapping[str, Record]) -> str:
    """Accuracy and loss of each network: the case study's, with its own settings, and with ours."""
    rows = []
    for network in NETWORKS:
        accuracy, loss = results.CASE_STUDY[network.name]
        rows.append([network.about, "the case study", "n/s", f"{accuracy:.2f}", f"{loss:.2f}"])
        named = zip(
            runs_of(network, known), ("its settings", "our settings"), ((network.name,), network.ours), strict=True
        )
        for runs, what, wanted in named:
            rows += [_measured(network, what, one) for one in runs]
            if not runs:
                names = " or ".join(f"`{recipe}`" for recipe in wanted)
                rows.append([network.about, f"{what}, {names}: not run", "", "", ""])
    return table(["network", "trained", "epochs", "accuracy, %", "loss"], rows, text_columns=2)


def _follows(record: Record, recipe: str, but: Set[str] = LENGTHS) -> bool:
    """Whether a run is the recipe's, `but` for these settings."""
    origin = results.origin(record)
    return origin.recipe == recipe and not set(origin.changes) - but


def _measured(network: Network, what: str, record: Record) -> list[str]:
    found, origin = record.metrics, results.origin(record)
    whole = record.about["recipe"] if set(origin.changes) - LENGTHS - START else recipes.read(origin.recipe).to_dict()
    planned = whole["epochs"]
    low, high = found["accuracy_ci95"]
    ran, begun = len(record.history), record.about.get("start")
    after = f", after `{begun['source']}`" if begun else ""
    other = f" from `{origin.changes['pretrained']}`" if "pretrained" in origin.changes else ""
    return [
        network.about,
        f"{what}{other}, run `{record.name}`",
        (str(ran) if ran >= planned else f"{ran} of {planned}") + after,
        f"{100 * found['accuracy']:.2f} ± {50 * (high - low):.2f}",
        f"{found['log_loss']:.2f}",
    ]


def classes(shown: Sequence[Record]) -> str:
    """Precision, recall and F1 of every class, a column a run."""
    rows = []
    for label in shown[0].metrics["labels"]:
        scores = [one.metrics["per_class"][label] for one in shown]
        rows.append([label, *map(_three, scores), str(scores[0]["support"])])
    for mean in ("macro", "weighted"):
        rows.append([f"*{mean} mean*", *(_three(one.metrics[mean]) for one in shown), str(shown[0].metrics["n"])])
    return table(["class", *(f"`{one.name}`" for one in shown), "faces"], rows)


def _three(scores: Mapping[str, float]) -> str:
    return " / ".join(f"{100 * scores[key]:.0f}" for key in ("precision", "recall", "f1"))


def _pictures(shown: Sequence[Record], what: str, alt: str) -> str:
    """One beside the other."""
    row = [f"![{alt.format(one.name)}](images/{_picture(one.name, what).name})" for one in shown]
    return table([f"`{one.name}`" for one in shown], [row], text_columns=len(shown))


def maps(run: str, pictures: Sequence[Path]) -> Canvas:
    """Each portrait as the run's network sees it, then its maps, for the emotion that it sees."""
    finder = detect.create("centerface")
    predictor = load(run)
    row: list[Cell] = []
    for path in pictures:
        picture = read_image(str(path))
        crop = Analyzer(predictor, finder).crops(picture, finder.detect([picture])[0])[0]  # type: ignore[arg-type]
        chances = predictor.predict(crop[None])[0]
        label = predictor.spec.labels[int(chances.argmax())]
        row.append(original_panel(crop, f"{label} {percent(float(chances.max()))}", title=Path(run).name))
        for method in METHODS:
            heatmap = explain(predictor, crop, [label], method=method)[0]
            row.append(heatmap_panel(crop, heatmap))
    return figure([row])


if __name__ == "__main__":
    main()
