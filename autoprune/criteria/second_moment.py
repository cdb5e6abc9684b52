"""Second-moment backward elimination, the default criterion."""

from __future__ import annotations

from torch import Tensor

from autoprune.criteria.base import Criterion, GroupView, criteria
from autoprune.criteria.elimination import greedy_order


@criteria.register("second-moment")
class SecondMoment(Criterion):
    """Removes, `batch` at a time, the channels whose loss the others can best make up for.

    The loss is the sum over consumers of the relative squared error of their output after refitting
    (see `elimination`). Invariant to the scale of the channels.
    """

    needs_images = True
    citation = "Hassibi and Stork, NeurIPS 1992 (optimal brain surgeon), on blocks of columns"

    def order(self, view: GroupView, batch: int) -> Tensor:
        return greedy_order(view.readers(), view.width, batch).cpu()
