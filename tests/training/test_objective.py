"""What is minimised on a batch: which inputs are augmented, and whose labels count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune.config import TrainingConfig
from autoprune.errors import DataError
from autoprune.training.augmentation import make_augmentation
from autoprune.training.losses import CrossEntropy
from autoprune.training.objective import Objective


class Seen(nn.Module):
    """Remembers what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 2)

    def forward(self, pixels: Tensor, beside: Tensor | None = None) -> Any:
        self.pixels = pixels
        return self.last(pixels.mean((2, 3)))


IMAGES, LABELS = torch.randn(8, 3, 16, 16), torch.arange(8) % 2


def objective(augmentation: str) -> Objective:
    settings = TrainingConfig(distillation=0.0, augmentation=augmentation)
    return Objective(settings, CrossEntropy(), make_augmentation(augmentation), torch.device("cpu"))


@pytest.mark.parametrize("inputs", [IMAGES, {"pixels": IMAGES}])
def test_the_only_input_is_augmented_whatever_it_is_called_by(inputs: Any) -> None:
    network = Seen()
    objective("none")(network, (inputs, LABELS), 1.0)
    assert torch.equal(network.pixels, IMAGES)
    for name in ("auto", "crop-flip"):
        objective(name)(network, (inputs, LABELS), 1.0)
        assert network.pixels.shape == IMAGES.shape and not torch.equal(network.pixels, IMAGES)


def test_of_several_inputs_none_is_augmented() -> None:
    network, batch = Seen(), ({"pixels": IMAGES, "beside": IMAGES}, LABELS)
    objective("auto")(network, batch, 1.0)
    assert torch.equal(network.pixels, IMAGES)
    with pytest.raises(DataError, match="'crop-flip' changes the only input of a network, got 2 inputs"):
        objective("crop-flip")(network, batch, 1.0)
