"""Batch-norm statistics of plain images."""

from pathlib import Path

import pytest
import torch
from tests.training.conftest import MakeEngine, equal_weights
from torch import nn

from mien.errors import ConfigError
from mien.training import norms


def small() -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3, momentum=0.3)
    return nn.Sequential(norm, nn.Dropout(0.5), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)).train()


def test_statistics_are_those_of_the_images() -> None:
    model, images = small(), 4 * torch.rand(40, 3, 8, 8) + 1
    before = [parameter.detach().clone() for parameter in model.parameters()]
    norms.estimate(model, model, images.split(20))
    values = images.split(20)
    torch.testing.assert_close(model[0].running_mean, torch.stack([one.mean((0, 2, 3)) for one in values]).mean(0))
    torch.testing.assert_close(model[0].running_var, torch.stack([one.var((0, 2, 3)) for one in values]).mean(0))
    # what the second layer saw went through the first one as training normalises it, and through no dropout
    seen = [model[2]((one - one.mean((0, 2, 3), keepdim=True)) / one.std((0, 2, 3), keepdim=True)) for one in values]
    expected = torch.stack([one.mean((0, 2, 3)) for one in seen]).mean(0)
    torch.testing.assert_close(model[3].running_mean, expected.detach(), atol=1e-3, rtol=0)
    assert all(one.training for one in model.modules())
    assert (model[0].momentum, model[3].momentum) == (0.3, 0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_network_without_statistics_is_not_run() -> None:
    def forward(_: torch.Tensor) -> object:
        raise AssertionError("nothing to find out")

    norms.estimate(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), forward, [torch.rand(4, 3, 8, 8)])


def test_training_steps_stay_the_same_and_what_is_kept_has_statistics_of_plain_images(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    settings = {"model": "vgg-narrow", "epochs": 1, "ema": 0.5}
    as_trained = make_engine(output=tmp_path / "a", **settings)
    estimated = make_engine(output=tmp_path / "b", norm_images=20, **settings)
    as_trained.run()
    estimated.run()
    assert equal_weights(as_trained, estimated)  # of the model that is trained, its own statistics included
    with torch.no_grad():
        rows = torch.arange(len(estimated.train))
        plain = estimated.train.pixels(rows, estimated.spec)
        first = next(one for one in estimated.kept.modules() if isinstance(one, nn.Conv2d))
        seen = first((plain - 0.5077) / 0.2551).mean((0, 2, 3))

    def gap(kept: nn.Module) -> float:
        norm = next(one for one in kept.modules() if isinstance(one, nn.BatchNorm2d))
        assert norm.running_mean is not None
        return float((norm.running_mean - seen).abs().mean())

    assert gap(estimated.kept) < 0.5 * gap(as_trained.kept)


def test_a_run_goes_on_with_statistics_of_plain_images(make_engine: MakeEngine) -> None:
    make_engine(model="vgg-narrow", epochs=1).run()
    engine = make_engine(model="vgg-narrow", epochs=2, norm_images=20, resume=True)
    engine.run()
    assert engine.about["recipe"]["norm_images"] == 20
    assert len(engine.history) == 2


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        pytest.param({"epochs": 1}, "has ended", id="there is no validation left to come"),
        pytest.param({"epochs": 2, "schedule": "plateau"}, "norm_images = 0, not 20", id="the rate would follow it"),
    ],
)
def test_where_statistics_of_plain_images_cannot_begin(
    make_engine: MakeEngine, settings: dict[str, object], match: str
) -> None:
    make_engine(**{**settings, "epochs": 1}).run()
    with pytest.raises(ConfigError, match=match):
        make_engine(**settings, norm_images=20, resume=True)
