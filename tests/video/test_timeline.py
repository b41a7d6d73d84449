"""Timelines: means over time in bounded memory, as a picture and as a page."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mien.annotate import COLOURS
from mien.evaluation.plots import to_image
from mien.labels import FER7
from mien.video import timeline as timeline_module
from mien.video.summary import Summary
from mien.video.timeline import MOST_BINS, Timeline
from mien.video.timeline_page import timeline_page, write_page
from mien.video.timeline_picture import clock, timeline_figure, write_picture
from tests.video.conftest import coded, tracked
from tests.web.browser import CHROMIUM

HAPPY, SAD = FER7.index("happy"), FER7.index("sad")


def filled(frames: list[tuple[float, dict[int, str]]]) -> tuple[Timeline, Summary]:
    timeline, summary = Timeline(FER7), Summary()
    for time_s, faces in frames:
        found = [tracked(emotion, track=track) for track, emotion in faces.items()]
        timeline.add(coded(1), time_s, found)
        summary.add(time_s, found)
    summary.close()
    return timeline, summary


def test_a_frame_stands_until_the_next() -> None:
    timeline, _ = filled([(0.0, {1: "happy"}), (0.2, {1: "sad"}), (0.24, {})])
    (line,) = timeline.lines()
    assert line.bins.tolist() == [0, 1, 2, 3, 4, 5]  # of 0.04 s
    assert line.emotions.tolist() == [HAPPY] * 5 + [SAD]
    assert line.probabilities[0, HAPPY] == pytest.approx(0.7)
    assert line.probabilities.sum(axis=1) == pytest.approx(1)


def test_a_gap_is_a_gap() -> None:
    timeline, _ = filled([(0.0, {1: "happy"}), (0.04, {}), (0.4, {1: "happy"}), (5.0, {1: "happy"})])
    (line,) = timeline.lines()
    assert [line.bins[run].tolist() for run in line.runs()] == [[0], [10], [125]]  # 5 s without a frame are one too


def test_long_films_keep_their_means_in_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    timeline = Timeline(FER7)
    length = 5000  # frames at 10 Hz, 500 s: bins of 0.64 s
    emotions = rng.choice(["happy", "sad"], length)
    for number, emotion in enumerate(emotions):
        timeline.add(coded(1), 0.1 * number, [tracked(str(emotion))])
    assert timeline.bin_s == pytest.approx(0.64)
    (line,) = timeline.lines()
    assert len(line.bins) <= MOST_BINS
    held = timeline._lines[1].bins[100]
    assert held[0] == 8  # bins of 0.08 s at that time, merged; those between two frames were filled
    inside = emotions[(0.1 * np.arange(length) >= 64.0) & (0.1 * np.arange(length) < 64.64)]
    happy = 0.7 * np.mean(inside == "happy") + 0.05 * np.mean(inside != "happy")
    assert line.probabilities[100, HAPPY] == pytest.approx(happy, abs=0.08)  # a frame's edge falls into a bin


def test_tracks_are_bounded_and_the_shortest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline_module, "MOST_TRACKS", 5)
    timeline = Timeline(FER7)
    for track in range(1, 21):
        for frame in range(track % 7 + 1):
            timeline.add(coded(1), track + 0.05 * frame, [tracked(track=track)])
        timeline.add(coded(1), track + 0.05 * frame + 0.05, [])
    assert len(timeline.lines()) == 5
    assert timeline.known == 20
    assert {6, 13} <= {line.track for line in timeline.lines()}  # those that were seen for longest


def test_names_with_dollars_are_drawn_as_they_are(tmp_path: Path) -> None:
    timeline = Timeline((r"$\happy$", *FER7[1:]))
    timeline.add(coded(1), 0.0, [])
    write_picture(timeline, tmp_path / "timeline.png", title=r"a$\b$.mp4")
    assert (tmp_path / "timeline.png").stat().st_size > 0


def test_the_thumbnail_is_of_the_best_moment() -> None:
    timeline = Timeline(FER7)
    for number, right in ((1, 60), (2, 125), (3, 40)):
        timeline.add(coded(number * 60), 0.1 * number, [tracked(box=(10, 10, right, right - 30))])
    (line,) = timeline.lines()
    assert line.thumbnail.shape == (96, 96, 3)
    assert timeline._lines[1].worth > 0


def crowd(count: int) -> tuple[Timeline, Summary]:
    return filled([(0.2 * n, {track: FER7[(n // 9 + track) % 7] for track in range(1, count + 1)}) for n in range(40)])


@pytest.mark.parametrize("tracks", [0, 1, 14])
def test_picture(tracks: int) -> None:
    timeline, _ = crowd(tracks)
    figure = timeline_figure(timeline, title="film.mp4")
    image = to_image(figure)
    texts = [text.get_text() for text in figure.texts]
    assert ("and 2 shorter tracks" in texts) == (tracks == 14)
    assert ("no face was seen" in texts) == (tracks == 0)
    for label in ("happy", "sad") if tracks else ():
        assert (np.abs(image.astype(int) - COLOURS[label]).max(axis=2) <= 2).sum() > 1000


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_picture_files(tmp_path: Path, ending: str) -> None:
    write_picture(crowd(1)[0], tmp_path / f"timeline.{ending}", title="film $1 <b>")
    assert (tmp_path / f"timeline.{ending}").stat().st_size > 5000


def test_page_holds_all_and_asks_no_other_host() -> None:
    timeline, summary = crowd(14)
    page = timeline_page(timeline, summary, title="a<script>alert(1)</script>&.mp4")
    assert "<script>alert" not in page
    assert "a&lt;script&gt;" in page
    assert not re.findall(r"(?:https?:)?//[a-z]", page)
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data = json.loads(found[1])
    assert data["labels"] == list(FER7)
    assert [track["track"] for track in data["tracks"]] == list(range(1, 15))
    first = data["tracks"][0]
    assert len(first["bins"]) == len(first["percent"]) == len(first["shown"]) == len(first["doubt"])
    assert max(abs(sum(row) - 100) for row in first["percent"]) <= 3  # rounded
    assert first["face"].startswith("data:image/jpeg;base64,")
    assert first["shares"]


def test_page_without_faces() -> None:
    timeline, summary = crowd(0)
    assert "0 tracks" in timeline_page(timeline, summary, title="film.mp4")


@pytest.mark.skipif(CHROMIUM is None, reason="needs the system's Chromium")
def test_page_in_a_browser(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    timeline, summary = crowd(2)
    path = tmp_path / "timeline.html"
    write_page(timeline, summary, path, title="film.mp4")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.on("request", lambda request: faults.extend([] if request.url.startswith(("file:", "data:")) else ["out"]))
        page.goto(path.as_uri())
        canvas = page.locator("canvas").first
        size = canvas.bounding_box()
        canvas.hover(position={"x": size["width"] * 0.5, "y": 40})
        pointed = page.locator(".tip").first.inner_text()
        page.keyboard.press("Tab")
        canvas.focus()
        page.keyboard.press("End")
        last = page.locator(".tip").first.inner_text()
        browser.close()
    line = timeline.lines()[0]
    middle = FER7[line.emotions[np.searchsorted(line.bins, line.bins[-1] // 2)]]
    assert re.match(rf"0:0[34]\.\d +{middle}\n", pointed)
    assert re.search(rf"{middle}\s+70 %", pointed)
    assert last.startswith("0:07.8")
    assert faults == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs the system's Chromium")
@pytest.mark.parametrize("width_px", [300, 1000])
def test_columns_of_the_page_leave_no_stripes(tmp_path: Path, width_px: int) -> None:
    """Also where a bin is no whole number of pixels, and less than one."""
    playwright = pytest.importorskip("playwright.sync_api")
    timeline, summary = Timeline(FER7), Summary()
    for number in range(700):
        found = [tracked(confidence=0.4, uncertain=True)]
        timeline.add(coded(1), 0.04 * number, found)
        summary.add(0.04 * number, found)
    summary.close()
    path = tmp_path / "timeline.html"
    write_page(timeline, summary, path, title="film.mp4")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width_px, "height": 600})
        page.goto(path.as_uri())
        pixels = page.locator("canvas").first.evaluate(
            "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width - 2, c.height - 20).data)"
        )
        height = page.locator("canvas").first.evaluate("c => c.height - 20")
        browser.close()
    image = np.array(pixels, np.uint8).reshape(height, -1, 4)
    assert (image == image[:, :1]).all(), "each row has one colour"
    assert len(np.unique(image[:, 0], axis=0)) <= 2 + len(FER7), "strip, gap, and labels without blends"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (4.26, "0:04.3"), (9.97, "0:10"), (65, "1:05"), (59.6, "1:00"), (3723, "1:02:03")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
