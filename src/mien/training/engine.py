"""The training loop. The order of the file is the order of events."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mien.errors import TrainingError
from mien.models.pixels import normalise
from mien.preprocess import InputSpec
from mien.training import augment, dropout, losses, memory, norms, optim
from mien.training.checkpoint import Checkpoint
from mien.training.data import DeviceData
from mien.training.distributed import World
from mien.training.recipe import Recipe

LOOK_STEPS = 20  # on CUDA, where asking for the loss makes the host wait for the device; elsewhere every step


class Teacher(Protocol):
    """Who a student learns from beside the labels."""

    def __call__(self, pixels: Tensor, /) -> Tensor:
        """Pixels (N, C, H, W) in [0, 1] of a student's undamaged view to probabilities (N, K) at its temperature."""


class Reporter(Protocol):
    """Who is told how a run goes; only rank 0 reports."""

    def step(self, epoch: int, step: int, steps: int, *, loss: float, images: int) -> None:
        """Steps of an epoch are done; `images` is what those since the last call held, in all processes.

        A call comes after each step, on CUDA after every `LOOK_STEPS`th and the last one of an epoch. `loss` is the
        epoch's mean so far over the images of rank 0; `epoch` is told that of all processes.
        """

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is done: its row of the history."""


@dataclass(slots=True, eq=False)
class Engine:
    """A run in progress."""

    recipe: Recipe
    spec: InputSpec
    model: nn.Module
    train: DeviceData
    validation: DeviceData
    about: Mapping[str, Any]
    world: World = field(default_factory=World)
    teacher: Teacher | None = None
    reporter: Reporter | None = None
    save: Callable[[Checkpoint, bool], None] | None = None  # the checkpoint, and whether it is the best so far
    start: Mapping[str, Tensor] = field(default_factory=dict)  # the weights begun with, where `start_share` needs them

    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    plateau: optim.Plateau = field(init=False)
    averaged: optim.AveragedWeights | None = field(init=False)
    forward: Callable[[Tensor], Tensor] = field(init=False)
    weights: Tensor | None = field(init=False, default=None)
    prior: Tensor | None = field(init=False, default=None)
    epoch: int = field(init=False, default=0)
    step: int = field(init=False, default=0)
    best: float = field(init=False, default=-math.inf)
    history: list[dict[str, float]] = field(init=False, default_factory=list)
    sums: dict[str, Any] = field(init=False, default_factory=dict)  # of the epoch; on CUDA they stay on the device
    since_s: float = field(init=False, default_factory=time.perf_counter)  # when its seconds were last counted
    look_steps: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        recipe, device = self.recipe, self.world.device
        self.look_steps = LOOK_STEPS if device.type == "cuda" else 1
        self.model = self.model.to(device)
        if device.type == "cpu":
            dropout.quicken(self.model)
        if recipe.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.optimizer = optim.make_optimizer(self.model, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16" and device.type == "cuda")
        self.plateau = optim.Plateau(recipe)
        self.averaged = optim.AveragedWeights(self.model, recipe.ema) if recipe.ema else None
        self.forward = torch.compile(self.model) if recipe.compile else self.model
        if self.world.size > 1:  # outermost, since pieces of a batch ask it to wait (`no_sync`)
            self.forward = DistributedDataParallel(self.forward)
        classes = self.train.targets.shape[1]
        if recipe.balance == "loss":
            self.weights = losses.class_weights(self.train.labels, classes)
        if recipe.balance == "logit-adjust":
            self.prior = losses.log_prior(self.train.labels, classes)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; the last batch may be smaller."""
        return math.ceil(len(self.train) / self.recipe.batch_size)

    def run(self) -> None:
        """Train to the recipe's last epoch, from wherever the engine stands.

        Raises:
            TrainingError: the loss is not finite.
        """
        with memory.kept() if self.world.device.type == "cpu" else nullcontext():
            for epoch in range(self.epoch, self.recipe.epochs):
                self.run_epoch(epoch)

    def run_epoch(self, epoch: int) -> None:
        """One epoch, or the rest of it after a resume."""
        self.since_s = time.perf_counter()
        first = self.step - epoch * self.steps_per_epoch  # 0, or inside an epoch after a resume
        if not first:
            self.begin_sums()
        unseen = 0  # images since the reporter was called
        for index, rows in enumerate(self.batches(epoch)):
            if index < first:
                continue
            looks = self.looks()
            self.train_step(rows)
            self.step += 1
            unseen += len(rows)
            if looks and self.reporter and self.world.writes:
                loss = float(self.sums["loss"]) / max(self.sums["n"], 1)  # a batch of 1 is another process' work
                self.reporter.step(epoch, index + 1, self.steps_per_epoch, loss=loss, images=unseen)
                unseen = 0
            if self._saves(self.step) and index + 1 < self.steps_per_epoch:
                self.checkpoint(better=False)
        self.finish_epoch(epoch)

    def begin_sums(self) -> None:
        """An epoch begins, or something that counts as one."""
        self.sums = {"loss": 0.0, "correct": 0.0, "n": 0.0, "seconds": 0.0}

    def looks(self) -> bool:
        """Whether the coming step's loss is looked at; one that is saved, or ends an epoch, always is."""
        step = self.step + 1
        return step % self.look_steps == 0 or step % self.steps_per_epoch == 0 or self._saves(step)

    def _saves(self, step: int) -> bool:
        every = self.recipe.checkpoint_steps
        return every > 0 and step % every == 0

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Rows of the training data, batch by batch, in an order that depends on the seed and the epoch alone."""
        generator = torch.Generator().manual_seed(_mixed(self.recipe.seed, epoch, 1))
        n = len(self.train)
        if self.recipe.balance == "sampler":  # every class equally often
            labels = self.train.labels.cpu()
            shares = 1 / torch.bincount(labels).float()[labels]
            order = torch.multinomial(shares, n, replacement=True, generator=generator)
        else:
            order = torch.randperm(n, generator=generator)
        yield from torch.split(order.to(self.world.device), self.recipe.batch_size)

    def train_step(self, rows: Tensor) -> None:
        """One optimiser step on the batch `rows`."""
        recipe = self.recipe
        total = recipe.epochs * self.steps_per_epoch
        optim.set_rate(self.optimizer, recipe.lr * self.plateau.factor * optim.rate(recipe, self.step, total))
        self.backward(rows)
        if self.looks() and not math.isfinite(loss := float(self.sums["loss"])):
            raise TrainingError(
                f"the loss is {loss} by step {self.step}: lower lr (now {recipe.lr}) or set gradient_clip = 1.0"
            )
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if recipe.sam_rho:
            undo = optim.sharpen(parameters, recipe.sam_rho)
            self.backward(rows, count=False)
            undo()
        if recipe.gradient_clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(parameters, recipe.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.averaged:
            self.averaged.update(self.step)

    def backward(self, rows: Tensor, *, count: bool = True) -> None:
        """Gradients of the mean loss over the whole batch; `count` adds this process' part of it to the sums."""
        recipe, world = self.recipe, self.world
        self.optimizer.zero_grad(set_to_none=True)
        device_seed = _mixed(recipe.seed, self.step, 2)
        generator = torch.Generator(world.device).manual_seed(device_seed)
        calm = self.step >= (1 - recipe.calm) * recipe.epochs * self.steps_per_epoch
        draws = augment.draw(recipe, len(rows), generator, calm=calm, size_hw=self.view_hw)
        torch.manual_seed(_mixed(device_seed, world.rank, 3))  # dropout: exact on resume, different in each process
        mine = torch.arange(len(rows), device=world.device)[world.rows(len(rows))]
        # a last batch may hold fewer images than there are pieces, or processes: DDP waits for all, so one without work
        # goes through the motions on an image that counts nothing
        idle = not len(mine)
        mine = mine.new_zeros(1) if idle else mine
        pieces = [piece for piece in mine.tensor_split(recipe.accumulate) if len(piece)]
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            with self._unsynchronised(last):
                images, targets, head = self.views(rows, draws, piece)
                loss, logits = self.loss(augment.damage(images, draws.rows(piece)), images, targets, head)
                total = loss.sum()
                if recipe.l2:
                    total = total + recipe.l2 * losses.l2_penalty(self.model) * len(piece)
                mean = total * (not idle) / len(rows)
                # DDP averages gradients over the processes, so each scales its share of the batch's mean up
                self.scaler.scale(mean * world.size).backward()  # type: ignore[no-untyped-call]
            if count and not idle:
                self.sums["loss"] += self._number(loss.detach().sum())
                self.sums["correct"] += self._number((logits.argmax(1) == targets.argmax(1)).sum())
                self.sums["n"] += len(piece)

    def views(self, rows: Tensor, draws: augment.Draws, piece: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Undamaged pixels (n, C, H, W) in [0, 1], targets (n, K), head targets of the samples `piece` of the batch."""

        def view(index: Tensor) -> Tensor:
            pixels = self.train.pixels(rows[index], self.spec)
            return augment.view(pixels, draws.rows(index), padding=self.recipe.padding, size_hw=self.view_hw)

        images, targets = view(piece), self.train.targets[rows[piece]]
        head = None if self.train.head_targets is None else self.train.head_targets[rows[piece]]
        if draws.mixed:
            partner = draws.partner[piece]
            images = augment.mix(images, view(partner), draws.rows(piece))
            targets = augment.mix_targets(targets, self.train.targets[rows[partner]], draws.rows(piece))
            if head is not None and self.train.head_targets is not None:
                head = augment.mix_targets(head, self.train.head_targets[rows[partner]], draws.rows(piece))
        return images, targets, head

    @property
    def view_hw(self) -> tuple[int, int]:
        """Height and width of this step's views."""
        small = self.step < self.recipe.early * self.recipe.epochs * self.steps_per_epoch
        return (self.recipe.early_size, self.recipe.early_size) if small else self.spec.size_hw

    def loss(self, images: Tensor, undamaged: Tensor, targets: Tensor, head: Tensor | None) -> tuple[Tensor, Tensor]:
        """Per-sample loss (n,) and logits (n, K); teachers judge the view before blur and noise."""
        with self._autocast():
            output = self.forward(self._input(images))
        logits, second = output if isinstance(output, tuple) else (output, None)
        adjusted = logits if self.prior is None else logits + self.prior
        loss = losses.soft_cross_entropy(adjusted, targets, self.weights)
        if self.teacher is not None:
            weight = self.recipe.distill_weight
            with torch.no_grad(), self._autocast():
                taught = self.teacher(undamaged).float()
            kl = losses.distillation(logits, taught, self.recipe.distill_temperature)
            loss = (1 - weight) * loss + weight * kl
        if head is not None and second is not None:
            loss = loss + self.recipe.head_weight * losses.soft_cross_entropy(second, head)
        return loss, logits

    def finish_epoch(self, epoch: int) -> None:
        """Validate, write the history's row and the checkpoints."""
        self._count_seconds()
        loss, correct, n, trained_s = self._all_sums().values()
        if self.recipe.start_share and epoch + 1 == self.recipe.epochs:
            self.mix_with_start()
        self.estimate_norms()
        found = self._agreed(self.validate())
        row = {
            "epoch": epoch + 1,
            "lr": self.optimizer.param_groups[-1]["lr"],
            "train_loss": loss / n,
            "train_accuracy": correct / n,
            "validation_loss": found["loss"],
            "validation_accuracy": found["accuracy"],
            "seconds": trained_s + time.perf_counter() - self.since_s,
            "images_per_s": n / trained_s,
        }
        self.history.append(row)
        self.plateau.update(found["accuracy"]) if self.recipe.schedule == "plateau" else None
        better = found["accuracy"] > self.best
        self.best = max(self.best, found["accuracy"])
        self.epoch = epoch + 1
        self.checkpoint(better=better)
        if self.reporter and self.world.writes:
            self.reporter.epoch(row)

    @property
    def kept(self) -> nn.Module:
        """The weights that are evaluated and exported: the averaged ones where there are any."""
        return self.model if self.averaged is None else self.averaged.model

    @torch.no_grad()
    def mix_with_start(self) -> None:
        """Move the weights that are kept towards those begun with (WiSE-FT; Wortsman et al. 2022, arXiv 2109.01903)."""
        for name, value in self.kept.state_dict().items():
            if value.is_floating_point():
                value.lerp_(self.start[name].to(value), self.recipe.start_share)

    def estimate_norms(self) -> None:
        """Batch-norm statistics of the weights that would be kept, from training images without augmentation."""
        rows = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(_mixed(self.recipe.seed, 0, 4)))
        rows = rows[: self.recipe.norm_images].to(self.world.device)
        if len(rows) < 2:  # off, or a single training image
            return
        batches = rows.tensor_split(math.ceil(len(rows) / 256))
        with self._autocast():
            norms.estimate(
                self.kept, self.kept, (self._input(self.train.pixels(batch, self.spec)) for batch in batches)
            )

    @torch.inference_mode()
    def validation_logits(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows (n,) of the validation split and their float32 logits (n, K), of the weights that would be kept."""
        model = self.kept
        was_training = model.training
        model.eval()
        for rows in torch.split(torch.arange(len(self.validation), device=self.world.device), 256):
            pixels = self.validation.pixels(rows, self.spec)
            with self._autocast():
                output = model(self._input(pixels))
            yield rows, (output[0] if isinstance(output, tuple) else output).float()
        model.train(was_training)

    def validate(self) -> dict[str, float]:
        """Log-loss and accuracy of the weights that would be kept, on the validation split, without augmentation."""
        loss: Any = 0.0
        correct: Any = 0.0
        for rows, logits in self.validation_logits():
            labels = self.validation.labels[rows]
            loss += self._number(nn.functional.cross_entropy(logits, labels, reduction="sum"))
            correct += self._number((logits.argmax(1) == labels).sum())
        return {"loss": float(loss) / len(self.validation), "accuracy": float(correct) / len(self.validation)}

    def _all_sums(self) -> dict[str, float]:
        """`sums` over all processes, as plain numbers."""
        mine = {name: float(value) for name, value in self.sums.items()}
        if self.world.size == 1:
            return mine
        device = self.world.device if self.world.device.type == "cuda" else "cpu"  # NCCL adds there, gloo here
        values = torch.tensor(list(mine.values()), dtype=torch.float64, device=device)
        distributed.all_reduce(values)
        return dict(zip(mine, values.tolist(), strict=True))

    def _count_seconds(self) -> None:
        """Add the time since the last count to the epoch's: in one process, as the sums are of all."""
        now = time.perf_counter()
        if self.world.writes:
            self.sums["seconds"] += now - self.since_s
        self.since_s = now

    def _number(self, value: Tensor) -> Any:
        """A 0-dim tensor as a float; where that would make the host wait, as float64 on the device."""
        return float(value) if self.look_steps == 1 else value.double()

    def _agreed(self, found: dict[str, float]) -> dict[str, float]:
        """Rank 0's figures for all: batch-norm statistics differ, and the plateau must fall everywhere at once."""
        if self.world.size == 1:
            return found
        values = torch.tensor(list(found.values()), device=self.world.device)
        distributed.broadcast(values, 0)
        return dict(zip(found, values.tolist(), strict=True))

    def checkpoint(self, *, better: bool) -> None:
        """Hand the state to `save`, on rank 0; every process must come here."""
        self._count_seconds()
        state = self.state()
        if self.save and self.world.writes:
            self.save(state, better)
        self.world.wait()

    def state(self) -> Checkpoint:
        """Everything that going on needs; every process must ask for it, since the sums are those of all."""
        return Checkpoint(
            about=dict(self.about),
            model=self.model.state_dict(),
            averaged=None if self.averaged is None else self.averaged.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            plateau=self.plateau.state_dict(),
            epoch=self.epoch,
            step=self.step,
            sums=self._all_sums(),
            best=self.best,
            history=list(self.history),
        )

    def restore(self, state: Checkpoint) -> None:
        """Go on from a checkpoint as if there had been no stop."""
        self.model.load_state_dict(state.model)
        if self.averaged is not None and state.averaged is not None:
            self.averaged.model.load_state_dict(state.averaged)
        self.optimizer.load_state_dict(dict(state.optimizer))
        self.scaler.load_state_dict(dict(state.scaler))
        self.plateau.load_state_dict(dict(state.plateau))
        self.epoch, self.step, self.best = state.epoch, state.step, state.best
        self.history = list(state.history)
        mine = self.world.rank == 0  # the sums are of all processes, so one alone goes on with them
        self.sums = {name: value if mine else 0.0 for name, value in state.sums.items()}
        self.sums.setdefault("seconds", 0.0)  # older checkpoints do not tell

    def _input(self, pixels: Tensor) -> Tensor:
        images = normalise(pixels, self.spec)
        return images.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last else images

    def _autocast(self) -> AbstractContextManager[object]:
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        if self.recipe.precision not in kinds:
            return nullcontext()
        return torch.autocast(self.world.device.type, kinds[self.recipe.precision])

    def _unsynchronised(self, last: bool) -> AbstractContextManager[object]:
        if last or not isinstance(self.forward, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[object] = self.forward.no_sync()
        return context


def _mixed(seed: int, number: int, stream: int) -> int:
    """A seed for `number` of one of several independent streams (the finaliser of SplitMix64)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + stream * 0x94D049BB133111EB) % 2**64
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    return (mixed ^ (mixed >> 31)) % 2**63
