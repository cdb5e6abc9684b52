"""What a criterion sees and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from autoprune.components import Component
from autoprune.criteria.elimination import Reader
from autoprune.registry import Registry


@dataclass(frozen=True)
class GroupView:
    """One channel group as criteria see it; `seed` is fixed per group and study.

    `filters` has one row per channel: all producer weights of the channel, flattened, (width, n).
    `readers` are the group's consumers with their second moments, computed when first asked for.
    """

    name: str
    width: int
    filters: Tensor
    readers: Callable[[], list[Reader]]
    seed: int


class Criterion(Component, ABC):
    """Orders the channels of a group for removal. Options are the fields of its dataclass."""

    needs_images: ClassVar[bool] = False
    """Whether it reads second moments; a search in which nothing does skips calibration."""

    @abstractmethod
    def order(self, view: GroupView, batch: int) -> Tensor:
        """Channels in order of removal, first removed first, (width,) int64 on the CPU.

        `batch` is the batch removal size: how many channels go before the next decision. A criterion
        that decides everything at once ignores it, and says so.
        """


criteria: Registry[type[Criterion]] = Registry("criterion")
