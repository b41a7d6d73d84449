"""Several networks as one: the weighted mean of their calibrated probabilities."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mien.bundle import ModelSpec
from mien.errors import ModelError
from mien.models.pixels import fit_to, normalise
from mien.preprocess import InputSpec

ENSEMBLE_INPUT = InputSpec()
"""48 x 48 grey in [0, 1]: what FER-2013 has; each member makes its own size, channels and normalisation of it."""

FLOOR = 1e-12  # of a mean probability, whose logarithm is a logit


class Ensemble(nn.Module):
    """Pixels (N, 1, 48, 48) in [0, 1] to logits (N, K): the logarithm of the members' weighted mean probability."""

    global_pooling = False

    def __init__(self, members: Sequence[tuple[nn.Module, ModelSpec]], weights: Sequence[float] | None = None) -> None:
        """Join `members`, equally weighted by default.

        Raises:
            ModelError: there are none, their labels differ, or the weights do not fit.
        """
        super().__init__()
        self.specs = tuple(spec for _, spec in members)
        self.weights = shares(self.specs, weights)
        self.members = nn.ModuleList(network for network, _ in members)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits (N, K); their softmax is the weighted mean."""
        mean = torch.zeros(len(pixels), len(self.specs[0].labels), device=pixels.device)
        for network, spec, weight in zip(self.members, self.specs, self.weights, strict=True):
            logits = network(normalise(fit_to(pixels, spec.input), spec.input)).float()
            mean = mean + weight * (logits / spec.temperature).softmax(1)
        return mean.clamp(min=FLOOR).log()


def shares(specs: Sequence[ModelSpec], weights: Sequence[float] | None = None) -> tuple[float, ...]:
    """The members' shares of the mean, which sum to 1.

    Raises:
        ModelError: there are no members, their labels differ, or the weights do not fit.
    """
    if not specs:
        raise ModelError("an ensemble needs members: name runs, checkpoints or .onnx files")
    for spec in specs[1:]:
        if spec.labels != specs[0].labels:
            raise ModelError(
                f"{spec.name} knows {', '.join(spec.labels)}, {specs[0].name} knows {', '.join(specs[0].labels)}: "
                "members need the same labels in the same order"
            )
    weights = [1.0] * len(specs) if weights is None else weights
    usable = all(math.isfinite(weight) and weight >= 0 for weight in weights) and 0 < sum(weights) < math.inf
    if len(weights) != len(specs) or not usable:
        raise ModelError(
            f"weights {list(weights)}: give each of the {len(specs)} members a finite one that is not negative"
        )
    return tuple(weight / sum(weights) for weight in weights)


def joint_spec(
    specs: Sequence[ModelSpec],
    weights: Sequence[float] | None = None,
    *,
    name: str = "ensemble",
    sources: Sequence[Mapping[str, Any]] = (),
) -> ModelSpec:
    """What inference needs to know of an ensemble; `sources` are kept with the members' names and shares.

    Raises:
        ModelError: as `shares`.
    """
    parts = shares(specs, weights)
    about = sources or [{} for _ in specs]
    precisions = {spec.precision for spec in specs}
    return ModelSpec(
        name=name,
        labels=specs[0].labels,
        input=ENSEMBLE_INPUT,
        landmarks=specs[0].landmarks,
        licence="; ".join(dict.fromkeys(spec.licence for spec in specs)),
        precision=precisions.pop() if len(precisions) == 1 else "mixed",
        training={
            "members": [
                {"name": spec.name, "share": part, **source, **_origin(spec)}
                for spec, part, source in zip(specs, parts, about, strict=True)
            ]
        },
    )


def _origin(spec: ModelSpec) -> dict[str, Any]:
    """What the member was trained on, at which size: it is not to be measured on that again."""
    kept = {key: spec.training[key] for key in ("data", "members") if spec.training.get(key)}
    return {"size_hw": spec.input.size_hw, "training": kept} if kept else {}
