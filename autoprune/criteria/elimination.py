"""Backward elimination on second moments: which channels of a group to remove, and what that costs.

A reader (consumer layer) with weight `W` and inverse second moment `H = G^-1` loses
`tr(W_c H_cc^-1 W_c^T)` more when the block of columns `c` goes and the rest is refitted; afterwards
`W -= W_c H_cc^-1 H_c:` and `H -= H_:c H_cc^-1 H_c:` describe the network without it. The same
identity is behind optimal brain surgeon (Hassibi and Stork 1993) and FP-Backward (Purohit et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reader:
    """One consumer's view of a group. Columns are channel-major: channel c owns c*b .. (c+1)*b.

    weight: (groups, out, width * b) float64; inverse: (groups, width * b, width * b), the group's block
    of the inverse of the layer's whole second moment; power: tr(W G W^T) of the whole layer.
    """

    weight: Tensor
    inverse: Tensor
    power: float

    def block(self, width: int) -> int:
        return self.weight.shape[-1] // width

    @property
    def scale(self) -> float:
        return 1.0 / self.power if self.power > 0 else 0.0


def loss_curve(readers: Sequence[Reader], order: Tensor) -> Tensor:
    """Loss at every width, shape (width + 1,): entry k is the loss when k channels stay, lower is better.

    `order` (width,) lists the channels, first removed first. The loss is the sum over readers of the
    relative error of their output after refitting. One Cholesky factor per reader gives all widths.
    """
    width = len(order)
    removed = torch.zeros(width, dtype=torch.float64, device=order.device)
    for reader in readers:
        columns = _columns(order, reader.block(width))
        removed += reader.scale * _increments(reader.weight, reader.inverse, columns, width)
    curve = torch.cat([removed.new_zeros(1), removed.cumsum(0)])
    return curve.flip(0)


def greedy_order(readers: Sequence[Reader], width: int, batch: int) -> Tensor:
    """Channels in order of removal, shape (width,) int64, deciding anew after every `batch` removals."""
    states = [_State.of(reader, width) for reader in readers]
    alive = torch.arange(width, device=readers[0].weight.device)
    order: list[Tensor] = []
    while len(alive) > 0:
        scores = torch.stack([state.scores() for state in states]).sum(0)
        chosen = torch.argsort(scores, stable=True)[:batch]
        order.append(alive[chosen])
        keep = torch.ones(len(alive), dtype=torch.bool, device=alive.device)
        keep[chosen] = False
        alive = alive[keep]
        if len(alive) > 0:
            states = [state.without(chosen, keep) for state in states]
    return torch.cat(order)


@dataclass(frozen=True)
class _State:
    """A reader with the channels removed so far gone: weight (g, out, c, b), inverse (g, c, b, c, b)."""

    weight: Tensor
    inverse: Tensor
    scale: float

    @classmethod
    def of(cls, reader: Reader, width: int) -> _State:
        b = reader.block(width)
        weight = reader.weight.reshape(*reader.weight.shape[:2], width, b)
        return cls(weight, reader.inverse.reshape(-1, width, b, width, b), reader.scale)

    def scores(self) -> Tensor:
        """Loss of removing each channel alone, (c,)."""
        blocks = torch.diagonal(self.inverse, dim1=1, dim2=3).permute(0, 3, 1, 2)
        factor = torch.linalg.cholesky_ex(blocks).L
        halves = torch.linalg.solve_triangular(factor, self.weight.permute(0, 2, 3, 1), upper=False)
        scores: Tensor = self.scale * halves.square().sum((0, 2, 3))
        return scores

    def without(self, chosen: Tensor, keep: Tensor) -> _State:
        rows = self.inverse[:, keep][:, :, :, chosen].flatten(3).flatten(1, 2)
        block = self.inverse[:, chosen][:, :, :, chosen].flatten(3).flatten(1, 2)
        factor = torch.linalg.cholesky_ex(block).L
        half = torch.linalg.solve_triangular(factor, rows.mT, upper=False)
        weight = torch.linalg.solve_triangular(factor, self.weight[:, :, chosen].flatten(2).mT, upper=False)
        c, b = int(keep.sum()), self.inverse.shape[-1]
        inverse = self.inverse[:, keep][:, :, :, keep]
        inverse = inverse - (half.mT @ half).unflatten(-1, (c, b)).unflatten(-3, (c, b))
        left = self.weight[:, :, keep] - (weight.mT @ half).unflatten(-1, (c, b))
        return _State(left, inverse, self.scale)


def _columns(order: Tensor, b: int) -> Tensor:
    return (order[:, None] * b + torch.arange(b, device=order.device)).flatten()


def _increments(weight: Tensor, inverse: Tensor, columns: Tensor, width: int) -> Tensor:
    """Growth of the loss with each removal in order: block rows of L^-1 W^T, with L L^T = H."""
    factor = torch.linalg.cholesky_ex(inverse[:, columns][:, :, columns]).L
    halves = torch.linalg.solve_triangular(factor, weight[:, :, columns].mT, upper=False)
    growth: Tensor = halves.square().sum((0, 2)).reshape(width, -1).sum(1)
    return growth
