"""Solving damped symmetric systems, batched, on whatever device the tensors are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SCARCITY = 30.0
"""How much a damping grows with the columns that a fit has per image, see `for_images`."""


def for_images(damping: float, columns: int, images: int) -> float:
    """The damping for a fit of `columns` unknowns per output on so many images.

    A fit with few images per unknown learns them by heart: the best ridge grows with their ratio. Measured on
    unseen images, 576 columns on 2,048 images want 0.003 to 0.03, 4,608 on 1,000 want 0.1 to 0.3, 288 on 128
    want 0.1, from one base of 0.001 (studies/LOG.md, 2026-11-26). Positions of one image hardly count apart.
    """
    return damping * (1.0 + SCARCITY * columns / max(images, 1))


def damped(matrix: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """`matrix` (..., n, n) with `damping` x mean diagonal added to its diagonal; that amount, a scalar."""
    amount = damping * matrix.diagonal(dim1=-2, dim2=-1).mean()
    # A channel that never fires leaves an exactly singular matrix; a step this small changes no digit else.
    amount = amount.clamp_min(torch.finfo(torch.float32).tiny)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return matrix + amount * eye, amount


@dataclass(frozen=True)
class Factored:
    """A damped positive semi-definite matrix (groups, n, n), prepared once for many right sides.

    `damping`, a scalar, is what was added to the diagonal. The factor is a Cholesky factor,
    or, where rounding made the matrix indefinite, its pseudo-inverse.
    """

    factor: Tensor
    damping: Tensor
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
