"""docs/case-study.md: the case study's three networks side by side, from their runs and records.

    mien results add runs/vgg --data DATA                       (and so for each run)
    mien report runs/baseline-50-epochs runs/vgg --data DATA --no-faces --output REPORT
    python benchmarks/case_study.py REPORT runs/baseline-50-epochs runs/vgg

Tables come from the records in results/runs, curves and matrices from the report, the maps from the runs themselves, on
two portraits. A network without a record is "not run". No face of FER-2013 is shown.
"""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from explain import load
from explanation_figures import portraits, shrink
from page import replace_section, table

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
MAPS = "case-study-maps.png"
METHODS = ("saliency", "occlusion")
LENGTHS = {"epochs", "precision", "planned epochs"}  # what may differ in a run of a recipe


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
    Network("resnet50", "ResNet-50", ("resnet50-improved", "resnet50-scratch", "resnet50-distilled", "resnet50-imagenet")),
)


def main() -> None:
    """Copy pictures, draw the maps, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="of the runs, in their order")
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--portraits", type=Path, default=ROOT / "build" / "portraits")
    options = parser.parse_args()
    names = [run.name for run in options.runs]
    known = {record.name: record for record in records.read(RECORDS)}
    if missing := [name for name in names if name not in known]:
        raise SystemExit(f"{missing[0]} has no record: mien results add runs/{missing[0]} --data DATA")
    for name in names:
        for what in ("curves", "confusion-shares"):
            shutil.copy(options.report / "pictures" / f"{name}-{what}.png", IMAGES / f"case-study-{name}-{what}.png")
    maps(options.runs, portraits(options.portraits)).save(IMAGES / MAPS)
    shrink(IMAGES / MAPS)
    replace_section("measured", section(known, names), PAGE)
    print(PAGE)


def section(known: Mapping[str, Record], names: Sequence[str]) -> str:
    """All that is measured, as Markdown."""
    return "\n\n".join([
        comparison(known),
        "## Curves",
        _pictures(names, "curves", "Accuracy and loss of {} by epoch"),
        "## Confusion matrices",
        _pictures(names, "confusion-shares", "Confusion matrix of {}"),
        "## Classification reports",
        "Precision / recall / F1 of each class, per cent.",
        classes([known[name] for name in names]),
    ])  # fmt: skip


def comparison(known: Mapping[str, Record]) -> str:
    """Accuracy and loss of each network: the case study's, with its own settings, and with ours."""
    rows = []
    for network in NETWORKS:
        accuracy, loss = results.CASE_STUDY[network.name]
        rows.append([network.about, "the case study", "n/s", f"{accuracy:.2f}", f"{loss:.2f}"])
        both = (((network.name,), (), "its settings"), (network.ours, network.networks, "our settings"))
        for wanted, networks, what in both:
            followed = [
                one
                for one in known.values()
                if one.about["recipe"]["model"] in networks or any(_follows(one, recipe) for recipe in wanted)
            ]
            rows += [_measured(network, what, one) for one in sorted(followed, key=lambda one: one.metrics["accuracy"])]
            if not followed:
                names = " or ".join(f"`{recipe}`" for recipe in wanted)
                rows.append([network.about, f"{what}, {names}: not run", "", "", ""])
    return table(["network", "trained", "epochs", "accuracy, %", "loss"], rows, text_columns=2)


def _follows(record: Record, recipe: str) -> bool:
    """Whether a run is the recipe's, at any number of epochs and in any precision."""
    origin = results.origin(record)
    return origin.recipe == recipe and not set(origin.changes) - LENGTHS


def _measured(network: Network, what: str, record: Record) -> list[str]:
    found, origin = record.metrics, results.origin(record)
    whole = record.about["recipe"] if set(origin.changes) - LENGTHS else recipes.read(origin.recipe).to_dict()
    planned = whole["epochs"]
    low, high = found["accuracy_ci95"]
    ran, begun = len(record.history), record.about.get("start")
    after = f", after `{begun['source']}`" if begun else ""
    return [
        network.about,
        f"{what}, run `{record.name}`",
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


def _pictures(names: Sequence[str], what: str, alt: str) -> str:
    """One beside the other."""
    row = [f"![{alt.format(name)}](images/case-study-{name}-{what}.png)" for name in names]
    return table([f"`{name}`" for name in names], [row], text_columns=len(names))


def maps(runs: Sequence[Path], pictures: Sequence[Path]) -> Canvas:
    """A row a run: each portrait as the network sees it, then its maps, for the emotion that the network sees."""
    finder = detect.create("centerface")
    rows: list[list[Cell]] = []
    for run in runs:
        predictor = load(str(run))
        row: list[Cell] = []
        for path in pictures:
            picture = read_image(str(path))
            crop = Analyzer(predictor, finder).crops(picture, finder.detect([picture])[0])[0]  # type: ignore[arg-type]
            chances = predictor.predict(crop[None])[0]
            label = predictor.spec.labels[int(chances.argmax())]
            row.append(original_panel(crop, f"{label} {percent(float(chances.max()))}", title=run.name))
            for method in METHODS:
                heatmap = explain(predictor, crop, [label], method=method)[0]
                row.append(heatmap_panel(crop, heatmap))
        rows.append(row)
    return figure(rows)


if __name__ == "__main__":
    main()
