"""What training minimises on one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from autoprune.config import TrainingConfig
from autoprune.data.inputs import Inputs, most_inputs
from autoprune.errors import ConfigError, DataError
from autoprune.layout import training_layout
from autoprune.training.augmentation import Augment
from autoprune.training.data import labelled
from autoprune.training.losses import TaskLoss

ExtraLoss = Callable[[nn.Module], Tensor]
"""A differentiable scalar of the network, such as a regulariser; added to the loss as it is."""


@dataclass(frozen=True)
class Objective:
    """Loss of a batch: distances from labels and teacher by their shares, and the extra loss."""

    settings: TrainingConfig
    loss: TaskLoss
    augment: Augment
    device: torch.device
    teacher: nn.Module | None = None
    extra_loss: ExtraLoss | None = None
    _layouts: WeakKeyDictionary[nn.Module, torch.memory_format] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.settings.distillation > 0 and self.teacher is None:
            raise ConfigError("distillation needs a teacher, got none; pass one or set distillation = 0.")
        autocast(self.settings.mixed_precision, self.device)

    def __call__(self, network: nn.Module, batch: Any, temperature: float) -> tuple[Tensor, int]:
        """The loss, a scalar, and the number of images.

        DataError for outputs and labels that do not fit.
        """
        share = self.settings.distillation
        inputs, labels = labelled(batch, needed=share < 1, most=most_inputs(network))
        inputs = self._laid_out(network, self._augmented(inputs.to(self.device)))
        with autocast(self.settings.mixed_precision, self.device):
            output = inputs.call(network)
            wanted = self._of_teacher(inputs) if share > 0 else None
        loss = torch.zeros((), device=self.device)
        if labels is not None:
            labels = labels.to(self.device)
            loss = (1 - share) * self.loss.to_labels(output, labels, self.settings.label_smoothing)
        if share > 0:
            loss = loss + share * self.loss.to_teacher(output, wanted, temperature)
        return loss if self.extra_loss is None else loss + self.extra_loss(network), inputs.size

    def _laid_out(self, network: nn.Module, inputs: Inputs) -> Inputs:
        if network not in self._layouts:
            self._layouts[network] = training_layout(network, self.teacher or network, inputs)
        return inputs.laid_out(self._layouts[network])

    def _augmented(self, inputs: Inputs) -> Inputs:
        """Images are the only input, positional or by name. Of several, none is changed by rule, and a
        DataError says so where an augmentation is named."""
        if len(inputs.tensors) == 1:
            return inputs.map(self.augment)
        if self.settings.augmentation not in ("auto", "none"):
            raise DataError(
                f"augmentation '{self.settings.augmentation}' changes the only input of a network, got "
                f"{len(inputs.tensors)} inputs; set 'none' and change them in the dataset."
            )
        return inputs

    @torch.no_grad()
    def _of_teacher(self, inputs: Inputs) -> Any:
        assert self.teacher is not None
        return inputs.call(self.teacher)


def autocast(mixed_precision: str, device: torch.device) -> torch.autocast:
    """bfloat16 where it is wanted and there is; it needs no scaling of the loss. ConfigError otherwise."""
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if mixed_precision == "on" and not able:
        raise ConfigError(
            f"mixed_precision = \"on\" needs a CUDA device that computes in bfloat16, got '{device}'; "
            'set "auto" or "off".'
        )
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=able and mixed_precision != "off")
