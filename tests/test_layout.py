from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune.config import TrainingConfig
from autoprune.data.inputs import Inputs
from autoprune.layout import training_layout
from autoprune.training.augmentation import none
from autoprune.training.objective import Objective

WIDE, NARROW = (nn.Conv2d(width, 16, 1, stride=2) for width in (16, 8))


@pytest.mark.parametrize(
    ("conv", "safe"),
    [
        (NARROW, False),
        (nn.Conv2d(32, 32, 1, stride=(1, 2), groups=4), False),
        (WIDE, True),
        (nn.Conv2d(8, 16, 1), True),
        (nn.Conv2d(8, 16, 3, stride=2), True),
        (nn.Conv2d(8, 16, 1, stride=2, device="meta"), True),
    ],
)
def test_channels_last_where_gradients_are_right(conv: nn.Conv2d, safe: bool) -> None:
    layout = training_layout(nn.Sequential(nn.Conv2d(3, 8, 3), conv))
    assert layout is (torch.channels_last if safe else torch.contiguous_format)


class _Probe(nn.Module):
    """Notes the layout of what it is given."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv, self.contiguous = conv, False

    def forward(self, x: Tensor) -> Any:
        self.contiguous = x.is_contiguous()
        return self.conv(x).mean((2, 3))


@pytest.mark.parametrize("conv", [WIDE, NARROW])
def test_fine_tuning_hands_images_out_in_it(conv: nn.Conv2d) -> None:
    settings = TrainingConfig(distillation=0.0)
    objective = Objective(settings, none, torch.device("cpu"))
    probe = _Probe(conv)
    images = Inputs((torch.rand(4, conv.in_channels, 8, 8),))
    objective(probe, (images, torch.zeros(4, dtype=torch.long)), 1.0)
    assert probe.contiguous == (conv is NARROW)
