"""The data set on the device: one uint8 tensor of images, one float tensor of target distributions."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mien.datasets.ferplus import vote_shares, voted_faces
from mien.datasets.packed import Split
from mien.errors import ConfigError, DataError
from mien.labels import FERPLUS8
from mien.models.pixels import fit_to
from mien.preprocess import InputSpec
from mien.training.recipe import Recipe

VOTED = ("majority", "probability")  # settings of `ferplus` with which FER+'s eight classes are learned
ON_DEVICE_BYTES = 4 << 30  # larger data sets stay memory-mapped on the host


@dataclass(frozen=True, slots=True, eq=False)
class DeviceData:
    """Images and targets of one split."""

    images: Tensor | NDArray[np.uint8]  # (N, H, W) or (N, H, W, 3) uint8: a tensor on the device, or memory-mapped
    labels: Tensor  # (N,) int64, on the device
    targets: Tensor  # (N, K) float32 distributions, on the device
    head_targets: Tensor | None  # (N, 8) FER+ distributions for the second head; rows of zeros where unknown
    device: torch.device

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, rows: Tensor, spec: InputSpec) -> Tensor:
        """(N, C, h, w) float32 in [0, 1] on the device: channels and size are the network's."""
        if isinstance(self.images, Tensor):
            batch = self.images[rows]
        else:
            batch = torch.from_numpy(self.images[rows.cpu().numpy()]).to(self.device, non_blocking=True)
        batch = batch.float() / 255
        batch = batch[:, None] if batch.ndim == 3 else batch.permute(0, 3, 1, 2)
        return fit_to(batch, spec)


def place(split: Split, labels: tuple[str, ...], recipe: Recipe, device: torch.device) -> DeviceData:
    """Put a split on the device, with the targets that the recipe asks for.

    Raises:
        DataError: the recipe needs FER+ votes and the split has none.
    """
    if recipe.ferplus != "none" and (split.votes is None or not split.votes.any()):
        raise DataError(
            f"ferplus = {recipe.ferplus!r} needs the FER+ votes: prepare the data with --ferplus fer2013new.csv"
        )
    if recipe.ferplus in VOTED:
        split = split.take(voted_faces(split))
    resident = split.images.nbytes <= ON_DEVICE_BYTES
    images = torch.from_numpy(np.array(split.images)).to(device) if resident else split.images
    label_tensor, targets = _targets(split, len(labels), recipe)
    head = torch.from_numpy(vote_shares(split)) if recipe.ferplus == "head" else None
    return DeviceData(
        images,
        label_tensor.to(device),
        targets.to(device),
        None if head is None else head.to(device),
        device,
    )


def task_labels(labels: tuple[str, ...], recipe: Recipe) -> tuple[str, ...]:
    """The labels that the network learns: the data's, or FER+'s eight."""
    if recipe.ferplus in VOTED:
        if labels != FERPLUS8[:7]:
            raise ConfigError(f"ferplus = {recipe.ferplus!r} is for the seven classes of FER-2013, not {labels}")
        return FERPLUS8
    return labels


def label_given_vote(split: Split, num_classes: int) -> NDArray[np.float64]:
    """(8, K): how often each label stands on images that a FER+ vote for each class went to."""
    shares = vote_shares(split).astype(np.float64)
    onehot = np.eye(num_classes)[split.labels]
    counts = shares.T @ onehot + 1e-6
    return np.asarray(counts / counts.sum(1, keepdims=True))


def _targets(split: Split, num_classes: int, recipe: Recipe) -> tuple[Tensor, Tensor]:
    labels = torch.tensor(np.asarray(split.labels))  # a copy: the split stays as it is
    if recipe.ferplus in VOTED:
        shares = torch.from_numpy(vote_shares(split))
        labels = shares.argmax(1)
        targets = shares if recipe.ferplus == "probability" else F.one_hot(labels, 8).float()
        return labels, _smooth(targets, recipe.label_smoothing)
    onehot = F.one_hot(labels, num_classes).float()
    smooth = _smooth(onehot, recipe.label_smoothing)
    if recipe.ferplus != "soft":
        return labels, smooth
    voted_shares = vote_shares(split)
    expected = torch.from_numpy((voted_shares @ label_given_vote(split, num_classes)).astype(np.float32))
    keep = 1 - recipe.soft_votes - recipe.soft_uniform
    soft = keep * onehot + recipe.soft_votes * expected + recipe.soft_uniform / num_classes
    voted = torch.from_numpy(voted_shares.sum(1) > 0)[:, None]
    return labels, torch.where(voted, soft, smooth)


def _smooth(targets: Tensor, smoothing: float) -> Tensor:
    return targets * (1 - smoothing) + smoothing / targets.shape[1]
