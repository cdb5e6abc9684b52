from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn


class Answers(nn.Module):
    """Gives its input back, under a name where one is asked for."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Any:
        return x if self.name is None else {"aux": torch.zeros(1), self.name: x}


@pytest.fixture
def answers() -> Callable[..., nn.Module]:
    return Answers
