"""Train one small model: Adam on the mean squared error of its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from autoprune.errors import ModelError
from autoprune.reconstruction.replaying.cache import in_order
from autoprune.reconstruction.replaying.images import Batch, Images
from autoprune.reconstruction.replaying.replay import Seen, replay
from autoprune.reconstruction.replaying.trace import Trace
from autoprune.reconstruction.replaying.windows import Window

JUDGED_IMAGES = 1_024
"""Images on which a fit must not be worse than before it; all would cost as much as the fit."""
_TINY = 1e-12
"""A variance below this share of the mean square is rounding."""


class NoGradient(ModelError):
    """No gradient reaches the weights that should be trained."""

    def __init__(self) -> None:
        super().__init__(
            "the network cannot be trained: its forward runs without gradients (no_grad, inference_mode or "
            "detach); take that out, or use reconstruction 'sequential'."
        )


class Fits:
    """Around one fit after the other: a part of the network that no gradient reaches stays as it was."""

    def __init__(self) -> None:
        self.done, self.missed = 0, 0

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        self.done += kind is None
        self.missed += isinstance(error, NoGradient)
        return isinstance(error, NoGradient)

    def check(self) -> None:
        """ModelError where every fit missed."""
        if self.missed and not self.done:
            raise NoGradient


@dataclass(frozen=True)
class Schedule:
    """The learning rate falls from its first value on a cosine over `steps`.

    With `mixed_precision` the passes run in bfloat16; weights, losses and Adam keep their own precision.
    """

    steps: int
    learning_rate: float
    mixed_precision: bool = False


class Fitter:
    """Trains parameters of `network` within a window on a set of images."""

    def __init__(self, network: nn.Module, trace: Trace, window: Window, images: Images, batch: int) -> None:
        self.network, self.trace, self.window, self.images = network, trace, window, images
        self.batch = min(batch, images.size)
        self.variances = variances(images, self.batch)

    def loss(self, batch: Batch) -> Tensor:
        """Mean relative squared error of the targets, 0 best."""
        terms: list[Tensor] = []
        watch = {call: self._seen(values, terms) for call, values in batch.wanted.items()}
        try:
            replay(self.network, self.trace, self.window, batch.inputs, dict(batch.known), watch)
        except RuntimeError as error:
            if "Inference tensors" not in str(error):
                raise
            raise NoGradient from error
        return torch.stack(terms).mean()

    def _seen(self, wanted: Tensor, terms: list[Tensor]) -> Seen:
        def seen(call: int, output: Tensor) -> None:
            # At once, for the pass may go on working on the output in place; and in two steps, for
            # mse_loss would keep the output itself for its gradient.
            terms.append((_wide(output) - _wide(wanted)).square().mean() / self.variances[call])

        return seen

    @torch.no_grad()
    def error(self) -> float:
        """The loss over the first `JUDGED_IMAGES` images."""
        count = min(self.images.size, JUDGED_IMAGES)
        parts = in_order(count, self.batch)
        losses = [(len(part), float(self.loss(self.images.batch(part)))) for part in parts]
        return sum(size * loss for size, loss in losses) / count

    def fit(self, parameters: Sequence[nn.Parameter], schedule: Schedule, generator: torch.Generator) -> None:
        """Train in place; the parameters go back to where they were if the error rose."""
        if not parameters:
            return
        own_storage(parameters)
        before = self.error()
        saved = [parameter.detach().clone() for parameter in parameters]
        with torch.enable_grad(), trainable(self.network, parameters):
            self._train(parameters, schedule, generator)
        # Not "after > before": a diverged fit is NaN.
        if not self.error() <= before:
            put_back(parameters, saved)

    def _train(
        self, parameters: Sequence[nn.Parameter], schedule: Schedule, generator: torch.Generator
    ) -> None:
        optimizer = torch.optim.Adam(parameters, lr=schedule.learning_rate)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.steps)
        place = parameters[0].device.type
        for index in batches(self.images.size, self.batch, schedule.steps, generator):
            optimizer.zero_grad()
            with torch.autocast(place, torch.bfloat16, enabled=schedule.mixed_precision):
                loss = self.loss(self.images.varied(index, generator))
            backward(loss)
            optimizer.step()
            decay.step()


def _wide(values: Tensor) -> Tensor:
    """At least single precision: squares of half-precision numbers lose digits, or overflow."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def backward(loss: Tensor) -> None:
    """Gradients of the loss; ModelError where there can be none."""
    if not loss.requires_grad:
        raise NoGradient
    try:
        torch.autograd.backward(loss)
    except CheckpointError as error:
        raise ModelError(
            "the network cannot be trained: its forward is checkpointed (torch.utils.checkpoint), and what "
            "gradients compute again is not replayed; switch that off, or use reconstruction 'sequential'."
        ) from error
    except RuntimeError as error:
        if "inplace operation" not in str(error):
            raise
        raise ModelError(
            "the network cannot be trained: its forward works in place on a tensor that a gradient needs; "
            "write that operation out of place, or use reconstruction 'sequential'."
        ) from error


def own_storage(parameters: Sequence[nn.Parameter]) -> None:
    """Training works in place, and a tensor that no group runs through may be the dense network's own."""
    for parameter in parameters:
        parameter.data = parameter.data.clone()


def variances(images: Images, batch: int) -> Mapping[int, float]:
    """Variance of each target over the first batch, which makes errors relative."""
    wanted = images.batch(torch.arange(batch)).wanted
    return {call: _variance(values) for call, values in wanted.items()}


def _variance(values: Tensor) -> float:
    """Of what hardly varies, the mean square: errors are relative to something in any case."""
    variance, power = float(values.var(correction=0)), float(values.square().mean())
    return variance if variance > _TINY * power else power or 1.0


def batches(images: int, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`steps` batches, each epoch in a new order; images that fill no batch are left out of it."""
    per_epoch = images // size
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(images, generator=generator)
        start = step % per_epoch * size
        yield order[start : start + size]


@torch.no_grad()
def put_back(parameters: Sequence[nn.Parameter], saved: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, saved, strict=True):
        parameter.copy_(value)


class trainable:
    """Only the given parameters ask for gradients; all are as before at the end."""

    def __init__(self, network: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        self._chosen = {id(parameter) for parameter in parameters}
        self._all = list(network.parameters())
        self._asked = [parameter.requires_grad for parameter in self._all]

    def __enter__(self) -> None:
        for parameter in self._all:
            parameter.requires_grad_(id(parameter) in self._chosen)

    def __exit__(self, *details: object) -> None:
        for parameter, asked in zip(self._all, self._asked, strict=True):
            parameter.requires_grad_(asked)
            parameter.grad = None
