"""Checkpoints: whole, written at once, read as data only."""

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mien.errors import ModelError, first_sentence

FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Everything that going on needs. Random draws depend on seed and step alone, so no generator state is kept."""

    about: Mapping[str, Any]  # recipe, labels, input, data, versions: plain values
    model: Mapping[str, torch.Tensor]
    averaged: Mapping[str, torch.Tensor] | None
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    plateau: Mapping[str, float]
    epoch: int  # finished epochs
    step: int  # finished steps, over all epochs
    sums: Mapping[str, float]  # of the unfinished epoch: loss, correct, n, seconds
    best: float  # best validation accuracy so far
    history: list[dict[str, float]]  # one row a finished epoch

    @property
    def weights(self) -> Mapping[str, torch.Tensor]:
        """What is evaluated and exported: the averaged weights where there are any."""
        return self.model if self.averaged is None else self.averaged


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint`; a killed run keeps its last good one."""
    partial = path.with_suffix(".partial")
    table = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
    with partial.open("wb") as file:
        torch.save({"format": FORMAT, **table}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint; nothing in the file is executed.

    Raises:
        ModelError: the file is missing, damaged, or no checkpoint of this mien.
    """
    try:
        table = torch.load(path, map_location=device, weights_only=True)
        if table.pop("format") != FORMAT:
            raise ModelError(f"{path} was written by a newer mien: upgrade")
        return Checkpoint(**table)
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist: name a run folder or a checkpoint") from error
    except ModelError:
        raise
    except Exception as error:  # unpickling a damaged file can raise anything
        raise ModelError(f"{path} is no checkpoint of mien, or is damaged: {first_sentence(error)}") from error


def about(path: Path) -> Mapping[str, Any] | None:
    """What a file of torch says of itself if it is a checkpoint of mien, else None.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        table = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # unpickling a damaged file can raise anything
        raise ModelError(f"{path} cannot be read as weights: {first_sentence(error)}") from error
    found: Mapping[str, Any] | None = table.get("about") if isinstance(table, Mapping) else None
    return found


def kept(run: Path) -> Path:
    """The checkpoint that a run folder stands for: the last or the best one, as its recipe says.

    Raises:
        ModelError: the folder is no run.
    """
    try:
        keep = json.loads((run / "recipe.json").read_text(encoding="utf-8"))["recipe"]["keep"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{run} is no run: it has no readable recipe.json") from error
    return run / f"{keep}.pt"
