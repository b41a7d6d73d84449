"""Pictures that are whole, the same each time, and need nothing global."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.errors import MissingExtraError
from mien.evaluation import metrics, plots
from mien.evaluation.evaluate import Evaluation
from mien.labels import FER7

NAMES = ("confusion-counts", "confusion-shares", "reliability", "coverage")


@pytest.fixture
def evaluation() -> Evaluation:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 7, 200)
    powers = np.exp(generator.normal(size=(200, 7)) + 2 * np.eye(7)[targets])
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return Evaluation(FER7, targets, probabilities, tuple(map(str, range(200))), threshold=0.4)


def test_every_picture_is_written_twice_and_alike(evaluation: Evaluation, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        plots.write(evaluation, tmp_path / folder)
    for name in NAMES:
        with Image.open(tmp_path / "a" / f"{name}.png") as picture:
            colours = picture.convert("RGB").getcolors(maxcolors=1 << 20)
        assert colours is not None
        assert len(colours) > 20  # something is drawn
        for suffix in ("png", "svg"):
            file = Path(f"{name}.{suffix}")
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_labels_do_not_overlap(evaluation: Evaluation) -> None:
    figure = plots.confusion_figure(evaluation.confusion, FER7, show="counts")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert all(not first.overlaps(second) for first, second in pairwise(boxes))


def test_a_lone_image_reaches_no_legend_and_is_no_solid_bar() -> None:
    chances = np.full((40, 7), 0.04)
    chances[:, 0] = 0.76
    chances[0] = 1 / 7 - 0.001  # least confident of all, and right: a bar as high as the axes, on the left
    chances[0, 0] = 1 - 6 * chances[0, 1]
    bins = metrics.reliability(chances.astype(np.float32), np.array([0] * 30 + [1] * 10))
    figure = plots.reliability_figure(bins)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert all(not legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)
    names = [text.get_text() for text in legend.get_texts()]
    assert "of fewer than 10 images" in names
    solid, outlined = figure.axes[0].containers
    assert [bar.get_height() for bar in solid] == [pytest.approx(29 / 39)]
    assert [bar.get_height() for bar in outlined] == [1]
    assert outlined[0].get_facecolor()[3] == 0


def test_grey_bars_hold_the_accuracies_of_a_calibrated_model() -> None:
    bins = metrics.Reliability(np.linspace(0, 1, 3), np.array([25, 400]), np.array([0.4, 0.9]), np.array([0.5, 0.7]))
    (bars,) = (one for one in plots.reliability_figure(bins).axes[0].collections if one.get_label() == "perfect, 95 %")
    ends = [[tuple(end) for end in bar] for bar in bars.get_segments()]
    expected = metrics.if_calibrated(bins)
    assert ends == [[(x, low), (x, high)] for x, low, high in zip((0.4, 0.9), expected.low, expected.high, strict=True)]
    assert ends[0][0][1] < 0.5 < ends[0][1][1]
    assert ends[1][0][1] > 0.7  # this bin is overconfident beyond chance


def test_shares_are_of_rows_and_an_empty_class_stays_blank() -> None:
    confusion = metrics.confusion_matrix(np.array([0, 0, 0, 2]), np.array([0, 0, 1, 2]), 3)
    np.testing.assert_allclose(plots.shares(confusion), [[2 / 3, 1 / 3, 0], [0, 0, 0], [0, 0, 1]])


def test_without_matplotlib_the_extra_is_named(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"mien\[train\]"):
        plots.write(evaluation, tmp_path)
