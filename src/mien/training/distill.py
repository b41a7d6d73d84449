"""Teachers: trained models that judge the very views that a student sees, before blur and noise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mien import hub
from mien.bundle import ModelSpec
from mien.errors import ConfigError
from mien.models.pixels import fit_to, normalise
from mien.training import run

Logits = Callable[[Tensor], Tensor]
"""Network input (N, C, h, w) to logits (N, K) on the same device."""


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One teacher."""

    spec: ModelSpec
    logits: Logits
    sha256: str  # of the file that it was read from


class Teachers:
    """The mean of several models: pixels (N, C, H, W) in [0, 1] of a student's view to probabilities (N, K)."""

    def __init__(self, members: Sequence[Member], *, temperature: float) -> None:
        """Join `members`; `temperature` softens each one's logits (Hinton et al. 2015).

        Raises:
            ConfigError: there are none, or their labels differ.
        """
        if not members:
            raise ConfigError("distillation needs a teacher: name one or more runs or .onnx files with --teacher")
        self.members, self.temperature = tuple(members), temperature
        self.labels = members[0].spec.labels
        for member in members[1:]:
            if member.spec.labels != self.labels:
                raise ConfigError(f"teachers {members[0].spec.name} and {member.spec.name} have different labels")

    @property
    def about(self) -> tuple[Mapping[str, Any], ...]:
        """What a run keeps of its teachers."""
        return tuple({"name": member.spec.name, "sha256": member.sha256} for member in self.members)

    @torch.no_grad()
    def __call__(self, pixels: Tensor, /) -> Tensor:
        """Each teacher gets the view in its own size, channels and normalisation."""
        total = torch.zeros(len(pixels), len(self.labels), device=pixels.device)
        for member in self.members:
            spec = member.spec.input
            logits = member.logits(normalise(fit_to(pixels, spec), spec)).float()
            total += (logits / self.temperature).softmax(1)
        return total / len(self.members)


def load(sources: Sequence[str], *, temperature: float) -> Teachers:
    """Teachers from run folders, checkpoints, `.onnx` files and packaged models' names.

    Raises:
        ModelError: one is missing or damaged.
        ConfigError: there are none, or their labels differ.
    """
    return Teachers([_member(source) for source in sources], temperature=temperature)


def _member(source: str) -> Member:
    path = hub.resolve(source)
    if not hub.is_trained(path):
        from mien.runtime.predictor import read_spec  # noqa: PLC0415 - other teachers need no ONNX Runtime
        from mien.runtime.session import create_session  # noqa: PLC0415

        session = create_session(path, name=source)
        spec = read_spec(session, source)

        def logits(images: Tensor) -> Tensor:
            (found,) = session.run(["logits"], {"images": images.float().contiguous().cpu().numpy()})
            return torch.from_numpy(found).to(images.device)

        return Member(spec, logits, hub.sha256_of(path))
    model, spec = run.load_model(path)
    return Member(spec, _on_device_of_input(model), hub.sha256_of(run.file_of(path)))


def _on_device_of_input(model: nn.Module) -> Logits:
    model.requires_grad_(False)
    model.to(memory_format=torch.channels_last)  # a third faster in bf16 on a CPU

    def logits(images: Tensor) -> Tensor:
        if next(model.parameters()).device != images.device:  # `to` walks all modules, even with nothing to move
            model.to(images.device)
        found: Tensor = model(images)
        return found

    return logits
