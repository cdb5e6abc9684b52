"""Solving damped symmetric systems, batched, on whatever device the tensors are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def damped(matrix: Tensor, damping: float) -> tuple[Tensor, float]:
    """`matrix` (groups, n, n) with `damping` x mean diagonal added to its diagonal, and that amount."""
    amount = damping * float(matrix.diagonal(dim1=-2, dim2=-1).mean())
    # A channel that never fires leaves an exactly singular matrix; a step this small changes no digit else.
    amount = max(amount, torch.finfo(torch.float32).tiny)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return matrix + amount * eye, amount


@dataclass(frozen=True)
class Factored:
    """A damped positive semi-definite matrix (groups, n, n), prepared once for many right sides.

    `damping` is what was added to the diagonal. The factor is a Cholesky factor, or, where rounding made
    the matrix indefinite, its pseudo-inverse.
    """

    factor: Tensor
    damping: float
    inverted: bool

    @classmethod
    def of(cls, matrix: Tensor, damping: float) -> Factored:
        """Factor `matrix` with `damping` x mean diagonal added to its diagonal."""
        whole, amount = damped(matrix, damping)
        factor, info = torch.linalg.cholesky_ex(whole)
        if bool((info == 0).all()):
            return cls(factor, amount, False)
        return cls(_pseudo_inverse(whole), amount, True)

    def solve(self, right: Tensor) -> Tensor:
        """Solution for right sides (groups, n, m)."""
        return self.factor @ right if self.inverted else torch.cholesky_solve(right, self.factor)


def inverse(matrix: Tensor) -> Tensor:
    """Inverse of a damped positive semi-definite matrix, (groups, n, n)."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if bool((info == 0).all()):
        return torch.cholesky_inverse(factor)
    return _pseudo_inverse(matrix)


def _pseudo_inverse(matrix: Tensor) -> Tensor:
    # Rounding made the matrix indefinite: directions below the noise are left out.
    inverted: Tensor = torch.linalg.pinv(matrix, rtol=1e-10, hermitian=True)
    return inverted
