"""A problem that a tiny network learns in a second: the class is in the mean of a channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from autoprune.config import TrainingConfig
from autoprune.training import TrainingData

torch.set_num_threads(1)


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    noise = 0.5 * torch.randn(count, 3, 8, 8, generator=generator)
    return noise + nn.functional.one_hot(labels, 3)[:, :, None, None], labels


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Dropout(0.2), nn.Linear(8, 3),
        ).eval()  # fmt: skip


class Listed(Dataset[Any]):
    """A dataset that gives one item at a time, as those of users do."""

    def __init__(self, images: Tensor, labels: Tensor | None) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.images[index] if self.labels is None else (self.images[index], int(self.labels[index]))


@pytest.fixture(scope="session")
def train() -> TrainingData:
    return TrainingData.of(TensorDataset(*images(90, seed=1)))


@pytest.fixture(scope="session")
def accuracy() -> Callable[[nn.Module], float]:
    """Of a network in eval mode, on images of its own."""
    held_out, labels = images(200, seed=2)

    def measure(model: nn.Module) -> float:
        assert not model.training
        return float((model(held_out).argmax(1) == labels).double().mean())

    return measure


def settings(**values: Any) -> TrainingConfig:
    plain = {"epochs": 4, "batch_size": 32, "learning_rate": 0.1, "distillation": 0.0}
    return TrainingConfig(**{**plain, **values})
