"""Accuracy and calibration under corruptions, and what docs/robustness.md shows of them.

    python benchmarks/robustness.py --data DATA
    python benchmarks/robustness.py --data DATA --model default --against baseline --limit 1000

measures the models on the validation faces of a packed data set as `mien evaluate MODEL --robustness` does, and writes
results/robustness.json, the tables between the markers of docs/robustness.md, and the curves in docs/images. The
corruptions are shown on a portrait in the public domain: no face of FER-2013 may be.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import page
from matplotlib import cbook

import mien
from mien.cli.opened import names_of, open_model
from mien.datasets import packed
from mien.evaluation import plots, robustness
from mien.evaluation import robustness_output as output
from mien.preprocess import to_grey

DOCUMENT, PICTURES = page.ROOT / "docs" / "robustness.md", page.ROOT / "docs" / "images"


def main() -> None:
    """Measure, and write the results, the page's part and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="packed data set")
    parser.add_argument("--model", default="default")
    parser.add_argument("--against", action="append", help="repeatable; the first is the reference; default: baseline")
    parser.add_argument("--limit", type=int, help="so many faces, drawn at random; default: all")
    parser.add_argument("--output", type=Path, default=page.ROOT / "results" / "robustness.json")
    options = parser.parse_args()

    names = [options.model, *(options.against or ["baseline"])]
    found = measure(names, options.data, options.limit)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    options.output.write_text(text + "\n", encoding="utf-8")
    write_page(found)
    print(output.markdown(found))


def measure(names: list[str], data: Path, limit: int | None) -> robustness.Robustness:
    """Every model on the validation faces, or on `limit` of them."""
    dataset = packed.load(data, only=("validation",))
    whole = dataset.split("validation")
    split = whole if limit is None else robustness.subset(whole, limit)
    models = [open_model(name) for name in names]
    contenders = [
        robustness.Contender(name, one.spec.labels, one.predict, one.about)
        for name, one in zip(names_of(names, models), models, strict=True)
    ]
    landmarks = models[0].spec.landmarks
    found = robustness.measure(contenders, split, dataset.labels, landmarks=landmarks, progress=Dots(len(split)))
    data_about = {"source": data.resolve().name, "split": "validation", "digest": whole.digest}
    return replace(found, about={**found.about, "limit": limit, "data": data_about, "version": mien.__version__})


class Dots:
    """A dot for each pass of a model over the faces."""

    def __init__(self, faces: int) -> None:
        self.faces, self.done = faces, 0

    def __call__(self, more: int) -> None:
        """So many more are done."""
        before, self.done = self.done // self.faces, self.done + more
        print("." * (self.done // self.faces - before), end="", flush=True)


def write_page(found: robustness.Robustness) -> None:
    """Put tables and pictures where docs/robustness.md has them."""
    limit = found.about["limit"]
    which = "all" if limit is None else "drawn at random from all"
    about = (
        f"Measured on {found.n:,} faces of PublicTest ({which} 3,589), in per cent; accuracy and ECE are means of the"
    )
    assert found.reference is not None
    caption = f"{about} five strengths, *error* is the share of the errors of `{found.reference.name}`:"
    curves = (
        "![Accuracy of each model under each corruption, by strength](images/robustness-accuracy.png)",
        "![Expected calibration error of each model under each corruption, by strength](images/robustness-ece.png)",
    )
    page.replace_section("measured", "\n\n".join((caption, output.markdown(found).strip(), *curves)), DOCUMENT)
    PICTURES.mkdir(parents=True, exist_ok=True)
    analyzer = mien.load()
    portrait = analyzer.analyze(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))[0]
    face = to_grey(portrait.crop[None])[0]
    figures = {
        "robustness-accuracy": output.curves_figure(found, show="accuracy"),
        "robustness-ece": output.curves_figure(found, show="ece"),
        "robustness-samples": output.samples_figure(face, landmarks=analyzer.spec.landmarks),
    }
    for name, figure in figures.items():
        plots.save(figure, PICTURES / name)
        (PICTURES / f"{name}.svg").unlink()  # pages show the PNG


if __name__ == "__main__":
    main()
