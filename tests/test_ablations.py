"""benchmarks/ablations.py: equal cost, paired differences, and a page that says what was measured."""

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from mien.training import recipe as recipes
from tests.scripts import benchmark


@pytest.fixture(scope="module")
def ablations() -> Iterator[ModuleType]:
    pytest.importorskip("torch")
    with benchmark("ablations") as script:
        yield script


def test_every_run_costs_the_same_but_the_one_that_says_so(ablations: ModuleType) -> None:
    wanted = ablations.variants("resnet9-tiny", "resnet9-narrow")
    assert wanted[0].name == ablations.PLAIN
    assert len({one.name for one in wanted}) == len(wanted)
    for one in wanted:
        recipes.override(recipes.Recipe(), dict(one.settings), source=one.name)  # settings that exist
        for epochs, near in ((8, 0.12), (40, 0.03)):
            assert one.total(epochs) == pytest.approx(2 if one.name == "twice as long" else 1, rel=near), one.name
    by_name = {one.name: one for one in wanted}
    assert by_name["twice as wide"].cost == pytest.approx(4, rel=0.05)  # MACs grow with the square of the width
    assert by_name["SAM"].cost == 2


def test_differences_are_paired(ablations: ModuleType) -> None:
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 3, 2000) / 2  # share of two seeds that are right
    better = np.minimum(1, plain + (rng.random(2000) < 0.1))
    found = ablations.beside(better, plain)
    assert found["gain"] == pytest.approx((better - plain).mean(), abs=1e-5)
    low, high = found["ci95"]
    assert 0 < low < found["gain"] < high
    assert high - low < 0.04  # unpaired it would be over 0.05
    assert ablations.beside(plain, plain)["ci95"] == [0, 0]


def test_the_table_says_every_seed_and_the_interval(ablations: ModuleType) -> None:
    trial = {"epochs": 8, "macs": 37_600_000, "accuracy": 0.6, "macro_f1": 0.5, "log_loss": 1.1}
    common = ablations.shared([trial, {**trial, "accuracy": 0.62}])
    rows = [
        {"name": ablations.PLAIN, "about": "as it is", "cost": 1.0, **common, "gain": 0.0, "ci95": [0.0, 0.0]},
        {"name": "mixup", "about": "α 0.2", "cost": 0.984, **common, "gain": -0.012, "ci95": [-0.02, 0.004]},
    ]
    text = ablations.section(rows)
    assert "| plain | as it is | 8 | 37.6 M | 1.00 | 61.00 (60.00 and 62.00) | 0.5000 | 1.1000 |  |" in text
    assert "| −1.2 (−2.0 to +0.4) |" in text
