"""The loop over epochs and batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from autoprune.config import TrainingConfig
from autoprune.errors import TrainingError
from autoprune.progress import Stage
from autoprune.tensors import as_number
from autoprune.training.data import TrainingData, steps_per_epoch
from autoprune.training.objective import Objective
from autoprune.training.optimisation import learning_rate_at, set_learning_rate
from autoprune.training.randomness import seed_of, seeded
from autoprune.training.record import Epoch
from autoprune.training.temperature import temperature_at

LOOK_EVERY = 10
"""Steps between two looks at the loss: on a GPU each look waits for all work given to it."""


class Diverged(TrainingError):
    """Loss or metric of a training is not a finite number: the network or the settings are to blame."""


@dataclass(frozen=True)
class Loop:
    """Trains one network. Each epoch's randomness follows from the seed and the epoch's number alone."""

    network: nn.Module
    data: TrainingData
    settings: TrainingConfig
    objective: Objective
    evaluate: Callable[[nn.Module], float] | None
    seed: int
    device: torch.device

    @cached_property
    def steps(self) -> int:
        """Steps of one epoch."""
        return steps_per_epoch(len(self.data), self.settings.batch_size)

    def epoch(self, number: int, optimizer: Optimizer, stage: Stage) -> Epoch:
        """Train epoch `number` (from 1) and measure the network, which is left in eval mode.

        Diverged when the loss or the metric is not finite.
        """
        start = time.perf_counter()
        self._training_mode()
        with seeded(seed_of(self.seed, number, 0), self.device):
            loss = self._train(number, optimizer, stage)
        metric = self.metric(number)
        return Epoch(
            number=number,
            loss=loss,
            metric=metric,
            learning_rate=optimizer.param_groups[0]["lr"],
            seconds=time.perf_counter() - start,
        )

    def metric(self, epochs: int) -> float | None:
        """What `evaluate` says of the network in eval mode after so many epochs, higher is better.

        DataError where that is no number, Diverged where it is not finite.
        """
        self.network.eval()
        if self.evaluate is None:
            return None
        with torch.no_grad():
            value = as_number(self.evaluate(self.network))
        if not math.isfinite(value):
            advice = _ADVICE if epochs else "the network was not trained yet: look at it, and at the data."
            raise Diverged(f"the validation metric must be a finite number, got {value}; {advice}")
        return value

    def _train(self, number: int, optimizer: Optimizer, stage: Stage) -> float:
        """One pass over the images; the mean loss per image."""
        total = torch.zeros((), device=self.device)
        images, first = 0, (number - 1) * self.steps
        batches = self.data.batches(self.settings.batch_size, seed_of(self.seed, number, 1))
        for step, batch in enumerate(batches):
            loss, size = self._step(batch, first + step, optimizer)
            total += loss * size
            images += size
            look = step % LOOK_EVERY == 0 or step + 1 == self.steps
            stage.advance(1, self._note(number, _checked(total, images)) if look else None)
        return _checked(total, images)

    def _step(self, batch: object, step: int, optimizer: Optimizer) -> tuple[Tensor, int]:
        """One update of the weights; the loss before it and the number of images."""
        last = self.steps * self.settings.epochs - 1
        set_learning_rate(optimizer, learning_rate_at(self.settings, step, self.steps))
        temperature = temperature_at(self.settings.temperature, step / max(last, 1))
        loss, size = self.objective(self.network, batch, temperature)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach(), size

    def _training_mode(self) -> None:
        self.network.train()
        if self.settings.freeze_batch_norm:
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def _note(self, number: int, loss: float) -> str:
        return f"epoch {number}/{self.settings.epochs}, loss {loss:.4f}"


_ADVICE = "lower learning_rate in [training], set warmup_epochs, or look for NaN in images and labels."


def _checked(total: Tensor, images: int) -> float:
    """Mean loss so far. A single loss that is not finite spoils the sum for good, so none is missed."""
    mean = float(total) / images
    if not math.isfinite(mean):
        raise Diverged(f"the loss must stay finite, got {mean}: training diverged; {_ADVICE}")
    return mean
