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
    `readers` are the group's consumers with their second moments, `consumers` their weights alone, one
    (width, n) matrix each, a row per channel; both are computed when asked for. `history` holds the L1
    norm of every channel's filter over training, (producers, epochs, width), where it was recorded.
    """

    name: str
    width: int
    filters: Tensor
    readers: Callable[[], list[Reader]]
    consumers: Callable[[], list[Tensor]]
    seed: int
    history: Tensor | None = None


class Criterion(Component, ABC):
    """Orders the channels of a group for removal. Options are the fields of its dataclass."""

    needs_images: ClassVar[bool] = False
    """Whether it reads second moments; a search in which nothing does skips calibration."""
    needs_history: ClassVar[bool] = False
    """Whether it reads the norms of the filters over training; they are recorded where there are none."""

    @abstractmethod
    def order(self, view: GroupView, batch: int) -> Tensor:
        """Channels in order of removal, first removed first, (width,) int64 on the CPU.

        `batch` is the batch removal size: how many channels go before the next decision. A criterion
        that decides everything at once ignores it, and says so.
        """

    def loss(self, view: GroupView, order: Tensor) -> Tensor | None:
        """What the criterion says is lost at every width, from weights alone; None if it cannot tell.

        (width + 1,) float64 on the CPU: entry k is the relative loss when the last k channels of `order`
        stay; lower is better, 0 at full width, never rising with the width. A search without images
        reads this curve in place of the error of second moments.
        """
        return None


criteria: Registry[type[Criterion]] = Registry("criterion")
