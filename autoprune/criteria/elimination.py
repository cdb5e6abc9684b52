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


PANEL = 256
"""Columns that go before the inverse itself is brought up to date."""


def greedy_order(readers: Sequence[Reader], width: int, batch: int) -> Tensor:
    """Channels in order of removal, shape (width,) int64, deciding anew after every `batch` removals."""
    states = [_State.of(reader, width) for reader in readers]
    block = max(reader.block(width) for reader in readers)
    # Channels since the states were last compacted, and the positions among them of those not yet removed.
    channels = left = torch.arange(width, device=readers[0].weight.device)
    order: list[Tensor] = []
    while True:
        scores = torch.stack([state.scores() for state in states]).sum(0)[left]
        ranked = torch.argsort(scores, stable=True)
        chosen, left = left[ranked[:batch]], left[ranked[batch:].sort().values]
        order.append(channels[chosen])
        if len(left) == 0:
            return torch.cat(order)
        for state in states:
            state.remove(chosen)
        gone = len(channels) - len(left)
        if gone * block >= PANEL or 2 * gone >= len(channels):
            for state in states:
                state.compact(left)
            channels, left = channels[left], torch.arange(len(left), device=left.device)


@dataclass
class _State:
    """A reader as channels go: weight (g, c, b, out), blocks (g, c, b, b), which are the inverse's diagonal.

    The inverse itself lags behind: it is `inverse` (g, c, b, c, b) less `pending^T pending`, with
    `pending` (g, p, c * b). Rewriting it at every removal costs more than all else together; once a panel it
    is one product of matrices, as in LAPACK's blocked Cholesky with pivoting. Entries of removed channels
    mean nothing until `compact` takes them out.
    """

    weight: Tensor
    blocks: Tensor
    inverse: Tensor
    pending: Tensor
    scale: float

    @classmethod
    def of(cls, reader: Reader, width: int) -> _State:
        b = reader.block(width)
        # The reader's own inverse is read, never written to.
        inverse = reader.inverse.reshape(-1, width, b, width, b)
        weight = reader.weight.mT.clone(memory_format=torch.contiguous_format)
        weight = weight.reshape(-1, width, b, weight.shape[-1])
        blocks = torch.diagonal(inverse, dim1=1, dim2=3).permute(0, 3, 1, 2).contiguous()
        pending = inverse.new_empty(len(inverse), 0, width * b)
        return cls(weight, blocks, inverse, pending, reader.scale)

    def scores(self) -> Tensor:
        """Loss of removing each channel alone, tr(W_c^T W_c H_cc^-1), (c,)."""
        factor = torch.linalg.cholesky_ex(self.blocks).L
        solved = torch.cholesky_solve(self.weight @ self.weight.mT, factor)
        scores: Tensor = self.scale * solved.diagonal(dim1=2, dim2=3).sum((0, 2))
        return scores

    def remove(self, chosen: Tensor) -> None:
        """Describe the reader without the channels at positions `chosen`."""
        rows = self.inverse[:, chosen].flatten(3).flatten(1, 2)
        rows = rows - self._by_channel(self.pending)[:, :, chosen].flatten(2).mT @ self.pending
        factor = torch.linalg.cholesky_ex(self._by_channel(rows)[:, :, chosen].flatten(2)).L
        half = torch.linalg.solve_triangular(factor, rows, upper=False)
        weight = torch.linalg.solve_triangular(factor, self.weight[:, chosen].flatten(1, 2), upper=False)
        changed = self.weight.flatten(1, 2).baddbmm_(half.mT, weight, alpha=-1)
        self.weight = changed.reshape(self.weight.shape)
        each = self._by_channel(half).permute(0, 2, 3, 1)
        self.blocks -= each @ each.mT
        self.pending = torch.cat([self.pending, half], 1)

    def compact(self, left: Tensor) -> None:
        """Keep the channels at positions `left` alone, with their inverse up to date."""
        pending = self._by_channel(self.pending)[:, :, left].flatten(2)
        inverse = self.inverse.index_select(1, left).index_select(3, left)
        changed = inverse.flatten(3).flatten(1, 2).baddbmm_(pending.mT, pending, alpha=-1)
        self.inverse, self.pending = changed.reshape(inverse.shape), pending[:, :0]
        self.weight, self.blocks = self.weight[:, left], self.blocks[:, left]

    def _by_channel(self, rows: Tensor) -> Tensor:
        """Rows of all columns (g, p, c * b) as (g, p, c, b)."""
        return rows.reshape(*rows.shape[:2], *self.blocks.shape[1:3])


def _columns(order: Tensor, b: int) -> Tensor:
    return (order[:, None] * b + torch.arange(b, device=order.device)).flatten()


def _increments(weight: Tensor, inverse: Tensor, columns: Tensor, width: int) -> Tensor:
    """Growth of the loss with each removal in order: block rows of L^-1 W^T, with L L^T = H."""
    factor = torch.linalg.cholesky_ex(inverse[:, columns][:, :, columns]).L
    halves = torch.linalg.solve_triangular(factor, weight[:, :, columns].mT, upper=False)
    growth: Tensor = halves.square().sum((0, 2)).reshape(width, -1).sum(1)
    return growth
