"""Losses against torch's own and against sums by hand."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F

from mien import models
from mien.training import losses

LOGITS = torch.randn(32, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(32) % 5  # two classes never occur


def test_hard_targets_are_cross_entropy() -> None:
    ours = losses.soft_cross_entropy(LOGITS, F.one_hot(LABELS, 7).float())
    torch.testing.assert_close(ours, F.cross_entropy(LOGITS, LABELS, reduction="none"))


@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_smoothed_targets_are_label_smoothing(smoothing: float) -> None:
    targets = F.one_hot(LABELS, 7) * (1 - smoothing) + smoothing / 7
    theirs = F.cross_entropy(LOGITS, LABELS, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(losses.soft_cross_entropy(LOGITS, targets), theirs)


def test_weighted_classes() -> None:
    weights = torch.arange(1.0, 8.0)
    ours = losses.soft_cross_entropy(LOGITS, F.one_hot(LABELS, 7).float(), weights)
    torch.testing.assert_close(ours, F.cross_entropy(LOGITS, LABELS, weights, reduction="none"))


def test_class_weights_are_scikit_learn_s() -> None:
    labels = torch.tensor([0] * 10 + [1] * 5 + [2])
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    np.testing.assert_allclose(losses.class_weights(labels, 3).numpy(), theirs, rtol=1e-6)


def test_log_prior_is_the_log_of_frequencies() -> None:
    found = losses.log_prior(torch.tensor([0, 0, 0, 1]), 2)
    torch.testing.assert_close(found, torch.log(torch.tensor([0.75, 0.25])))


def test_distillation_is_nothing_for_a_student_equal_to_its_teacher() -> None:
    teacher = (LOGITS / 2).softmax(1)
    torch.testing.assert_close(losses.distillation(LOGITS, teacher, 2.0), torch.zeros(32), atol=1e-5, rtol=0)


def test_distillation_by_hand() -> None:
    logits, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    student = (logits / 4).softmax(1)
    kl = (0.5 * (0.5 / student).log()).sum()
    torch.testing.assert_close(losses.distillation(logits, teacher, 4.0)[0], 16 * kl)


def test_l2_counts_the_case_study_s_dense_layer_alone() -> None:
    network = models.create("vgg")
    dense = next(layer.weight for layer in network.modules() if isinstance(layer, nn.Linear))
    torch.testing.assert_close(losses.l2_penalty(network), (dense**2).sum())
    assert losses.l2_penalty(models.create("baseline")) == 0
