"""The loop: it learns, it is exact, and it stops when the loss is not finite."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.conftest import MakeEngine, equal_weights

from mien.datasets.packed import Dataset
from mien.errors import ConfigError, DataError, TrainingError
from mien.training import run
from mien.training.distributed import World
from mien.training.recipe import Recipe


def test_it_learns_drawn_faces(make_engine: MakeEngine) -> None:
    still = {"rotation_deg": 0.0, "shift": 0.0, "zoom": 0.0, "colour_probability": 0.0, "erasing": 0.0}
    engine = make_engine(epochs=40, batch_size=14, lr=2e-3, ema=0.9, label_smoothing=0.0, **still)
    engine.run()
    assert engine.history[-1]["validation_accuracy"] > 0.9
    assert engine.history[-1]["train_loss"] < engine.history[0]["train_loss"]


def test_the_same_seed_gives_the_same_weights_and_another_other_ones(make_engine: MakeEngine, tmp_path: Path) -> None:
    first, again, other = (make_engine(output=tmp_path / str(i), seed=seed) for i, seed in enumerate((1, 1, 2)))
    for engine in (first, again, other):
        engine.run()
    assert equal_weights(first, again)
    assert not equal_weights(first, other, atol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"optimizer": "sgd", "lr": 0.05}, id="SGD"),
        pytest.param({"optimizer": "adam", "schedule": "onecycle"}, id="Adam, one-cycle"),
        pytest.param({"sam_rho": 0.05}, id="SAM"),
        pytest.param({"mixup": 0.2, "cutmix": 1.0}, id="mixup and CutMix"),
        pytest.param({"balance": "sampler"}, id="balanced sampling"),
        pytest.param({"balance": "loss"}, id="weighted loss"),
        pytest.param({"balance": "logit-adjust"}, id="logit adjustment"),
        pytest.param({"ferplus": "soft"}, id="soft votes"),
        pytest.param({"ferplus": "majority"}, id="FER+ majority"),
        pytest.param({"ferplus": "probability"}, id="FER+ probabilities"),
        pytest.param({"schedule": "plateau", "ema": 0.0, "gradient_clip": 1.0}, id="plateau, clipped, not averaged"),
        pytest.param({"model": "vgg", "l2": 1e-4, "batch_size": 70, "epochs": 1}, id="L2 on the dense layer"),
        pytest.param({"model": "vgg-narrow", "early": 0.5, "epochs": 2, "batch_size": 70}, id="small pictures first"),
    ],
)
def test_every_setting_trains(make_engine: MakeEngine, settings: dict[str, object]) -> None:
    engine = make_engine(**settings)
    before = [parameter.detach().clone() for parameter in engine.model.parameters()]
    engine.run()
    assert len(engine.history) == engine.recipe.epochs
    assert all(np.isfinite(list(row.values())).all() for row in engine.history)
    assert all(not torch.equal(a, b) for a, b in zip(before, engine.model.parameters(), strict=True))


def test_a_batch_in_pieces_has_the_same_gradient(make_engine: MakeEngine, tmp_path: Path) -> None:
    settings = {"dropout": 0.0, "blur": 0.04, "noise": 0.1}
    whole = make_engine(output=tmp_path / "whole", **settings)
    pieces = make_engine(output=tmp_path / "pieces", accumulate=4, **settings)
    gradients = []
    for engine in (whole, pieces):
        engine.begin_sums()
        engine.backward(torch.arange(32))
        gradients.append([parameter.grad for parameter in engine.model.parameters()])
    assert pieces.sums == pytest.approx(whole.sums, rel=1e-5)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_a_sharpened_step_is_made_with_the_gradient_up_the_hill(make_engine: MakeEngine, tmp_path: Path) -> None:
    """SAM of Foret et al. 2021 by hand: climb rho along the gradient, take the gradient there, step from below."""
    fixed = {
        "optimizer": "sgd",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "lr": 0.1,
        "dropout": 0.0,
        "schedule": "constant",
    }
    ours = make_engine(output=tmp_path / "sam", sam_rho=0.05, **fixed)
    hand = make_engine(output=tmp_path / "hand", **fixed)
    rows = torch.arange(32)
    for engine in (ours, hand):
        engine.begin_sums()
        engine.model.train()
    ours.train_step(rows)
    hand.backward(rows)
    before = {name: p.detach().clone() for name, p in hand.model.named_parameters()}
    slopes = {name: p.grad.clone() for name, p in hand.model.named_parameters() if p.grad is not None}
    length = torch.cat([slope.flatten() for slope in slopes.values()]).norm()
    for name, parameter in hand.model.named_parameters():
        parameter.data += 0.05 * slopes[name] / length
    hand.backward(rows)
    moved = 0.0
    for name, parameter in hand.model.named_parameters():
        assert parameter.grad is not None
        expected = before[name] - 0.1 * parameter.grad
        torch.testing.assert_close(ours.model.get_parameter(name).data, expected, atol=1e-6, rtol=1e-4)
        moved = max(moved, float((parameter.grad - slopes[name]).abs().max()))
    assert moved > 1e-5  # the gradient there is another one
    assert ours.sums["n"] == 32  # the second pass is not counted


def test_plateau_lowers_the_rate_of_a_run(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"schedule": "plateau", "plateau_patience": 1, "plateau_factor": 0.5, "lr": 0.01}
    engine = make_engine(epochs=4, batch_size=140, **settings)
    accuracies = iter([0.5, 0.5, 0.6, 0.6])
    monkeypatch.setattr(type(engine), "validate", lambda _: {"loss": 1.0, "accuracy": next(accuracies)})
    engine.run()
    assert [row["lr"] for row in engine.history] == pytest.approx([0.01, 0.01, 0.005, 0.005])


def test_layers_learn_at_their_own_rates(make_engine: MakeEngine) -> None:
    engine = make_engine(layer_decay=0.5, epochs=1, batch_size=140, schedule="onecycle", lr=0.01)
    engine.run()  # one step: one-cycle starts at 4 % of the rate
    rates = sorted({group["lr"] for group in engine.optimizer.param_groups}, reverse=True)
    blocks = len(rates)
    assert blocks > 3
    assert rates == pytest.approx([0.01 * 0.04 * 0.5**depth for depth in range(blocks)])


@pytest.mark.parametrize(("settings", "wrapped"), [
    pytest.param({"precision": "fp16"}, torch.float16, id="fp16"),
    pytest.param({"precision": "bf16"}, torch.bfloat16, id="bf16"),
    pytest.param({"precision": "fp32"}, torch.float32, id="fp32"),
])  # fmt: skip
def test_autocast_computes_in_its_precision(
    make_engine: MakeEngine, settings: dict[str, object], wrapped: torch.dtype
) -> None:
    engine = make_engine(epochs=1, batch_size=70, **settings)
    seen = set()
    engine.model[0].register_forward_hook(lambda *found: seen.add(found[-1].dtype))  # type: ignore[index, operator]
    engine.run()
    assert seen == {wrapped}
    assert all(parameter.dtype == torch.float32 for parameter in engine.model.parameters())


@pytest.mark.parametrize("settings", [{"gradient_clip": 0.5}, {"sam_rho": 0.05}], ids=["clipped", "SAM"])
def test_scaling_the_loss_changes_no_step(make_engine: MakeEngine, tmp_path: Path, settings: dict[str, object]) -> None:
    """fp16's loss scaling, here in fp32 where it must be exact: clipping and climbing see unscaled lengths."""
    plain, scaled = (
        make_engine(output=tmp_path / name, optimizer="sgd", lr=0.1, epochs=1, batch_size=70, dropout=0.0, **settings)
        for name in ("plain", "scaled")
    )
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    plain.run()
    scaled.run()
    assert equal_weights(plain, scaled, atol=1e-6)


def test_compiled_training_is_the_same_training(
    make_engine: MakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a C++ compiler: the graph is captured and differentiated ahead of time, and run by torch itself."""
    compiled, real = [], torch.compile

    def traced(network: torch.nn.Module) -> object:
        compiled.append(network)
        return real(network, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", traced)
    plain, quick = (
        make_engine(output=tmp_path / str(on), epochs=1, batch_size=70, optimizer="sgd", dropout=0.0, compile=on)
        for on in (False, True)
    )
    plain.run()
    quick.run()
    assert compiled == [quick.model]
    assert equal_weights(plain, quick, atol=1e-5)
    assert run.load_model(tmp_path / "True")[1].labels  # its checkpoint is that of the plain network


def test_data_that_do_not_fit_on_the_device(
    make_engine: MakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay memory-mapped, and train the same network."""
    resident = make_engine(output=tmp_path / "resident", epochs=1)
    monkeypatch.setattr("mien.training.data.ON_DEVICE_BYTES", 0)
    mapped = make_engine(output=tmp_path / "mapped", epochs=1)
    assert isinstance(resident.train.images, torch.Tensor)
    assert resident.train.images.dtype == torch.uint8
    assert isinstance(mapped.train.images, np.memmap)
    resident.run()
    mapped.run()
    assert equal_weights(resident, mapped)


def test_balanced_sampling_draws_every_class_equally_often(make_engine: MakeEngine) -> None:
    engine = make_engine(balance="sampler")
    engine.train = replace(engine.train, labels=torch.tensor([0] * 126 + [1] * 14))
    drawn = torch.cat([engine.train.labels[rows] for epoch in range(20) for rows in engine.batches(epoch)])
    assert 0.45 < drawn.float().mean() < 0.55


def test_every_epoch_sees_every_image_once_in_another_order(make_engine: MakeEngine) -> None:
    engine = make_engine()
    first, second = (torch.cat(list(engine.batches(epoch))) for epoch in (0, 1))
    assert torch.equal(first.sort().values, torch.arange(140))
    assert torch.equal(second.sort().values, torch.arange(140))
    assert not torch.equal(first, second)


class Told:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, float]] = []

    def step(self, epoch: int, step: int, steps: int, *, loss: float, images: int) -> None:
        self.steps.append((step, images, loss))

    def epoch(self, row: object) -> None: ...


def test_looking_at_the_loss_less_often_changes_nothing_else(make_engine: MakeEngine, tmp_path: Path) -> None:
    """As on CUDA: sums stay on the device, and are read at every third step, at checkpoints and at an epoch's end."""
    settings = {"epochs": 2, "batch_size": 14, "mixup": 0.2, "checkpoint_steps": 8}
    often, rarely = (make_engine(output=tmp_path / name, **settings) for name in ("often", "rarely"))
    rarely.look_steps = 3
    for engine in (often, rarely):
        engine.reporter = Told()
        engine.run()
    assert equal_weights(often, rarely)
    kept = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    one, other = ([[row[key] for key in kept] for row in engine.history] for engine in (often, rarely))
    assert one == other
    told = [(step, images) for step, images, _ in rarely.reporter.steps]
    assert told == [(3, 42), (6, 42), (8, 28), (9, 14), (10, 14), (2, 28), (5, 42), (6, 14), (8, 28), (10, 28)]
    assert {(step, loss) for step, _, loss in rarely.reporter.steps} <= {
        (step, loss) for step, _, loss in often.reporter.steps
    }


def test_what_is_not_finite_is_never_saved(make_engine: MakeEngine) -> None:
    engine = make_engine(optimizer="sgd", lr=1e30, label_smoothing=0.0, batch_size=14, checkpoint_steps=5)
    engine.look_steps = 1000
    saved: list[int] = []
    engine.save = lambda state, _: saved.append(state.step)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) by step 4: lower lr"):
        engine.run()
    assert not saved


def test_a_loss_that_is_not_finite_stops_with_step_and_advice(make_engine: MakeEngine) -> None:
    engine = make_engine(optimizer="sgd", lr=1e30, epochs=5, label_smoothing=0.0)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) by step \d+: lower lr"):
        engine.run()


def test_files_of_a_run(make_engine: MakeEngine, tmp_path: Path) -> None:
    make_engine().run()
    found = {path.name for path in (tmp_path / "run").iterdir()}
    assert found == {"recipe.json", "history.csv", "history.jsonl", "last.pt", "best.pt"}
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,lr,train_loss,train_accuracy,validation_loss,validation_accuracy")
    assert len(lines) == 3


def test_a_run_is_not_overwritten(make_engine: MakeEngine) -> None:
    make_engine().run()
    with pytest.raises(ConfigError, match="--resume"):
        make_engine()


def test_a_run_needs_a_folder(make_engine: MakeEngine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file cannot be a run's folder: File exists: name another --output"):
        make_engine(output=tmp_path / "file")


def test_resuming_with_another_recipe_names_what_changed(make_engine: MakeEngine) -> None:
    make_engine().run()
    with pytest.raises(ConfigError, match=r"trained with lr = 0.001, not 0.002"):
        make_engine(resume=True, lr=2e-3)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_split_is_named(cartoons: Dataset, tmp_path: Path, split: str) -> None:
    none = cartoons.splits[split].take(np.empty(0, np.int64))
    data = Dataset(cartoons.labels, {**cartoons.splits, split: none}, {"fills": {split: "files called Somewhat_*.jpg"}})
    with pytest.raises(DataError, match=rf"the {split} split is empty: it needs files called Somewhat_"):
        run.prepare(run.Job(Recipe(), data, tmp_path / "run"), World())


def test_votes_that_are_not_there_are_asked_for(cartoons: Dataset, tmp_path: Path) -> None:
    train = cartoons.splits["train"]
    data = Dataset(cartoons.labels, {**cartoons.splits, "train": type(train)(train.images, train.labels, train.names)})
    with pytest.raises(DataError, match="--ferplus"):
        run.prepare(run.Job(Recipe(ferplus="soft"), data, tmp_path / "run"), World())


def test_a_last_batch_smaller_than_its_pieces(make_engine: MakeEngine) -> None:
    engine = make_engine(epochs=1, batch_size=69, accumulate=3)  # 140 images: the last batch holds 2
    engine.run()
    assert engine.sums["n"] == 140


@pytest.mark.parametrize("settings", [{"input_size": 64}, {"early": 0.4}], ids=["another size", "small at first"])
def test_a_size_that_the_network_cannot_take(make_engine: MakeEngine, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="baseline cannot take pictures of"):
        make_engine(**settings)


def test_an_impossible_dropout_is_named(make_engine: MakeEngine) -> None:
    with pytest.raises(ConfigError, match=r"dropout is 2\.0"):
        make_engine(dropout=2.0)
