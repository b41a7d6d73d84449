"""docs/report.md's section on the packaged models: its pictures, tables and sentences, from two reports.

    mien report baseline default --data DATA --no-faces --output REPORT
    mien report runs/baseline runs/default --data DATA --no-faces --output CURVES
    python benchmarks/report_page.py REPORT CURVES

The first is of the packaged files, the second, for the curves, of runs. Figures go to results/report.json, and from
there into the page; no picture shows a face of the data set.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from page import replace_section, signed, table

ROOT = Path(__file__).parents[1]
PAGE, IMAGES, RESULTS = ROOT / "docs" / "report.md", ROOT / "docs" / "images", ROOT / "results" / "report.json"
PICTURES = (
    "baseline-confusion-shares", "default-confusion-shares", "confused", "default-reliability-before",
    "default-reliability-after", "coverage", "ranking-fear",
)  # fmt: skip
CURVES = ("baseline-curves", "default-curves")


def main() -> None:
    """Copy pictures and figures, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="of the packaged models, the one to compare with first")
    parser.add_argument("curves", type=Path, help="of runs")
    options = parser.parse_args()
    for folder, names in ((options.report, PICTURES), (options.curves, CURVES)):
        for name in names:
            shutil.copy(folder / "pictures" / f"{name}.png", IMAGES / f"report-{name}.png")
    found = json.loads((options.report / "report.json").read_text(encoding="utf-8"))
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    replace_section("measured", section(found), PAGE)
    print(PAGE)


def section(report: Mapping[str, Any]) -> str:
    """Figures of each model, the difference, the classes and the confusions, as Markdown."""
    models = report["models"]
    parts = [overall(models), *(difference(one) for one in report["differences"]), classes(models)]
    if report["differences"]:
        parts.append(confusions(report))
    return "\n\n".join(parts)


def overall(models: Sequence[Mapping[str, Any]]) -> str:
    """Figures over all classes."""
    rows = []
    for one in models:
        found, stages = one["metrics"], one["calibration_stages"]
        sure = found["uncertain"]
        rows.append([
            f"`{one['name']}`",
            f"{100 * found['accuracy']:.1f} ± {50 * (found['accuracy_ci95'][1] - found['accuracy_ci95'][0]):.1f}",
            f"{100 * found['accuracy_without_twins']:.1f}",
            f"{found['macro_f1']:.3f}",
            f"{stages['as_it_answers']['log_loss']:.3f}",
            f"{100 * stages['as_trained']['ece']:.1f}, then {100 * stages['as_it_answers']['ece']:.1f}",
            f"{100 * sure['coverage']:.0f}, of them {100 * sure['accuracy_of_certain']:.1f} right",
        ])  # fmt: skip
    return table(["model", "accuracy, %", "without twins, %", "macro-F1", "log-loss", "ECE, %", "certain, %"], rows)


def difference(found: Mapping[str, Any]) -> str:
    """Two models on the same faces, in a sentence."""
    first, second, p = found["first"], found["second"], found["mcnemar_p_holm"]
    accuracy, macro = _change(found["accuracy"], 1, 100), _change(found["macro_f1"], 3)
    alone, other = found["only_second_right"], found["only_first_right"]
    spoken = "< 0.0001" if p < 1e-4 else f"= {p:.4f}"
    return (
        f"`{second}` beside `{first}`, on the same faces: accuracy {accuracy} percentage points, macro-F1 {macro}. "
        f"{alone} faces it alone gets right, {other} only `{first}` (McNemar's test, p {spoken})."
    )


def classes(models: Sequence[Mapping[str, Any]]) -> str:
    """Precision, recall and F1 of every class, a column a model."""
    rows = []
    for label in models[0]["metrics"]["labels"]:
        row = [label]
        for key in ("precision", "recall", "f1"):
            row += [f"{100 * one['metrics']['per_class'][label][key]:.1f}" for one in models]
        rows.append([*row, str(models[0]["metrics"]["per_class"][label]["support"])])
    heads = [f"{key}: {one['name']}" for key in ("precision", "recall", "F1") for one in models]
    return table(["class, %", *heads, "faces"], rows)


def confusions(report: Mapping[str, Any]) -> str:
    """Which confusions shrank from the first model to the last: those that the case study follows, and clear ones."""
    first, last = report["models"][0]["name"], report["models"][-1]["name"]
    followed, fewer, more = [], [], []
    for pair in report["confused_pairs"]:
        before, after = (sum(pair["models"][name].values()) for name in (first, last))
        low, high = pair["changes"][last]["ci95"]
        text = f"{' – '.join(pair['labels'])} {before} to {after}"
        if set(pair["labels"]) in ({"angry", "surprise"}, {"fear", "sad"}):
            doubt = "" if low > 0 or high < 0 else ", which can be chance"
            followed.append(f"{text} ({signed(low, 0)} to {signed(high, 0)}{doubt})")
        elif high < 0:
            fewer.append(text)
        elif low > 0:
            more.append(text)
    clear = f"{', '.join(fewer) or 'none'}. Clearly more: {', '.join(more) or 'none'}."
    return (
        f"Faces of one class called the other, either way, from `{first}` to `{last}`: {'; '.join(followed)}. Clearly "
        f"fewer (the 95 % interval leaves out 0): {clear}"
    )


def _change(found: Mapping[str, Any], digits: int, factor: float = 1) -> str:
    value, low, high = (signed(factor * one, digits) for one in (found["change"], *found["ci95"]))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
