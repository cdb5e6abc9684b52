"""What the examples share: their arguments, a plain training loop, and the comparison with uniform rates."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import autoprune

SMOKE = "--smoke" in sys.argv
"""A few steps of everything, as the tests run it: the numbers then mean nothing."""
SEED = int(next((argument for argument in sys.argv[1:] if argument.isdigit()), 0))
torch.manual_seed(SEED)


def few(count: int, smoke: int = 32) -> int:
    """So many, or few in smoke form."""
    return smoke if SMOKE else count


def fit(
    model: nn.Module, inputs: Tensor, targets: Tensor, loss: Callable[[Any, Tensor], Tensor], epochs: int
) -> None:
    """Train with Adam; the model ends in eval mode."""
    optimizer, epochs = torch.optim.AdamW(model.parameters()), few(epochs, 1)
    steps = epochs * -(-len(inputs) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            loss(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
            schedule.step()
    model.eval()


def show(front: autoprune.Front) -> None:
    """The front on the validation split, with the dense network at its end."""
    shown, dense = front.metric.shown, front.dense
    for point in front:
        print(f"{front.metric.name} {shown(point.accuracy)} at {point.macs_ratio:.0%} of the MACs")
    print(f"{front.metric.name} {shown(dense.accuracy)} dense, {dense.macs:,} MACs")


def against_uniform(
    model: nn.Module, front: autoprune.Front, test: Callable[[nn.Module], float], **options: Any
) -> None:
    """At half the MACs on test data, each chosen on validation, with the same `options` of the search."""
    uniform = autoprune.search(model, **options, trials=few(12, 2), strategy="uniform", budget={"macs": 0.5})
    shown, contestants = front.metric.shown, {"front": front, "uniform rates": uniform}
    print(f"test: dense {shown(test(model))}")
    for name, found in contestants.items():
        point = found.best(macs=0.5)
        print(f"test: {name} {shown(test(point.build()))} at {point.macs_ratio:.1%} of the MACs")
