"""Optimisers, and the learning rate as a function of how far training has come."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import Optimizer

from autoprune.config import TrainingConfig
from autoprune.errors import ModelError


def make_optimizer(network: nn.Module, settings: TrainingConfig) -> Optimizer:
    """The optimiser of all parameters that want gradients; ModelError where there are none."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        raise ModelError("no parameter of the network has requires_grad; there is nothing to train.")
    rate, momentum, decay = settings.learning_rate, settings.momentum, settings.weight_decay
    if settings.optimizer == "adam":
        return torch.optim.AdamW(parameters, lr=rate, betas=(momentum, 0.999), weight_decay=decay)
    return torch.optim.SGD(
        parameters, lr=rate, momentum=momentum, weight_decay=decay, nesterov=settings.nesterov
    )


def learning_rate_at(settings: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """Learning rate of step 0, 1, ... of the whole training.

    It rises linearly over the warm-up. The cosine then falls towards 0 (Loshchilov and Hutter, SGDR, ICLR
    2017, eq. 5, without restarts); milestones are counted from the very beginning, warm-up included.
    """
    warmup, total = round(settings.warmup_epochs * steps_per_epoch), settings.epochs * steps_per_epoch
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    if settings.schedule == "step":
        passed = sum(step >= milestone * total for milestone in settings.milestones)
        return settings.learning_rate * settings.gamma**passed
    return settings.learning_rate * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """The same rate for all groups of parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate
