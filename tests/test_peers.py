"""The comparison with peers: what a runner answers, and what the page says of the bars."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.labels import FER7

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], str]:
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import peers_page  # type: ignore[import-not-found]  # noqa: PLC0415 - a script's neighbour

    found: Callable[[dict[str, Any]], str] = peers_page.bars
    return found


def entry(name: str, accuracy: float, faces_per_s: float) -> dict[str, Any]:
    return {"name": name, "accuracy": accuracy, "faces_per_s": faces_per_s, "first_s": 0.5, "mb": 400.0}


@pytest.mark.parametrize(
    ("default", "trained_on", "words"),
    [
        pytest.param((0.68, 2000.0), "cpu, 1 threads", "+3.00 points | yes", id="lead enough for a CPU"),
        pytest.param((0.68, 2000.0), "cuda:0", "**no**, by 4.00 points", id="not for a GPU"),
        pytest.param((0.66, 2000.0), "cpu", "**no**, by 1.00 points", id="too little for a CPU"),
        pytest.param((0.68, 2000.0), "cpu", "2.00 times its 1,000 faces/s | yes", id="faster"),
        pytest.param((0.68, 800.0), "cpu", "0.80 times its 1,000 faces/s (counts as equal) | yes", id="as fast"),
        pytest.param((0.68, 500.0), "cpu", "**no**, by a factor of 2.00", id="slower"),
    ],
)
def test_bars(bars: Callable[[dict[str, Any]], str], default: tuple[float, float], trained_on: str, words: str) -> None:
    peers = [entry("mien default", *default), entry("best", 0.65, 1000.0), entry("poor", 0.5, 99_999.0)]
    text = bars({"peers": [*peers, {"name": "absent", "not_run": "no weights"}], "trained_on": trained_on})
    assert words in text
    assert "poor" not in text  # its speed is no measure: it is right half of the time
    assert "absent" not in text


def test_a_runner_answers(tmp_path: Path) -> None:
    """The runner of mien itself, over crops whose probabilities are known from the predictor."""
    from mien import hub  # noqa: PLC0415
    from mien.runtime.predictor import Predictor  # noqa: PLC0415

    crops = np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)
    crops.tofile(tmp_path / "crops.u8")
    answer = tmp_path / "answer.f32"
    requests = [
        {"op": "score", "batch": 2, "output": str(answer)},
        {"op": "time", "batch": 2, "repetitions": 3},
    ]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "peer_runners" / "run_mien.py", tmp_path / "crops.u8", "5"],
        input="\n".join(map(json.dumps, requests)),
        env={**os.environ, "MIEN_BENCH_MODEL": "default"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, scored, timed = (json.loads(line.removeprefix("@peers ")) for line in done.stdout.splitlines())
    expected = Predictor(hub.resolve("default")).predict(crops)
    np.testing.assert_allclose(first["first"], expected[0], atol=1e-5)
    np.testing.assert_allclose(np.fromfile(answer, np.float32).reshape(5, 7), expected, atol=1e-5)
    assert scored == {"done": 5}
    assert len(timed["seconds"]) == 3


@pytest.mark.parametrize(
    ("labels", "row"),
    [
        pytest.param(FER7, [0.1, 0.0, 0.2, 0.3, 0.1, 0.2, 0.1], id="mien's order"),
        pytest.param(tuple(reversed(FER7)), [0.1, 0.2, 0.1, 0.3, 0.2, 0.0, 0.1], id="another order"),
        pytest.param((*FER7, "contempt"), [0.05, 0.0, 0.1, 0.15, 0.05, 0.1, 0.05, 0.5], id="one class more"),
    ],
)
def test_probabilities_in_one_order(monkeypatch: pytest.MonkeyPatch, labels: tuple[str, ...], row: list[float]) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peer_runners"))
    import protocol  # type: ignore[import-not-found]  # noqa: PLC0415 - a script's neighbour

    found = protocol.in_order(np.array([row]), labels)
    np.testing.assert_allclose(found, [[0.1, 0.0, 0.2, 0.3, 0.1, 0.2, 0.1]], atol=1e-6)


def test_a_section_of_the_page_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import page  # type: ignore[import-not-found]  # noqa: PLC0415 - a script's neighbour

    file = tmp_path / "page.md"
    file.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n", encoding="utf-8")
    for _ in range(2):
        page.replace_section("x", r"new \1" + "\n", file)
        assert file.read_text(encoding="utf-8") == "a\n<!-- x -->\nnew \\1\n<!-- /x -->\nb\n"
    with pytest.raises(SystemExit, match="has no section <!-- y -->"):
        page.replace_section("y", "new", file)
