"""What the losses of all tasks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from torch import Tensor

from autoprune.components import Component
from autoprune.config import TrainingConfig
from autoprune.data.outputs import main_tensor
from autoprune.errors import ConfigError, DataError
from autoprune.registry import Registry


class TaskLoss(Component, ABC):
    """What training minimises for one kind of task: differentiable means over a batch, 0 or least is best.

    Raises DataError for outputs and labels that do not fit.
    """

    moves_images: ClassVar[Literal["always", "on request", "never"]] = "on request"
    """Whether an image that is shifted, cropped or mirrored keeps its label: by rule, where the user says so
    by naming an augmentation, or never, for its label lies in places of the image."""
    unread: ClassVar[frozenset[str]] = frozenset()
    """Settings of [training] that say nothing here."""

    @abstractmethod
    def to_labels(self, output: Any, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Distance of what the network returned from the labels; these may be on another device."""

    @abstractmethod
    def to_teacher(self, output: Any, teacher: Any, temperature: float = 1.0) -> Tensor:
        """Distance of what the network returned from what the teacher did."""

    def check(self, settings: TrainingConfig) -> None:
        """ConfigError where settings are not at their defaults though nothing here reads them."""
        fields = TrainingConfig.model_fields
        for name in sorted(self.unread):
            value = getattr(settings, name)
            if value != fields[name].default:
                raise ConfigError(f"this loss does not read {name}, got {value}; remove it from [training].")


task_losses: Registry[type[TaskLoss]] = Registry("loss")


def single(output: Any, wanted: str, who: str = "the network", dims: int | None = None) -> Tensor:
    """The tensor that training looks at, in float32 at least: autocast gives halves.

    DataError where there is none, or not of so many dimensions; `wanted` is the shape that should be there.
    """
    found = main_tensor(output)
    if found is None or dims not in (None, found.dim()):
        shown = output if found is None else found
        came = tuple(shown.shape) if isinstance(shown, Tensor) else type(shown).__name__
        raise DataError(
            f"this loss needs outputs of shape {wanted} from {who}, got {came}; wrap the model so that it "
            "returns these alone, or name another loss in [training] (see `autoprune methods loss`)."
        )
    return found.float() if found.dtype.itemsize < 4 else found
