from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autoprune.data.inputs import Inputs
from autoprune.models import fingerprint
from autoprune.searching.engine import Engine, Options, Task
from autoprune.searching.metrics import Accuracy
from tests.small import NETWORKS

MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine() -> MakeEngine:
    return engine_for


def engine_for(
    network: str = "chain", storage: str | None = None, *, seed: int = 0, data: str = "data", **options: Any
) -> Engine:
    """An engine for one of the small networks, judged by agreement with its own noisy answers."""
    small = NETWORKS[network]
    model, images = small.model(seed), small.images(48, seed=2)
    metric = Accuracy([(images, labels_of(model, images))], torch.device("cpu"))
    prints = {"model": fingerprint(model), "data": data}
    task = Task(
        name="study",
        model=model,
        chunks=[Inputs((small.images(32),))],
        probe=metric.inputs,
        metric=metric,
        fingerprints=prints,
    )
    return Engine(task, Options(**{"trials": 8, **options}), storage)


@torch.no_grad()
def labels_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    output = model(images)
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    return (output + 0.1 * output.std() * noise).argmax(1)
