"""Training on first use leaves the weights and the history of their training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from autoprune.config import ModelConfig
from autoprune.graph import find_groups
from autoprune.models import fingerprint, load_model
from autoprune.models.lenet_training import SETTINGS
from autoprune.training.history import History, filter_norms


def test_weights_and_history_are_made_together(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 1, 28, 28, generator=generator)
    train = TensorDataset(images, torch.arange(40) % 10)
    config = ModelConfig(
        factory="autoprune.models:lenet5",
        weights=str(tmp_path / "cache" / "weights.safetensors"),
        history=str(tmp_path / "cache" / "history.safetensors"),
        train_on_first_use="autoprune.models:train_lenet5",
    )
    model = load_model(config, train=train)
    assert config.history is not None
    history = History.load(config.history).check(model, find_groups(model, (images[:1],)))
    assert history.epochs == SETTINGS.epochs
    last = history.norms["conv1.weight"][-1]
    assert torch.allclose(last.float(), filter_norms(model.get_parameter("conv1.weight"), 0))
    assert not torch.equal(last, history.norms["conv1.weight"][0])
    assert fingerprint(load_model(config)) == fingerprint(model), "trained again"
    untrained = load_model(ModelConfig(factory="autoprune.models:lenet5"))
    assert fingerprint(untrained) != fingerprint(model)
