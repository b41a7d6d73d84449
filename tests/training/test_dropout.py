"""Dropout with a cheaper mask: the share, the scale, the gradient and the independence of torch's."""

import pytest
import torch
from torch import nn

from mien.training.dropout import QuickDropout, quicken

LAYOUTS = {
    "contiguous": torch.ones(16, 32, 10, 10),
    "channels last": torch.ones(16, 32, 10, 10).to(memory_format=torch.channels_last),
    "bf16, an odd number": torch.ones(3, 7, 11, 43, dtype=torch.bfloat16),
    "rows": torch.ones(999, 31),
    "every other column": torch.ones(300, 80)[:, ::2],
}


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("ones", LAYOUTS.values(), ids=LAYOUTS)
def test_share_and_scale(ones: torch.Tensor, p: float) -> None:
    torch.manual_seed(0)
    values = ones.clone().requires_grad_()

    dropped = QuickDropout(p)(values)
    dropped.sum().backward()

    kept = dropped.detach() != 0
    n, share = ones.numel(), float(kept.float().mean())
    assert share == pytest.approx(1 - p, abs=4.5 * (p * (1 - p) / n) ** 0.5)
    expected = torch.tensor(1 / (1 - p), dtype=ones.dtype)
    assert torch.allclose(dropped.detach()[kept], expected, rtol=1e-2 if ones.dtype == torch.bfloat16 else 1e-4)
    assert values.grad is not None
    assert torch.equal(values.grad, dropped.detach())  # of ones: the mask itself


def test_elements_fall_independently() -> None:
    """The four elements that share a draw, and neighbouring draws: no correlation that 10^6 elements could show."""
    torch.manual_seed(1)
    kept = (QuickDropout(0.5)(torch.ones(1_000_000)) != 0).double() - 0.5

    for distance in range(1, 9):
        correlation = 4 * float((kept[:-distance] * kept[distance:]).mean())
        assert abs(correlation) < 5e-3, distance


def test_the_seed_decides() -> None:
    layer, values = QuickDropout(0.3), torch.ones(1000)

    first, again, other = (torch.manual_seed(seed) and layer(values) for seed in (5, 5, 6))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("p", "training", "left"), [(0.0, True, 1.0), (0.7, False, 1.0), (1.0, True, 0.0)])
def test_all_or_nothing(p: float, training: bool, left: float) -> None:
    layer = QuickDropout(p).train(training)

    assert torch.equal(layer(torch.ones(50)), torch.full((50,), left))


def test_quicken_keeps_names_and_weights() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.2), nn.Sequential(nn.Dropout(0.4), nn.Linear(3, 2)))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    quicken(model)

    drops = [one for one in model.modules() if isinstance(one, nn.Dropout)]
    assert [(type(one), one.p) for one in drops] == [(QuickDropout, 0.2), (QuickDropout, 0.4)]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
