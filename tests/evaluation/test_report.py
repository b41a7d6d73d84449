"""The report: every part is there and agrees with the figures, and its page stands alone."""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sk
from tests.web import browser as browsers

from mien.datasets.packed import Split
from mien.errors import DataError, MissingExtraError, ModelError
from mien.evaluation import metrics
from mien.evaluation.compare import confused_pairs
from mien.evaluation.evaluate import Evaluation
from mien.evaluation.report import History, Subject, figures, read_history, write_report
from mien.evaluation.report import faces as chosen
from mien.evaluation.report.history import history_of
from mien.evaluation.report.subject import in_order_of
from mien.labels import FER7, FERPLUS8

Subjects = tuple[Subject, Subject]
WIDTHS = {"desktop": (1280, 900), "tablet": (830, 1000), "phone": (390, 844)}


@pytest.fixture(scope="module")
def report(subjects: Subjects, cartoon_faces: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on two models."""
    folder = tmp_path_factory.mktemp("report")
    steps: list[tuple[int, int]] = []
    about = {"source": "drawn", "split": "validation"}
    page = write_report(subjects, cartoon_faces.images, folder, about=about, progress=lambda *done: steps.append(done))
    assert page == folder / "index.html"
    assert steps[-1] == (len(steps), len(steps)) == (len(list((folder / "pictures").glob("*.png"))),) * 2
    return folder


class Parsed(HTMLParser):
    """Addresses, alternative texts and visible words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.pictures_without_alt = 0
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [value for key in ("src", "href") if (value := found.get(key))]
        self.ids |= {found["id"]} if found.get("id") else set()
        self.pictures_without_alt += tag == "img" and "alt" not in found

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def page(report: Path) -> Parsed:
    return Parsed((report / "index.html").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_else(page: Parsed, report: Path) -> None:
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= page.ids
    assert page.pictures_without_alt == 0
    text = (report / "index.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "url(" not in text
    assert str(report) not in text


def test_every_part_is_a_file(report: Path) -> None:
    own = ("confusion-counts", "confusion-shares", "reliability-before", "reliability-after", "worst", "sure-mistakes")
    sheets = [f"class-{label}" for label in FER7]
    expected = {"coverage", "confused", "weak-curves", *(f"ranking-{label}" for label in FER7)}
    expected |= {f"{slug}-{name}" for slug in ("weak", "strong-net") for name in (*own, *sheets)}
    for suffix in ("png", "svg"):
        assert {path.stem for path in (report / "pictures").glob(f"*.{suffix}")} == expected
    data = {path.stem for path in (report / "data").iterdir()}
    assert data == {
        "per-class", "confusion", "reliability", "coverage", "ranking", "curves", "differences", "confused-pairs",
    }  # fmt: skip
    for slug in ("weak", "strong-net"):
        assert {path.name for path in (report / "models" / slug).iterdir()} == {"metrics.json", "predictions.csv"}
    with Image.open(report / "pictures" / "weak-worst.png") as picture:
        assert picture.width > 500


def test_the_page_says_what_was_measured(page: Parsed, subjects: Subjects) -> None:
    words = re.sub(r"\s+", " ", page.words)
    for one in subjects:
        assert f"{100 * one.evaluation.correct.mean():.1f} %" in words
        assert f"{100 * one.before.ece:.2f} %" in words
        assert f"{100 * metrics.if_calibrated(one.evaluation.reliability).ece:.1f} %" in words
        assert f"{one.rankings['fear'].roc_auc:.3f}" in words
    assert "Best epoch 4 of 6: 60.0 %; measured here: epoch 6" in words
    assert "21.0 points ahead of validation, whose loss has risen by 0.20" in words
    assert "No curves: it came as a file." in words
    assert "weak carries no threshold" in words
    assert "strong/net against weak" in words
    for pair in ("angry – surprise", "fear – sad"):
        assert pair in words
    assert "macro" in words
    assert "weighted" in words


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_numbers_agree_with_scikit_learn(report: Path, subjects: Subjects) -> None:
    rows = read_csv(report / "data" / "per-class.csv")
    for one in subjects:
        found = one.evaluation
        expected = sk.classification_report(
            found.targets, found.predicted, target_names=FER7, output_dict=True, zero_division=0
        )
        own = {row["class"]: row for row in rows if row["model"] == one.name}
        assert list(own) == [*FER7, "macro", "weighted"]
        for label, row in own.items():
            theirs = expected[label if label in FER7 else f"{label} avg"]
            for ours, name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
                assert float(row[ours]) == pytest.approx(theirs[name], abs=1e-5)
            assert int(row["support"]) == theirs["support"]
    table = json.loads((report / "report.json").read_text())
    assert [model["name"] for model in table["models"]] == ["weak", "strong/net"]
    assert table["models"][0]["history"]["best_epoch"] == 4
    assert table["models"][1]["history"] is None
    assert table["differences"][0]["accuracy"]["change"] == pytest.approx(
        subjects[1].evaluation.correct.mean() - subjects[0].evaluation.correct.mean()
    )
    confusion = read_csv(report / "data" / "confusion.csv")
    assert sum(int(row["faces"]) for row in confusion) == 2 * 70


def test_before_and_after_calibration(subjects: Subjects) -> None:
    weak, strong = subjects
    np.testing.assert_allclose(weak.as_trained, weak.evaluation.probabilities, atol=1e-6)
    assert weak.after is weak.after_cross_fit
    sharper = strong.evaluation.probabilities.astype(np.float64) ** 1.6  # softmax(z) of softmax(z / 1.6)
    np.testing.assert_allclose(strong.as_trained, sharper / sharper.sum(axis=1, keepdims=True), rtol=1e-4)
    assert strong.after.ece == strong.evaluation.reliability.ece != strong.before.ece
    stages = strong.to_dict()["calibration_stages"]
    assert stages["as_it_answers"]["temperature"] == 1.6
    assert strong.evaluation.to_dict()["calibration"]["cross_fit"]["ece"] == pytest.approx(
        stages["cross_fitted"]["ece"], abs=0.02
    )


def test_sheets_show_the_faces_that_they_name(subjects: Subjects) -> None:
    found = subjects[0].evaluation
    worst, sure, *classes = chosen.sheets(found)
    assert (worst.key, sure.key) == ("worst", "sure-mistakes")
    assert [sheet.title for sheet in classes] == list(FER7)
    assert not any(note.right for note in (*worst.faces, *sure.faces))
    losses = sorted(found.probabilities[np.arange(70), found.targets][~found.correct])
    assert [note.of_label for note in worst.faces] == pytest.approx(losses[: len(worst.faces)])
    confidences = sorted(found.probabilities.max(axis=1)[~found.correct], reverse=True)
    assert [note.confidence for note in sure.faces] == pytest.approx(confidences[: len(sure.faces)])
    assert len(worst.faces) == min(chosen.MISTAKES, int((~found.correct).sum()))
    for label, sheet in zip(FER7, classes, strict=True):
        assert {note.label for note in sheet.faces} == {label}
        chances = [note.of_label for note in sheet.faces]
        assert chances == sorted(chances, reverse=True)
        assert all(note.name == found.names[note.row] for note in sheet.faces)


def test_a_model_without_mistakes_has_no_sheets_of_them(cartoon_faces: Split) -> None:
    sure = (0.3 / 7 + 0.7 * np.eye(7)[cartoon_faces.labels]).astype(np.float32)
    sheets = chosen.sheets(Evaluation(FER7, cartoon_faces.labels, sure, cartoon_faces.names))
    assert [sheet.title for sheet in sheets] == list(FER7)


def test_one_model_and_no_faces(subjects: Subjects, cartoon_faces: Split, tmp_path: Path) -> None:
    page = write_report([replace(subjects[1], name="one")], cartoon_faces.images, tmp_path, show_faces=False)
    text = page.read_text(encoding="utf-8")
    assert "data:image/png" not in text  # charts are SVG
    assert 'id="faces"' not in text
    assert 'id="differences"' not in text
    assert not list((tmp_path / "pictures").glob("*class*"))
    assert not (tmp_path / "data" / "curves.csv").exists()
    assert not (tmp_path / "data" / "differences.csv").exists()


def test_labels_of_figures_do_not_overlap(subjects: Subjects, history: History, report: Path) -> None:
    pairs = confused_pairs([one.evaluation for one in subjects])
    names = ["a name that is longer than any figure has room for in its legend", "strong"]
    long = [replace(one, name=name) for one, name in zip(subjects, names, strict=True)]
    drawn = [
        figures.history_figure(history, figures.Scale.of([history]), title=names[0]),
        figures.coverage_figure(long),
        figures.ranking_figure("surprise", long),
        figures.confused_figure(pairs, names),
    ]
    for figure in drawn:
        figure.draw_without_rendering()
        width, height = figure.get_size_inches() * figure.dpi
        (legend,) = figure.legends
        boxes = [text.get_window_extent() for text in (*legend.get_texts(), *ticks_of(figure))]
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
        assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
        for axes in figure.axes:
            assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_marks_on_the_edge_are_whole(subjects: Subjects) -> None:
    """A model that confuses a pair of classes never has its mark at 0, on the axis."""
    pairs = confused_pairs([one.evaluation for one in subjects])
    (axes,) = figures.confused_figure(pairs, ["weak", "strong"]).axes
    marks = [line for line in axes.lines if line.get_label() in ("weak", "strong")]
    assert [line.get_clip_on() for line in marks] == [False, False]


def ticks_of(figure: Any) -> list[Any]:
    """Tick labels of the y axes that are inside them: matplotlib keeps more, and hides them."""
    found = []
    for axes in figure.axes:
        low, high = sorted(axes.get_ylim())
        found += [tick.label1 for tick in axes.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    return found


def test_histories_are_read_from_runs(tmp_path: Path, history: History) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": {"keep": "best"}}))
    assert read_history(tmp_path) is None
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(dict(row)) + "\n" for row in history.rows))
    found = read_history(tmp_path)
    assert found is not None
    assert (found.rows, found.best_epoch, found.measured_epoch) == (history.rows, 4, 4)
    last = history_of(history.rows, keep="last")
    assert last is not None
    assert last.measured_epoch == 6
    (tmp_path / "history.jsonl").write_text("{broken")
    with pytest.raises(ModelError, match="name a run folder"):
        read_history(tmp_path)


def test_classes_in_another_order_are_put_in_order(subjects: Subjects) -> None:
    found = subjects[0].evaluation
    backwards = in_order_of(found, FER7[::-1])
    np.testing.assert_array_equal(backwards.confusion, found.confusion[::-1, ::-1])
    again = in_order_of(backwards, FER7)
    np.testing.assert_array_equal(again.probabilities, found.probabilities)
    np.testing.assert_array_equal(again.targets, found.targets)


def test_faults(subjects: Subjects, cartoon_faces: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="at least one model"):
        write_report([], cartoon_faces.images, tmp_path)
    with pytest.raises(DataError, match="these 9 images"):
        write_report(subjects, cartoon_faces.images[:9], tmp_path)
    with pytest.raises(DataError, match="report them apart"):
        in_order_of(subjects[0].evaluation, FERPLUS8)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"mien\[train\]"):
        write_report(subjects, cartoon_faces.images, tmp_path)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if browsers.CHROMIUM is None:
        pytest.skip("apt-get install chromium")
    with playwright.sync_playwright() as session:
        browser = session.chromium.launch(executable_path=browsers.CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_every_picture_shows(width: str, chromium: Any, report: Path) -> None:
    across, down = WIDTHS[width]
    page = chromium.new_page(viewport={"width": across, "height": down})
    page.set_default_timeout(browsers.PATIENCE_MS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((report / "index.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == across
    broken = "[...document.images].filter(one => !(one.complete && one.naturalWidth)).length"
    assert page.evaluate(broken) == 0
    cut = "[...document.querySelectorAll('#classes .scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
    assert page.evaluate(cut) == 0  # two columns of tables, of the narrowest that a column gets: none needs a bar
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    page.close()
