"""Processes of one run, as torchrun starts them: same draws everywhere, each works on its slice of the batch."""

import os
from dataclasses import dataclass, field

import torch
from torch import distributed

from mien.errors import ConfigError


@dataclass(frozen=True, slots=True)
class World:
    """This process among all of the run."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def writes(self) -> bool:
        """Only rank 0 writes files and reports."""
        return self.rank == 0

    def rows(self, n: int) -> slice:
        """This process' rows of a batch of `n`."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            distributed.barrier()


def join(device: str = "auto") -> World:
    """Join the run that torchrun's environment describes, or be the only process.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = pick_device(device, local)
    if size > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return World(int(os.environ.get("RANK", "0")), size, chosen)


def leave() -> None:
    """End the process group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """`auto` is a CUDA GPU, else Apple's, else the CPU.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(f"cuda:{local_rank}" if name == "cuda" else name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name}: not usable here: use auto or cpu") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
