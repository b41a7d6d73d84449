"""Cross-entropy with soft targets, class balance, the second head, L2 and distillation."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def soft_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Per-sample loss (N,) of logits (N, K) against distributions (N, K); `weights` (K,) scale the classes."""
    terms = -targets * F.log_softmax(logits.float(), dim=1)
    return (terms if weights is None else terms * weights).sum(1)


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Per-sample T^2 * KL(teacher || student) (N,) of Hinton et al. 2015; `teacher` are probabilities (N, K) at T."""
    student = F.log_softmax(logits.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="none").sum(1)


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """(K,) weights n / (K * n_k), as scikit-learn's "balanced"; the mean weight over the samples is 1."""
    counts = torch.bincount(labels, minlength=num_classes).float()
    return len(labels) / (num_classes * counts.clamp(min=1))


def log_prior(labels: Tensor, num_classes: int) -> Tensor:
    """(K,) log class frequencies, added to the logits in training by logit adjustment (Menon et al. 2021)."""
    counts = torch.bincount(labels, minlength=num_classes).float()
    return (counts.clamp(min=1) / counts.sum()).log()


def l2_penalty(model: nn.Module) -> Tensor | float:
    """Sum of squares of the weights that the network calls `penalised`, as Keras' kernel regularisers count them."""
    penalised = [weight for module in model.modules() for weight in getattr(module, "penalised", ())]
    return sum((weight.square().sum() for weight in penalised), start=0.0)
