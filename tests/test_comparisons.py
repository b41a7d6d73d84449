"""Pages whose figures scripts write: what they say is what the records and results say."""

import json
import re
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mien import hub
from mien.evaluation import metrics
from mien.labels import FER7
from mien.training import recipe as recipes
from mien.training import records
from mien.training.records import Record
from tests.scripts import benchmark

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def comparisons() -> Iterator[ModuleType]:
    pytest.importorskip("matplotlib")
    with benchmark("comparisons") as script:
        yield script


def run(name: str, right: tuple[int, ...], n: int = 100) -> Record:
    """A record whose model recognises so many of `n` faces of each class, and calls the others happy (or sad)."""
    table = json.loads((REPOSITORY / "results" / "runs" / "baseline.json").read_text())
    confusion = np.diag(right)
    for k, count in enumerate(right):
        confusion[k, FER7.index("sad" if FER7[k] == "happy" else "happy")] += n - count
    found: dict[str, Any] = table["metrics"]
    scores = metrics.class_scores(confusion)
    found["confusion"], found["n"] = confusion.tolist(), int(confusion.sum())
    found["accuracy"] = float(np.trace(confusion) / confusion.sum())
    found["accuracy_ci95"] = list(metrics.wilson_interval(int(np.trace(confusion)), found["n"]))
    found["macro_f1"], found["macro"]["recall"] = scores.macro(scores.f1), scores.macro(scores.recall)
    for k, label in enumerate(FER7):
        found["per_class"][label] = {"recall": scores.recall[k], "precision": scores.precision[k]}
    found["calibration"]["bins"], found["ece"] = [{"n": found["n"], "accuracy": 0.5, "confidence": 0.75}], 0.25
    table.pop("format")
    return Record(**{**deepcopy(table), "name": name, "history": tuple(table["history"])})


def cells(text: str, start: str) -> list[list[str]]:
    """The rows of Markdown tables that begin with `start`."""
    rows = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [[cell.strip() for cell in row.split("|")[2:-1]] for row in rows]


def test_the_pages_hold_what_the_records_give(comparisons: ModuleType) -> None:
    known = {one.name: one for one in records.read(REPOSITORY / "results" / "runs")}
    for page, sections in comparisons.pages(known, REPOSITORY / "results" / "evaluation").items():
        text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
        for name, expected in sections.items():
            (found,) = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
            assert found == expected, f"{page} is older than the records: python benchmarks/comparisons.py"


def test_the_report_on_the_page_is_the_one_that_is_kept(comparisons: ModuleType) -> None:
    del comparisons  # its folder is where this script is imported from, too
    import report_page  # noqa: PLC0415 - a script

    report = json.loads((REPOSITORY / "results" / "report.json").read_text(encoding="utf-8"))
    text = (REPOSITORY / "docs" / "report.md").read_text(encoding="utf-8")
    assert f"<!-- measured -->\n{report_page.section(report)}\n<!-- /measured -->" in text
    for model in report["models"]:  # of the files that are packaged now
        packaged = hub.sha256_of(hub.resolve(model["name"]))
        assert model["metrics"]["model"]["sha256"] == packaged, "make it again: see benchmarks/report_page.py"


def test_the_page_on_the_case_study_is_what_the_records_say(comparisons: ModuleType) -> None:
    del comparisons
    import case_study  # noqa: PLC0415 - a script

    text = (REPOSITORY / "docs" / "case-study.md").read_text(encoding="utf-8")
    known = {one.name: one for one in records.read(REPOSITORY / "results" / "runs")}
    expected = case_study.section(known)
    assert f"<!-- measured -->\n{expected}\n<!-- /measured -->" in text, "make it again: see benchmarks/case_study.py"
    assert case_study.comparison({}).count("not run") == 2 * len(case_study.NETWORKS)


def test_the_audit_on_the_page_is_the_one_that_is_kept(comparisons: ModuleType) -> None:
    del comparisons
    import audit_page  # noqa: PLC0415 - a script

    found = json.loads((REPOSITORY / "results" / "audit.json").read_text(encoding="utf-8"))
    text = (REPOSITORY / "docs" / "audit.md").read_text(encoding="utf-8")
    assert f"<!-- measured -->\n{audit_page.section(found)}\n<!-- /measured -->" in text


def test_what_is_not_in_the_audit_was_not_run(comparisons: ModuleType) -> None:
    del comparisons
    import audit_page  # noqa: PLC0415 - a script

    found = json.loads((REPOSITORY / "results" / "audit.json").read_text(encoding="utf-8"))
    detector = {"no_face": 323, "not_a_face": 161, "both": 100}
    text = audit_page.section({**found, "detectors": {"yunet": detector}, "label_errors": []})
    assert "| no face found by `centerface` | not run |" in text
    assert "| no face found by `yunet` | 323 (1.0 %), among them 100 of the 161 that are none by FER+ |" in text
    assert "| likely label errors | not run |" in text


def test_label_errors_of_two_ways_stand_beside_each_other(comparisons: ModuleType) -> None:
    del comparisons
    import audit_page  # noqa: PLC0415 - a script

    found = json.loads((REPOSITORY / "results" / "audit.json").read_text(encoding="utf-8"))
    witness = {"witnessed": 10, "votes_differ": 0.5, "votes_differ_overall": 0.25, "votes_suggest_the_same": 0.4}
    ways = [
        {"how": "features of default", "folds": 5, "images": 1_234, **witness},
        {"how": "train of baseline", "folds": 3, "settings": ["epochs=8"], "images": 987, **witness},
    ]
    text = audit_page.section({**found, "label_errors": ways})
    assert "| likely label errors, features of `default`, 5 folds | 1,234 |" in text
    assert "| likely label errors, train of `baseline` (epochs=8), 3 folds | 987 |" in text
    assert "images with votes that train of `baseline` (epochs=8), 3 folds, doubt, its most frequent vote" in text


def test_the_tables_of_explanations_are_those_that_are_kept(comparisons: ModuleType, tmp_path: Path) -> None:
    del comparisons
    import explain  # noqa: PLC0415 - a script

    page = REPOSITORY / "docs" / "explanations.md"
    shutil.copy(page, tmp_path)
    results = json.loads((REPOSITORY / "results" / "explain.json").read_text(encoding="utf-8"))
    explain.write_tables(results, tmp_path / page.name)
    assert (tmp_path / page.name).read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
    for model, found in results.items():  # of the files that are packaged now
        assert found["sha256"] == hub.sha256_of(hub.resolve(model)), "make it again: see benchmarks/explain.py"


def test_figures_in_the_text_of_guides() -> None:
    """What sentences quote of the packaged default and of the audit: made again, the text has to follow."""
    found = json.loads((REPOSITORY / "results" / "evaluation" / "default" / "metrics.json").read_text())
    audit = json.loads((REPOSITORY / "results" / "audit.json").read_text())
    accuracy, sure = 100 * found["accuracy"], found["uncertain"]
    crossed = 100 * found["calibration"]["cross_fit"]["ece"]
    low, high = (100 * end for end in found["accuracy_ci95"])
    recall = {label: row["recall"] for label, row in found["per_class"].items()}
    plurality = f"{100 * audit['summary']['plurality_agrees']:.1f} %"
    expected = found["calibration"]["if_calibrated"]
    quoted = {
        "evaluating.md": (
            f"the confidences of `default` shows {100 * expected['ece']:.1f} % on average, and up to "
            f"{100 * expected['ece_p95']:.1f} % in 95",
        ),
        "concepts.md": (
            f"(ECE): {crossed:.1f} % for `default` on FER-2013's PublicTest, fitted on one half and scored on the",
            f"{100 * sure['accuracy_of_certain']:.1f} % of those are right for `default`",
            f"against {accuracy:.1f} % of all",
            f"FER-2013's label for {plurality} of the images",
        ),
        "responsible-use.md": (
            f"{accuracy:.2f} % (95 % interval {low:.2f} to {high:.2f})",
            f"recall of fear {recall['fear']:.2f}, of disgust {recall['disgust']:.2f} (56 faces); the strongest, happy "
            f"{recall['happy']:.2f}",
            f"{plurality} of the images",
            f"{audit['summary']['problems']['conflict']['groups']} groups",
            f"{audit['summary']['problems']['not-a-face']['images']} of 32,298",
        ),
    }
    for page, figures in quoted.items():
        text = " ".join((REPOSITORY / "docs" / page).read_text(encoding="utf-8").split())
        assert [figure for figure in figures if figure not in text] == [], page


def test_commands_on_the_pages_are_those_that_were_run() -> None:
    known = {one.name: one for one in records.read(REPOSITORY / "results" / "runs")}
    for page in ("class-balance.md", "attention.md"):
        text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
        for settings, name in re.findall(r"^\$ mien train (.+) --output runs/([\w-]+)$", text, re.MULTILINE):
            if name in known:
                recipe = recipes.from_dict(known[name].about["recipe"], source=name).to_dict()
                typed = dict(one.split("=") for one in re.findall(r"--set (\S+)", settings))
                assert {key: str(recipe[key]).removesuffix(".0") for key in typed} == typed, f"{page}: {name}"


def test_a_balanced_run_beside_the_plain_one(comparisons: ModuleType) -> None:
    plain = run("baseline", (50, 0, 20, 100, 50, 50, 50))
    balanced = run("baseline-balance-sampler", (40, 30, 40, 90, 40, 40, 40))
    known = {one.name: one for one in (plain, balanced)}
    text = comparisons.pages(known, REPOSITORY / "results" / "evaluation")["class-balance.md"]["baseline"]
    figures, recalls, rare = cells(text, "sampler")
    assert figures[1].startswith("45.71 ± ")
    assert recalls == ["40.0", "30.0", "40.0", "90.0", "40.0", "40.0", "40.0"]
    low, high = metrics.wilson_interval(30, 100)
    assert rare[:2] == [f"30 of 100: 30.0 % ({100 * low:.0f} to {100 * high:.0f})", "100.0 of 30"]
    assert cells(text, "none")[2][1] == "never said"
    assert [row[0] for row in cells(text, "loss")] == ["not run"] * 3
    (sentence,) = re.findall(r"^- .*", text, re.MULTILINE)  # of the only run that there is to compare
    assert sentence.startswith("- **sampler** beside none: accuracy 0.0 points (")
    assert sentence.endswith("can be chance), mean recall of the classes 0.0; found: disgust 30 of 100 faces (0), "
                             "fear 40 of 100 faces (20).")  # fmt: skip


def test_without_records_everything_but_the_packaged_models_is_not_run(comparisons: ModuleType) -> None:
    pages = comparisons.pages({}, REPOSITORY / "results" / "evaluation")
    text = "\n".join(part for sections in pages.values() for part in sections.values())
    assert {row[0] for name in ("none", "cbam", "lhc") for row in cells(text, name)} == {"not run"}
    assert "beside" not in text
    for name in ("default", "baseline"):
        accuracy = json.loads((REPOSITORY / "results" / "evaluation" / name / "metrics.json").read_text())["accuracy"]
        assert any(f"{100 * accuracy:.2f} ±" in " ".join(row) for row in cells(text, f"*packaged* {name}"))


def test_interval_of_a_difference(comparisons: ModuleType) -> None:
    """Newcombe's own example: 56 of 70 and 48 of 80 differ by 0.2, from 0.0524 to 0.3339."""
    first, second = (
        {"accuracy": x / n, "accuracy_ci95": metrics.wilson_interval(x, n)} for x, n in ((48, 80), (56, 70))
    )
    assert comparisons.difference(first, second) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_pictures_are_drawn_with_runs_missing(comparisons: ModuleType, tmp_path: Path) -> None:
    entry = comparisons.Entry
    comparisons.draw({"a": [entry("none", run("baseline", (50,) * 7).metrics), entry("cbam")]}, tmp_path / "picture")
    assert {path.name for path in tmp_path.iterdir()} == {"picture.png", "picture.svg"}
