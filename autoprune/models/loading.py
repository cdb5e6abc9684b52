"""From the [model] section of a study file to a network in eval mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from autoprune.config import ModelConfig
from autoprune.errors import ModelError
from autoprune.importing import import_function
from autoprune.models.checking import check_finite, check_model
from autoprune.models.weights import load_weights, save_weights
from autoprune.training.history import History


def load_model(config: ModelConfig, *, train: Dataset[Any] | None = None, seed: int = 0) -> nn.Module:
    """Build the network, load its weights, and return it on the CPU in eval mode.

    `train` holds (input, label) pairs; only `train_on_first_use` reads it. `seed` decides that training, and
    the initial weights where the study names none, so that every worker gets the same network.
    Raises ModelError for anything that does not import, fit or hold finite numbers.
    """
    model = build(config, seed)
    if config.weights is not None:
        if config.train_on_first_use is not None and not Path(config.weights).exists():
            _train_and_save(model, config, train, seed)
        load_weights(model, config.weights)
    check_model(model, config.factory)
    return model.eval()


def build(config: ModelConfig, seed: int = 0) -> nn.Module:
    """The factory's network with its initial weights; the caller's random state is left as it was."""
    factory = import_function(config.factory, "model factory", ModelError)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = factory(**config.arguments)
        except Exception as error:
            raise ModelError(
                f"model factory '{config.factory}' failed with arguments {config.arguments}: "
                f"{type(error).__name__}: {error}"
            ) from error
    if not isinstance(model, nn.Module):
        found = type(model).__name__
        raise ModelError(f"model factory '{config.factory}' must return an nn.Module, got {found}")
    return model


def _train_and_save(model: nn.Module, config: ModelConfig, train: Dataset[Any] | None, seed: int) -> None:
    assert config.train_on_first_use is not None and config.weights is not None
    if train is None:
        raise ModelError(
            f"weights '{config.weights}' do not exist yet and training them needs images; "
            "pass the training split, or a weights file that exists"
        )
    function = import_function(config.train_on_first_use, "train_on_first_use", ModelError)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        history = function(model, train, seed)
    check_finite(model, config.train_on_first_use)
    if config.history is not None and isinstance(history, History):
        # Before the weights, whose presence says that the training is over.
        history.save(Path(config.history))
    save_weights(model, Path(config.weights))
