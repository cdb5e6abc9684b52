"""Second-moment backward elimination, the default criterion."""

from __future__ import annotations

from torch import Tensor

from autoprune.criteria.base import Criterion, GroupView, criteria
from autoprune.criteria.elimination import greedy_order
from autoprune.criteria.norm import L2Norm


@criteria.register("second-moment")
class SecondMoment(Criterion):
    """Removes, `batch` at a time, the channels whose loss the others can best make up for.

    The loss is the sum over consumers of the relative squared error of their output after refitting
    (see `elimination`). Invariant to the scale of the channels. A group that only layers without second
    moments read, such as transposed convolutions, loses its filters with the smallest L2 norm first.
    """

    needs_images = True
    citation = "Hassibi and Stork, NeurIPS 1992 (optimal brain surgeon), on blocks of columns"

    def order(self, view: GroupView, batch: int) -> Tensor:
        readers = view.readers()
        return greedy_order(readers, view.width, batch).cpu() if readers else L2Norm().order(view, batch)
