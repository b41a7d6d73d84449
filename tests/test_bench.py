"""Every figure of the benchmark is there and consistent; times themselves are not tested."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien import bench, hub
from mien.errors import ImageError
from mien.images import read_image, write_image
from mien.runtime import providers

TRY = bench.Plan(
    starts=1, budget_s=0.0, calls=(1, 1), pictures_wh=((160, 120), (320, 240)), large_wh=(800, 600), frames=3
)


@pytest.fixture(scope="module")
def figures(grace_hopper: Path) -> list[bench.Figure]:
    return list(bench.run(grace_hopper, TRY))


def test_every_group_in_order(figures: list[bench.Figure]) -> None:
    assert tuple(dict.fromkeys(figure.group for figure in figures)) == bench.GROUPS
    assert len({(figure.group, figure.what) for figure in figures}) == len(figures)


def test_every_packaged_model_on_every_provider(figures: list[bench.Figure]) -> None:
    named = [figure.what for figure in figures if figure.group == "models"]
    at_hand = [name for name in providers.installed() if name in ("cpu", "openvino")]
    for model in bench.packaged_models():
        for provider in at_hand:
            found = [what for what in named if what.startswith(f"{model} (") and f" on {provider}, " in what]
            assert [what.rpartition(", ")[2] for what in found] == ["1 crop", "64 crops"]
    assert bench.packaged_models()[0] == "default"
    assert "centerface" not in bench.packaged_models()


def test_figures_are_consistent(figures: list[bench.Figure]) -> None:
    for figure in figures:
        assert 0 < figure.p50_ms <= figure.p95_ms
        assert (figure.per_s is None) == (figure.unit == "") == (figure.group == "start")
        if figure.what.endswith("64 crops"):
            assert figure.per_s == pytest.approx(64_000 / figure.p50_ms)


@pytest.mark.parametrize(
    ("seconds", "p50_ms", "p95_ms", "per_s"),
    [
        pytest.param([0.1, 0.2, 0.3], 200, 290, 50, id="three calls of ten crops"),
        pytest.param([0.5], 500, 500, 20, id="one"),
    ],
)
def test_quantiles_by_hand(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], p50_ms: float, p95_ms: float, per_s: float
) -> None:
    waits = iter([seconds[0], *seconds])  # the first only says how many calls fit
    monkeypatch.setattr(bench, "_seconds", lambda _: next(waits))
    monkeypatch.setattr(np, "clip", lambda *_: len(seconds))
    figure = bench.timed("models", "a call", lambda: None, TRY, 10, "crops")
    assert (figure.p50_ms, figure.p95_ms, figure.per_s, figure.calls) == (
        pytest.approx(p50_ms),
        pytest.approx(p95_ms),
        pytest.approx(per_s),
        len(seconds),
    )


def test_json(figures: list[bench.Figure]) -> None:
    table = json.loads(json.dumps(bench.to_dict(figures, TRY)))
    assert table["model"]["name"] == "default"
    assert table["model"]["provider"] in providers.NAMES
    assert table["machine"]["threads"] >= 1
    assert {"mien", "onnxruntime", "numpy"} <= set(table["machine"]["packages"])
    assert [entry["what"] for entry in table["figures"]] == [figure.what for figure in figures]


@pytest.mark.skipif("openvino" not in providers.installed(), reason="openvino is not installed")
@pytest.mark.parametrize(
    ("ratio", "chosen"),
    [
        pytest.param(0.5, "openvino", id="twice as fast"),
        pytest.param(0.97, "cpu", id="noise"),
        pytest.param(1.5, "cpu", id="slower"),
    ],
)
def test_the_fastest_provider_is_remembered(figures: list[bench.Figure], ratio: float, chosen: str) -> None:
    def waiting(figure: bench.Figure, scale: float) -> bench.Figure:
        return replace(figure, p50_ms=10 * scale, p95_ms=20 * scale)

    models = [figure for figure in figures if figure.group == "models"]
    changed = [waiting(figure, ratio if " on openvino" in figure.what else 1.0) for figure in models]
    assert bench.remember(changed) == dict.fromkeys(bench.packaged_models(), chosen)
    assert providers.remembered()[hub.sha256_of(hub.resolve("default"))] == chosen


@pytest.mark.parametrize(
    ("int8_ms", "chosen"),
    [
        pytest.param(3.0, "default", id="three times as fast"),
        pytest.param(10.0, "default", id="as fast"),
        pytest.param(10.3, "default", id="noise"),
        pytest.param(12.0, "default-fp16", id="slower"),
    ],
)
def test_int8_is_the_default_unless_it_is_slower(figures: list[bench.Figure], int8_ms: float, chosen: str) -> None:
    models = [figure for figure in figures if figure.group == "models"]
    bench.remember([replace(one, p50_ms=int8_ms if "int8" in one.what else 10.0) for one in models])
    assert providers.file_of("default") == hub.resolve(chosen)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        pytest.param(lambda path: path.write_bytes(b"text"), "no picture that mien knows", id="no picture"),
        pytest.param(
            lambda path: write_image(np.full((480, 640, 3), 128, np.uint8), path), "no face found", id="no face"
        ),
    ],
)
def test_photos_that_will_not_do(tmp_path: Path, draw: Callable[[Path], object], words: str) -> None:
    path = tmp_path / "photo.png"
    draw(path)
    with pytest.raises(ImageError, match=words):
        next(bench.run(path, TRY))


@pytest.mark.parametrize("size_wh", [(640, 480), (480, 640), (32, 32)])
def test_the_photo_fills_what_it_can(grace_hopper: Path, size_wh: tuple[int, int]) -> None:
    photo = bench.photo_of(read_image(grace_hopper), size_wh)
    assert photo.shape == (size_wh[1], size_wh[0], 3)
    grey = (photo == 128).all(axis=2)
    assert not grey.all(axis=0).all()
    assert min((~grey.all(axis=1)).sum() / size_wh[1], 1.0) == 1.0 or (~grey.all(axis=0)).sum() == size_wh[0]
