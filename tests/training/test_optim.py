"""Rates, parameter groups, plateau, averaged weights and sharpness-aware steps."""

import pytest
import torch
from torch import nn

from mien import models
from mien.models.two_heads import TwoHeads
from mien.training import optim
from mien.training.recipe import Recipe


@pytest.mark.parametrize(
    ("recipe", "step", "expected"),
    [
        pytest.param(Recipe(schedule="constant", warmup_steps=0), 500, 1.0, id="constant"),
        pytest.param(Recipe(schedule="cosine", warmup_steps=100), 49, 0.5, id="half of the warm-up"),
        pytest.param(Recipe(schedule="cosine", warmup_steps=100), 100, 1.0, id="peak"),
        pytest.param(Recipe(schedule="cosine", warmup_steps=0), 500, 0.5, id="half of the cosine"),
        pytest.param(Recipe(schedule="cosine", warmup_steps=0), 1000, 0.0, id="end of the cosine"),
        pytest.param(Recipe(schedule="cosine", warmup_steps=0, lr_final=0.1), 1000, 0.1, id="cosine to a tenth"),
        pytest.param(Recipe(schedule="inverse", warmup_steps=0, lr_final=0.01), 100, 0.5, id="Keras' decay"),
        pytest.param(Recipe(schedule="onecycle"), 0, 0.04, id="one-cycle starts low"),
        pytest.param(Recipe(schedule="onecycle"), 300, 1.0, id="one-cycle peaks at 30 %"),
        pytest.param(Recipe(schedule="onecycle"), 1000, 0.04, id="one-cycle ends low"),
    ],
)
def test_rate(recipe: Recipe, step: int, expected: float) -> None:
    assert optim.rate(recipe, step, 1000) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_norm_layers_and_biases_do_not_decay(name: str) -> None:
    network = models.create("vgg-narrow")
    optimizer = optim.make_optimizer(network, Recipe(optimizer=name, weight_decay=0.05))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    for parameter in network.parameters():
        assert decay[id(parameter)] == (0.05 if parameter.ndim > 1 else 0.0)


def test_layer_decay_lowers_the_rate_towards_the_input() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    optimizer = optim.make_optimizer(network, Recipe(lr=1.0, layer_decay=0.5))
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert [rates[id(layer.weight)] for layer in network] == [0.25, 0.5, 1.0]


def rates_of(network: nn.Module) -> dict[str, float]:
    """Rate of each parameter, by name, where each layer has half of the next one's and the last has 1."""
    optimizer = optim.make_optimizer(network, Recipe(lr=1.0, layer_decay=0.5))
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    return {name: rates[id(p)] for name, p in network.named_parameters()}


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet50", ["layer3.0", "layer3.1", "layer3.5", "layer4.0"]),
        ("senet50", ["layer3.0", "layer3.1", "layer3.5", "layer4.0"]),
        ("lite0", ["blocks.2.0", "blocks.2.1", "blocks.3.0"]),
    ],
)
def test_each_block_of_a_network_is_a_layer(name: str, blocks: list[str]) -> None:
    rates = rates_of(models.create(name))
    found = [{rate for key, rate in rates.items() if f"{block}." in key} for block in blocks]
    assert all(len(one) == 1 for one in found)
    assert found == sorted(found, key=max)
    assert len(set.union(*found)) == len(blocks)
    assert max(rates.values()) == 1


def test_a_second_head_changes_no_other_rate() -> None:
    plain, double = rates_of(models.create("vgg-narrow")), rates_of(TwoHeads(models.create("vgg-narrow"), 8))
    assert {f"net.{name}": rate for name, rate in plain.items()}.items() <= double.items()
    assert double["second.weight"] == 1


def test_frozen_parameters_are_left_out() -> None:
    network = models.create("baseline")
    network[0].weight.requires_grad_(False)
    optimizer = optim.make_optimizer(network, Recipe())
    assert all(p is not network[0].weight for g in optimizer.param_groups for p in g["params"])


def test_plateau_halves_after_patience_epochs_without_a_better_one() -> None:
    plateau = optim.Plateau(Recipe(plateau_patience=2, plateau_factor=0.5))
    factors = []
    for accuracy in (0.5, 0.6, 0.6, 0.55, 0.61, 0.6, 0.6):
        plateau.update(accuracy)
        factors.append(plateau.factor)
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_averaged_weights_follow_the_formula() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    averaged = optim.AveragedWeights(layer, 0.9)
    nn.init.constant_(layer.weight, 1.0)
    expected = 0.0
    for step in range(1, 200):
        averaged.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay)
    assert averaged.model.weight.item() == pytest.approx(expected, rel=1e-5)


def test_averaged_weights_average_batch_norm_too() -> None:
    norm = nn.BatchNorm1d(2)
    averaged = optim.AveragedWeights(norm, 0.5)
    norm(torch.randn(64, 2) + 5)
    averaged.update(1000)
    torch.testing.assert_close(averaged.model.running_mean, norm.running_mean / 2)
    assert averaged.model.num_batches_tracked == 1


def test_sharpening_by_an_overflow_leaves_the_weights() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    weight.grad = torch.tensor([1.0, torch.inf])
    undo = optim.sharpen([weight], 0.5)
    assert weight.isfinite().all()
    undo()
    assert weight.tolist() == [3.0, 4.0]


def test_a_short_run_reaches_its_peak() -> None:
    rates = [optim.rate(Recipe(schedule="cosine", warmup_steps=500), step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.01


def test_sharpening_climbs_rho_along_the_gradient_and_back() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    weight.grad = torch.tensor([6.0, 8.0])
    undo = optim.sharpen([weight], 0.5)
    torch.testing.assert_close(weight.data, torch.tensor([3.3, 4.4]))
    undo()
    assert weight.tolist() == [3.0, 4.0]  # to the bit
