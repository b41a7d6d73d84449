"""Teachers: each sees the student's view in its own size, channels and normalisation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.conftest import MakeEngine
from torch import Tensor

from mien.bundle import ModelSpec
from mien.errors import ConfigError
from mien.labels import FER7, FERPLUS8
from mien.preprocess import InputSpec, network_input
from mien.runtime.predictor import Predictor, softmax
from mien.training import distill
from mien.training.distill import Member, Teachers
from mien.training.start import Order, resolve_recipe


def constant(logits: list[float], seen: list[Tensor] | None = None) -> Any:
    def answer(images: Tensor) -> Tensor:
        if seen is not None:
            seen.append(images)
        return torch.tensor([logits]).expand(len(images), -1)

    return answer


def test_mean_at_the_temperature() -> None:
    spec = ModelSpec(name="t", labels=FER7)
    first, second = [4.0, 0, 0, 0, 0, 0, 0], [0.0, 0, 0, 0, 0, 0, 6]
    teachers = Teachers([Member(spec, constant(first), ""), Member(spec, constant(second), "")], temperature=2)
    expected = (softmax(np.array([first]), temperature=2) + softmax(np.array([second]), temperature=2)) / 2
    assert np.allclose(teachers(torch.zeros(3, 1, 48, 48)).numpy(), expected.repeat(3, 0), atol=1e-6)


def test_views_are_adapted() -> None:
    """A teacher for 64 x 64 BGR sees what `network_input` makes of the same grey pictures."""
    seen: list[Tensor] = []
    spec = InputSpec(size_hw=(96, 96), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), bgr=True)
    member = Member(ModelSpec(name="t", labels=FER7, input=spec), constant([0.0] * 7, seen), "")
    crops = np.random.default_rng(0).integers(0, 256, (2, 48, 48)).astype(np.uint8)
    Teachers([member], temperature=1)(torch.from_numpy(crops[:, None]) / 255)
    difference = np.abs(seen[0].numpy() - network_input(crops, spec)).max()
    assert difference < 1 / 255 / 0.2  # one grey level: resized pictures are rounded when serving


def test_onnx_teacher_equals_the_predictor(tiny_onnx: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, 48, 48)).astype(np.uint8)
    teachers = distill.load([str(tiny_onnx)], temperature=3.0)
    found = teachers(torch.from_numpy(crops[:, None]) / 255).numpy()
    assert np.allclose(found, softmax(Predictor(tiny_onnx).logits(crops), temperature=3.0), atol=1e-5)


def test_labels_must_agree(make_engine: MakeEngine) -> None:
    members = [
        Member(ModelSpec(name=name, labels=labels), constant([0.0] * len(labels)), name)
        for name, labels in (("seven", FER7), ("eight", FERPLUS8))
    ]
    with pytest.raises(ConfigError, match="seven and eight"):
        Teachers(members, temperature=1)
    with pytest.raises(ConfigError, match="needs a teacher"):
        Teachers([], temperature=1)


def test_teachers_change_what_is_learned(make_engine: MakeEngine, tmp_path: Path) -> None:
    """With all weight on a teacher that always says "happy", the student says it too."""
    member = Member(ModelSpec(name="t", labels=FER7), constant([0.0, 0, 0, 9, 0, 0, 0]), "")
    engine = make_engine(epochs=4, distill_weight=1.0, lr=3e-3, ema=0.0, output=tmp_path / "student")
    engine.teacher = Teachers([member], temperature=engine.recipe.distill_temperature)
    engine.run()
    pixels = engine.validation.pixels(torch.arange(70), engine.spec)
    assert float((engine.model.eval()(pixels).argmax(1) == 3).float().mean()) == 1.0


def test_a_teacher_sees_the_view_before_blur_and_noise(make_engine: MakeEngine) -> None:
    """Teacher and student look at the same view, and the student at its damaged form."""
    seen: list[Tensor] = []
    learned: list[Tensor] = []
    member = Member(ModelSpec(name="t", labels=FER7), constant([0.0] * 7, seen), "")
    settings = {"blur": 0.04, "noise": 0.2, "damage_probability": 1.0, "distill_weight": 0.5}
    for blurred in (settings, settings | {"blur": 0.0, "noise": 0.0}):
        engine = make_engine(epochs=1, **blurred)
        engine.teacher = Teachers([member], temperature=engine.recipe.distill_temperature)
        forward = engine.forward
        engine.forward = lambda images, forward=forward: (learned.append(images.detach()), forward(images))[1]
        engine.backward(torch.arange(32), count=False)
    (clean, damaged), (same, plain) = zip(seen, learned, strict=True)
    assert torch.equal(clean, same)
    assert torch.equal(clean, plain)
    different = (clean - damaged).abs().amax((1, 2, 3)) > 0.05
    assert different.float().mean() > 0.9


@pytest.mark.parametrize(
    ("recipe", "settings", "dropout"),
    [
        pytest.param("baseline-improved", {}, 0.0, id="a recipe's own"),
        pytest.param("finetune", {}, 0.4, id="else the start's"),
        pytest.param("finetune", {"dropout": 0.3}, 0.3, id="--set above both"),
    ],
)
def test_dropout_of_a_network_that_goes_on(recipe: str, settings: dict[str, float], dropout: float) -> None:
    started = {"model": "vgg-narrow", "dropout": 0.4, "layout": "torch", "channels": 0, "input_size": 0}
    order = Order(recipe=recipe, settings=settings, start="runs/a", data=Path("data"), output=Path("runs/b"))
    found = resolve_recipe(order, started)
    assert (found.model, found.dropout) == ("vgg-narrow", dropout)
