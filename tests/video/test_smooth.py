"""Smoothing against its closed form, a weighted sum over all frames; the browser's smoothing against the same file."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.video.smooth import FLOOR, Smoother, decide
from mien.video.track import TrackSettings

REPOSITORY = Path(__file__).parents[2]
TRACKS_JS = REPOSITORY / "src" / "mien" / "web" / "static" / "js" / "tracks.js"


@pytest.fixture(scope="module")
def fixture() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((REPOSITORY / "tests" / "web" / "smoothing.json").read_text(encoding="utf-8"))
    return loaded


def closed_form(time_s: list[float], probabilities: list[list[float]], half_life_s: float) -> NDArray[np.float64]:
    """Every frame's log weighs 1 - a of its own step, times what later frames have left of it."""
    times, logs = np.array(time_s), np.log(np.maximum(probabilities, FLOOR))
    own = np.append(1, 1 - 2 ** (-np.diff(times) / half_life_s))
    left = np.tril(2.0 ** (-(times[:, None] - times[None]) / half_life_s))
    weighted = np.exp((left * own) @ logs)
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True))


def test_fixture_is_the_closed_form(fixture: dict[str, Any]) -> None:
    expected = closed_form(fixture["time_s"], fixture["probabilities"], fixture["half_life_s"])
    assert np.array(fixture["smoothed"]) == pytest.approx(expected, abs=1e-8)
    best = expected.argmax(axis=1)
    assert (best != fixture["shown"]).sum() >= 5, "hysteresis has something to do"


def test_smoother_is_that_of_the_fixture(fixture: dict[str, Any]) -> None:
    smoother = Smoother(half_life_s=fixture["half_life_s"], hysteresis=fixture["hysteresis"])
    got = [
        smoother.update(np.array(p, np.float32), t)
        for p, t in zip(fixture["probabilities"], fixture["time_s"], strict=True)
    ]
    assert np.array([p for p, _ in got]) == pytest.approx(np.array(fixture["smoothed"]), abs=1e-5)
    assert [shown for _, shown in got] == fixture["shown"]


def test_browser_is_that_of_the_fixture(fixture: dict[str, Any], tmp_path: Path) -> None:
    answer = in_node(
        """
        const { Smoother, HALF_LIFE_S, HYSTERESIS } = tracks;
        const smoother = new Smoother({ halfLifeS: input.half_life_s, hysteresis: input.hysteresis });
        const frames = input.time_s.map((timeS, index) => smoother.update(input.probabilities[index], timeS));
        return { frames, halfLifeS: HALF_LIFE_S, hysteresis: HYSTERESIS };
        """,
        fixture,
        tmp_path,
    )
    smoothed = np.array([frame["probabilities"] for frame in answer["frames"]])
    assert smoothed == pytest.approx(np.array(fixture["smoothed"]), abs=1e-8)
    assert [frame["shown"] for frame in answer["frames"]] == fixture["shown"]
    defaults = TrackSettings()
    assert (answer["halfLifeS"], answer["hysteresis"]) == (defaults.half_life_s, defaults.hysteresis)


def test_browser_follows_faces_that_cross(tmp_path: Path) -> None:
    """Two boxes walk through each other; where they coincide, only their speed tells which is which."""
    ways = [[[10 + 12 * i, 50, 60 + 12 * i, 110], [250 - 12 * i, 52, 300 - 12 * i, 112]] for i in range(21)]
    faces = [[{"box_xyxy": box, "probabilities": {"happy": 0.9, "sad": 0.1}} for box in boxes] for boxes in ways]
    faces[10] = faces[10][:1]  # there the detector sees one face
    got = in_node(
        """
        const tracker = new tracks.Tracker();
        const seen = ({ id, face }) => [id, face.box_xyxy];
        return input.map((faces, index) => tracker.update(faces, index / 15).map(seen));
        """,
        faces,
        tmp_path,
    )
    for frame, boxes in zip(got, ways, strict=True):
        for number, box in frame:
            assert box == boxes[number - 1]


def in_node(body: str, given: Any, folder: Path) -> Any:
    """What a function body in JavaScript returns that is given `input` and the module `tracks`."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; tests/web/test_browser.py asks the browser the same")
    script = folder / "run.mjs"
    script.write_text(
        f"import * as tracks from {json.dumps(TRACKS_JS.as_uri())};\n"
        f"const input = {json.dumps(given)};\n"
        f"console.log(JSON.stringify((() => {{ {body} }})()));\n",
        encoding="utf-8",
    )
    done = subprocess.run([node, "--no-warnings", str(script)], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_labels_that_change_places_cross_after_one_half_life() -> None:
    smoother = Smoother(half_life_s=0.5, hysteresis=0)
    before, after = np.array([0.9, 0.1], np.float32), np.array([0.1, 0.9], np.float32)
    smoother.update(before, 0)
    shown = [smoother.update(after, time_s)[1] for time_s in (0.1, 0.25, 0.49, 0.51, 1)]
    assert shown == [0, 0, 0, 1, 1]


def test_half_life_of_zero_passes_probabilities_on() -> None:
    smoother = Smoother(half_life_s=0, hysteresis=0)
    rows = np.random.default_rng(0).dirichlet(np.ones(7), 20).astype(np.float32)
    for time_s, row in enumerate(rows):
        smoothed, shown = smoother.update(row, time_s)
        assert smoothed == pytest.approx(row, abs=0)
        assert shown == row.argmax()


def test_frames_at_one_time_or_back_in_time_change_nothing() -> None:
    smoother = Smoother(half_life_s=0.25, hysteresis=0)
    first, _ = smoother.update(np.array([0.8, 0.2], np.float32), 3.0)
    for time_s in (3.0, 2.0):
        again, _ = smoother.update(np.array([0.1, 0.9], np.float32), time_s)
        assert again == pytest.approx(first)


def test_a_probability_of_zero_is_forgotten() -> None:
    smoother = Smoother(half_life_s=0.25, hysteresis=0)
    smoother.update(np.array([1, 0], np.float32), 0)
    smoothed, shown = smoother.update(np.array([0.1, 0.9], np.float32), 1.5)
    assert np.isfinite(smoothed).all()
    assert shown == 1


@pytest.mark.parametrize(
    ("probabilities", "shown", "hysteresis", "expected"),
    [
        pytest.param([0.3, 0.7], None, 0.5, 1, id="the first frame has nothing to hold on to"),
        pytest.param([0.42, 0.58], 0, 0.1, 1, id="ahead by more than the margin"),
        pytest.param([0.46, 0.54], 0, 0.1, 0, id="ahead by less"),
        pytest.param([0.49, 0.51], 0, 0.0, 1, id="no hysteresis: the most probable"),
        pytest.param([0.2, 0.2, 0.6], 2, 0.1, 2, id="the same one stays"),
    ],
)
def test_decide(probabilities: list[float], shown: int | None, hysteresis: float, expected: int) -> None:
    assert decide(np.array(probabilities), shown, hysteresis=hysteresis) == expected
