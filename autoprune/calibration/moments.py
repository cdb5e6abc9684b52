"""Second moments of what a layer reads, and of what it should give.

Products of one batch are taken in the network's own precision (float32, of factors in TF32 on a GPU), sums
over batches in float64: batches are short enough for the first and the many additions need the second.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from autoprune.linear_algebra import rounded_products

_BLOCKS = 4
_FAR = 100.0
"""A mean square so many times a variance: less than five digits of float32 are left for what varies."""
_LEAST_ROWS = 192
"""Below this width the whole product costs no more than its blocks."""


@dataclass
class Moments:
    """Sums over `count` columns of inputs u (groups, n) and, where given, targets y (groups, out).

    second: sum u u^T (groups, n, n); first: sum u (groups, n); cross: sum u y^T (groups, n, out);
    target: sum y (groups, out). All float64.
    """

    second: Tensor
    first: Tensor
    count: int
    cross: Tensor
    target: Tensor
    _mean: Tensor | None = field(default=None, init=False, repr=False)

    @classmethod
    def of(cls, inputs: Tensor, targets: Tensor | None = None) -> Moments:
        """Moments of columns: inputs (groups, n, columns), targets (groups, out, columns)."""
        inputs = _wide(inputs)
        y = inputs.new_empty(inputs.shape[0], 0, inputs.shape[-1]) if targets is None else _wide(targets)
        # Sums as products: several times faster than a reduction that converts every element.
        ones = inputs.new_ones(inputs.shape[-1])
        first, target = torch.matmul(inputs, ones).double(), torch.matmul(y, ones).double()
        on_cpu = inputs.device.type == "cpu"
        count = inputs.shape[-1]
        second, cross = _products(inputs, y) if on_cpu else _shifted(inputs, y, first, target)
        if on_cpu and (_far_off(_squares(second), first, count) or _far_off(_norms(y), target, count)):
            second, cross = _shifted(inputs, y, first, target)
        return cls(second, first, count, cross, target)

    def reordered(self, order: Tensor) -> Moments:
        """The same moments with input row i taken from row `order[i]`."""
        second = self.second[:, order][:, :, order]
        return replace(self, second=second, first=self.first[:, order], cross=self.cross[:, order])

    def add(self, other: Moments) -> None:
        """Take in the sums of another batch."""
        self._mean = None
        self.second += other.second
        self.first += other.first
        self.count += other.count
        self.cross += other.cross
        self.target += other.target

    @property
    def mean(self) -> Tensor:
        """E[u] as a column, (groups, n, 1)."""
        if self._mean is None:
            self._mean = (self.first / self.count).unsqueeze(-1)
        return self._mean

    @property
    def target_mean(self) -> Tensor:
        """E[y], (groups, out)."""
        return self.target / self.count

    def covariance(self, centred: bool, rows: Tensor | None = None) -> Tensor:
        """Covariance of u when centred, else E[u u^T]: (groups, n, n), or the wanted `rows` of it."""
        second = self.second if rows is None else self.second[:, rows]
        moment = second / self.count
        if not centred:
            return moment
        mean = self.mean
        left = mean if rows is None else mean[:, rows]
        return torch.baddbmm(moment, left, mean.mT, alpha=-1)

    def cross_covariance(self, centred: bool) -> Tensor:
        """Covariance of u and y when centred, else E[u y^T]: (groups, n, out)."""
        moment = self.cross / self.count
        if not centred:
            return moment
        return torch.baddbmm(moment, self.mean, self.target_mean.unsqueeze(-2), alpha=-1)


def _products(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """`x x^T` and `x y^T` in float64."""
    with rounded_products(x.device):
        return _square(x).double(), torch.matmul(x, y.mT).double()


def _squares(second: Tensor) -> Tensor:
    """Sums of the rows' squares, (groups, n), of their products (groups, n, n)."""
    return second.diagonal(dim1=-2, dim2=-1)


def _norms(x: Tensor) -> Tensor:
    """Sums of the rows' squares, (groups, n), of x (groups, n, columns)."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norms.double().square()


def _far_off(squares: Tensor, sums: Tensor, count: int) -> bool:
    """Whether some row of `count` numbers hardly varies about its mean. On a GPU nobody asks, for it would
    have to answer."""
    # The mean's square beyond _FAR times the variance, which is the mean square less that.
    return bool((sums.square() * (1 + 1 / _FAR) > squares * count).any())


def _shifted(x: Tensor, y: Tensor, first: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same by way of products of rows from which about their means were taken.

    Rounding then disturbs what varies and not what is constant: a covariance is the difference of the two,
    and beside a mean of several standard deviations little would be left of it. `first` and `target` are the
    rows' sums.
    """
    count = max(x.shape[-1], 1)
    a, b = ((sums / count).to(x.dtype).unsqueeze(-1) for sums in (first, target))
    second, cross = _products(x - a, y - b)
    a, b, sx, sy = a.double(), b.double(), first.unsqueeze(-1), target.unsqueeze(-1)
    # sum x x^T = sum (x - a)(x - a)^T + a sx^T + sx a^T - n a a^T
    second += a @ sx.mT + (sx - count * a) @ a.mT
    cross += a @ sy.mT + (sx - count * a) @ b.mT
    return second, cross


def _square(x: Tensor) -> Tensor:
    """`x x^T` for x (groups, n, columns). On a CPU in rows of blocks: the half below is the one above."""
    n = x.shape[-2]
    if x.device.type != "cpu" or n < _LEAST_ROWS:
        return torch.matmul(x, x.mT)
    product = x.new_empty(x.shape[0], n, n)
    for start, stop in pairwise(round(n * i / _BLOCKS) for i in range(_BLOCKS + 1)):
        row = torch.matmul(x[:, start:stop], x[:, start:].mT)
        product[:, start:stop, start:] = row
        product[:, stop:, start:stop] = row[:, :, stop - start :].mT
    return product


def _wide(x: Tensor) -> Tensor:
    """Half precision is too coarse to sum in."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
