from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from autoprune.config import TrainingConfig
from autoprune.errors import ConfigError, DataError
from autoprune.training.losses import CrossEntropy, OwnLoss, find_loss, task_losses

HINGE = "torch.nn.functional:multi_margin_loss"


def test_auto_is_that_of_classes() -> None:
    assert isinstance(find_loss(TrainingConfig()), CrossEntropy)


@pytest.mark.parametrize("name", list(task_losses))
def test_every_loss_is_found_by_its_name(name: str) -> None:
    assert type(find_loss(TrainingConfig(loss=name))) is task_losses[name]


def test_a_function_of_the_users_is_called_with_outputs_and_labels() -> None:
    loss, scores = find_loss(TrainingConfig(loss=HINGE, distillation=0.0)), torch.randn(5, 3).requires_grad_()
    labels = torch.tensor([0, 1, 2, 0, 1])
    found = loss.to_labels(scores, labels)
    assert isinstance(loss, OwnLoss)
    assert torch.equal(found, torch.nn.functional.multi_margin_loss(scores, labels))


def test_a_function_of_the_users_knows_no_teacher() -> None:
    with pytest.raises(ConfigError, match=r"needs distillation = 0, got 0\.5"):
        find_loss(TrainingConfig(loss=HINGE))


def number(outputs: Tensor, labels: Tensor) -> Any:
    return 1.0


def rows(outputs: Tensor, labels: Tensor) -> Any:
    return outputs.sum(1)


@pytest.mark.parametrize(("judge", "came"), [(number, "float"), (rows, r"\(5,\)")])
def test_what_cannot_be_trained_on_is_refused(judge: Any, came: str) -> None:
    with pytest.raises(DataError, match=f"one number with a gradient, got {came}"):
        OwnLoss(judge, "mine").to_labels(torch.randn(5, 3).requires_grad_(), torch.zeros(5))


def test_unknown_names_lead_to_the_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown loss 'square-error'.*squared-error"):
        find_loss(TrainingConfig(loss="square-error"))
    with pytest.raises(ConfigError, match="loss: module 'no_such_module' does not import"):
        find_loss(TrainingConfig(loss="no_such_module:function"))


@pytest.mark.parametrize("unread", [{"label_smoothing": 0.1}, {"temperature": 2.0}])
def test_settings_that_a_loss_does_not_read_are_refused(unread: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"does not read {next(iter(unread))}"):
        find_loss(TrainingConfig(loss="squared-error", **unread))
    find_loss(TrainingConfig(loss="pixel-cross-entropy", **unread))
