from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from autoprune.config import TrainingConfig
from autoprune.errors import ModelError
from autoprune.training.optimisation import learning_rate_at, make_optimizer, set_learning_rate


def rates(steps_per_epoch: int = 5, **values: Any) -> list[float]:
    settings = TrainingConfig(learning_rate=0.1, **values)
    return [learning_rate_at(settings, i, steps_per_epoch) for i in range(settings.epochs * steps_per_epoch)]


def test_the_cosine_is_pytorchs() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(epochs=4) == pytest.approx(expected)


def test_steps_fall_at_fractions_of_the_epochs() -> None:
    found = rates(epochs=4, schedule="step", milestones=[0.5, 0.75], gamma=0.2)
    assert found == pytest.approx([0.1] * 10 + [0.02] * 5 + [0.004] * 5)


def test_the_warmup_rises_to_the_full_rate() -> None:
    found = rates(epochs=4, warmup_epochs=1.0)
    assert found[:5] == sorted(found[:5]) and 0 < found[0] < found[4] < 0.1
    assert found[5] == pytest.approx(0.1) and found[5:] == sorted(found[5:], reverse=True)


def test_only_parameters_that_want_gradients_are_trained() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    optimizer = make_optimizer(model, TrainingConfig(nesterov=True, weight_decay=0.1))
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(model.weight)]
    assert optimizer.defaults["nesterov"] and optimizer.defaults["weight_decay"] == 0.1
    adam = make_optimizer(model, TrainingConfig(optimizer="adam", momentum=0.8))
    assert isinstance(adam, torch.optim.AdamW) and adam.defaults["betas"] == (0.8, 0.999)
    set_learning_rate(adam, 0.5)
    assert adam.param_groups[0]["lr"] == 0.5
    with pytest.raises(ModelError, match="requires_grad"):
        make_optimizer(model.requires_grad_(False), TrainingConfig())
