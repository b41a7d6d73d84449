"""`mien bench` prints what `mien.bench` measures."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mien import bench, demo, hub
from mien.cli import app
from mien.errors import DownloadError
from mien.runtime import providers

FIGURES = (
    bench.Figure(group="start", what="import mien", p50_ms=30.0, p95_ms=40.0, calls=5),
    bench.Figure(group="models", what="default", p50_ms=1.0, p95_ms=1.5, per_s=1000.0, unit="crops", calls=300),
    bench.Figure(group="video", what="frames", p50_ms=20.0, p95_ms=25.0, per_s=50.0, unit="frames", calls=60),
)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[bench.Plan]:
    """Plans that were asked for; the measurement itself is replaced."""
    asked: list[bench.Plan] = []

    def run(photo: Path, plan: bench.Plan) -> Iterator[bench.Figure]:
        assert photo.exists()
        asked.append(plan)
        return iter(FIGURES)

    monkeypatch.setattr(bench, "run", run)
    return asked


def test_table(plans: list[bench.Plan], grace_hopper: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "--image", str(grace_hopper)])
    assert result.exit_code == 0
    assert re.search(r"^cpu +\S", result.stdout)
    assert re.search(r"^models +p50 ms +p95 ms +a second$", result.stdout, re.MULTILINE)
    assert re.search(r"^  default +1\.00 +1\.50 +1,000 crops$", result.stdout, re.MULTILINE)
    assert re.search(r"^  import mien +30\.00 +40\.00$", result.stdout, re.MULTILINE)
    assert plans == [bench.Plan()]


def test_json_and_options(plans: list[bench.Plan], grace_hopper: Path) -> None:
    options = ["--quick", "--threads", "1", "--model", "default-fp16", "--format", "json"]
    result = CliRunner().invoke(app, ["bench", *options, "--image", str(grace_hopper)])
    table = json.loads(result.stdout)
    assert (table["model"]["precision"], table["machine"]["threads"]) == ("fp16", 1)
    assert [entry["what"] for entry in table["figures"]] == ["import mien", "default", "frames"]
    assert plans == [bench.Plan.quick(model="default-fp16", threads=1)]
    assert plans[0].budget_s < bench.Plan().budget_s


def test_remember(plans: list[bench.Plan], grace_hopper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "remember", lambda figures: {"default": providers.NAMES[0]} if figures else {})
    result = CliRunner().invoke(app, ["bench", "--remember", "--image", str(grace_hopper)])
    assert "mien: default runs on cpu from now on" in result.stderr
    assert "int8" not in result.stderr


def test_int8_that_gains_nothing_is_told(
    plans: list[bench.Plan], grace_hopper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "remember", lambda _: {"default": "cpu", "baseline": "cpu"})
    monkeypatch.setattr(providers, "file_of", lambda _: hub.resolve("default-fp16"))
    result = CliRunner().invoke(app, ["bench", "--remember", "--image", str(grace_hopper)])
    assert "mien: int8 gains nothing here: default is default-fp16 from now on" in result.stderr
    assert "mien: baseline runs on cpu from now on" in result.stderr
    assert "default runs on" not in result.stderr


def test_without_a_portrait(plans: list[bench.Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> Path:
        raise DownloadError(f"pip cannot fetch the demo's portrait: {demo.CURE}")

    monkeypatch.setattr(demo, "portrait", unreachable)
    result = CliRunner().invoke(app, ["bench"])
    assert "give a photo with a face by --image" in str(result.exception)
