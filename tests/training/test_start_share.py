"""WiSE-FT: what is kept at the end lies between the weights begun with and those trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import QUICK, MakeEngine

from mien.datasets.packed import Dataset
from mien.errors import ConfigError
from mien.training import recipe as recipes
from mien.training import run
from mien.training.distributed import World
from mien.training.engine import Engine
from mien.training.recipe import Recipe


@pytest.fixture
def begun(make_engine: MakeEngine, tmp_path: Path) -> Path:
    """A run to go on from."""
    make_engine(output=tmp_path / "begun", model="vgg-narrow", epochs=1, ema=0.5).run()
    return tmp_path / "begun"


def go_on(begun: Path | None, faces: Dataset, output: Path, *, resume: bool = False, **settings: Any) -> Engine:
    table = {**QUICK, "model": "vgg-narrow", "epochs": 2, "seed": 3, **settings}
    recipe = recipes.override(Recipe(), table, source="test")
    start = None if begun is None else run.load_start(str(begun))
    return run.prepare(run.Job(recipe, faces, output, start=start), World(), resume=resume)


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_end_lies_between_start_and_training(begun: Path, cartoons: Dataset, tmp_path: Path, ema: float) -> None:
    plain, mixed = (
        go_on(begun, cartoons, tmp_path / name, ema=ema, start_share=share) for name, share in (("a", 0.0), ("b", 0.3))
    )
    plain.run()
    mixed.run()
    assert mixed.history[0]["validation_loss"] == plain.history[0]["validation_loss"]  # only the end differs
    start, trained = run.load_start(str(begun)).weights, plain.kept.state_dict()
    kept = run.load_start(str(tmp_path / "b")).weights
    for name, value in trained.items():
        if value.is_floating_point():
            torch.testing.assert_close(kept[name], 0.7 * value + 0.3 * start[name], msg=name)
        else:
            assert torch.equal(kept[name], value)
    assert mixed.history[-1]["validation_loss"] == pytest.approx(mixed.validate()["loss"])


def test_statistics_are_those_of_the_mixture(begun: Path, cartoons: Dataset, tmp_path: Path) -> None:
    """Means of two networks' statistics are no statistics of the mean network."""
    engine = go_on(begun, cartoons, tmp_path / "run", start_share=0.5, norm_images=40)
    engine.run()
    before = {name: value.clone() for name, value in engine.kept.state_dict().items()}
    engine.estimate_norms()
    assert all(torch.equal(value, before[name]) for name, value in engine.kept.state_dict().items())


def test_a_killed_run_ends_like_one_that_was_not(begun: Path, cartoons: Dataset, tmp_path: Path) -> None:
    whole = go_on(begun, cartoons, tmp_path / "whole", start_share=0.5, checkpoint_steps=2)
    whole.run()
    killed = go_on(begun, cartoons, tmp_path / "killed", start_share=0.5, checkpoint_steps=2)
    killed.run_epoch(0)
    del killed
    again = go_on(begun, cartoons, tmp_path / "killed", start_share=0.5, checkpoint_steps=2, resume=True)
    again.run()
    theirs = whole.kept.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in again.kept.state_dict().items())


def test_what_it_needs(begun: Path, cartoons: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name them with --from"):
        go_on(None, cartoons, tmp_path / "run", start_share=0.5)
    with pytest.raises(ConfigError, match="use keep = 'last'"):
        go_on(begun, cartoons, tmp_path / "run", start_share=0.5, keep="best")
    with pytest.raises(ConfigError, match="other ones"):
        go_on(begun, cartoons, tmp_path / "run", start_share=0.5, ferplus="majority")
    go_on(begun, cartoons, tmp_path / "run", start_share=0.5, epochs=1).run()
    with pytest.raises(ConfigError, match="resume it with that --from"):
        go_on(tmp_path / "run", cartoons, tmp_path / "run", start_share=0.5, epochs=1, resume=True)
    with pytest.raises(ConfigError, match="resume it with that --from"):
        go_on(None, cartoons, tmp_path / "run", start_share=0.5, epochs=1, resume=True)
    with pytest.raises(ConfigError, match="has ended and holds its start's share"):
        go_on(begun, cartoons, tmp_path / "run", start_share=0.5, epochs=2, resume=True)


def test_the_start_may_not_change_behind_its_name(
    make_engine: MakeEngine, begun: Path, cartoons: Dataset, tmp_path: Path
) -> None:
    go_on(begun, cartoons, tmp_path / "run", start_share=1.0).run_epoch(0)
    make_engine(output=begun, model="vgg-narrow", epochs=2, ema=0.5, resume=True).run()  # other weights, one name
    with pytest.raises(ConfigError, match=r"as it was then: resume it with that --from$"):
        go_on(begun, cartoons, tmp_path / "run", start_share=1.0, resume=True)


def test_a_resumed_run_tells_where_it_began(begun: Path, cartoons: Dataset, tmp_path: Path) -> None:
    first = go_on(begun, cartoons, tmp_path / "run")
    first.run_epoch(0)
    again = go_on(None, cartoons, tmp_path / "run", resume=True)
    assert again.about["start"] == first.about["start"] is not None
    go_on(None, cartoons, tmp_path / "fresh").run_epoch(0)
    with pytest.raises(ConfigError, match="began with random weights"):
        go_on(begun, cartoons, tmp_path / "fresh", resume=True)


def test_a_run_that_ends_early_would_lack_its_share(begun: Path, cartoons: Dataset, tmp_path: Path) -> None:
    go_on(begun, cartoons, tmp_path / "run", start_share=0.5, epochs=3).run_epoch(0)
    with pytest.raises(ConfigError, match="epochs = 2 or more"):
        go_on(begun, cartoons, tmp_path / "run", start_share=0.5, epochs=1, resume=True)
