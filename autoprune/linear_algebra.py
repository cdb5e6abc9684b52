"""Solving damped symmetric systems, batched, on whatever device the tensors are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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


@contextmanager
def rounded_products(device: torch.device) -> Iterator[None]:
    """On a GPU, float32 matrix products round their factors to TF32 inside; nothing changes elsewhere.

    Sums stay float32. The second moment of columns about their mean is then that of columns disturbed by
    2^-10 of their size at most: far below any damping. Settings of the user's are put back.
    """
    general = _general_precision() if device.type == "cuda" else None
    if general in (None, "high", "medium"):
        yield
        return
    # The general setting moves these two as well.
    backends: tuple[Any, ...] = (torch.backends.cuda, torch.backends.mkldnn)
    settings = [backend.matmul for backend in backends]
    before = [setting.fp32_precision for setting in settings]
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(general)
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


def _general_precision() -> str | None:
    """None where torch's older and newer settings contradict each other: it then refuses to say."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def damped(matrix: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """`matrix` (..., n, n), each with `damping` x its mean diagonal added to its diagonal; these amounts,
    (..., 1, 1): what one group of a convolution reads says nothing of the scale of another."""
    whole = matrix.clone()
    diagonal = whole.diagonal(dim1=-2, dim2=-1)
    # A channel that never fires leaves an exactly singular matrix; a step this small changes no digit else.
    amount = (damping * diagonal.mean(-1, keepdim=True)).clamp_min(torch.finfo(torch.float32).tiny)
    diagonal += amount
    return whole, amount.unsqueeze(-1)


@dataclass(frozen=True)
class Factored:
    """A damped positive semi-definite matrix (groups, n, n), prepared once for many right sides.

    `damping` (groups, 1, 1) is what was added to the diagonals. The factor is a Cholesky factor, or the
    inverse: on a GPU, where triangular solutions take many steps one after the other and products do not, and
    where rounding made the matrix indefinite (the pseudo-inverse).
    """

    factor: Tensor
    damping: Tensor
    inverted: bool

    @classmethod
    def of(cls, matrix: Tensor, damping: float) -> Factored:
        """Factor `matrix`, each with `damping` x its mean diagonal added to its diagonal."""
        whole, amount = damped(matrix, damping)
        factor, info = torch.linalg.cholesky_ex(whole)
        if bool(info.any()):
            return cls(_pseudo_inverse(whole), amount, True)
        if matrix.device.type == "cuda":
            return cls(inverse_of(factor), amount, True)
        return cls(factor, amount, False)

    def solve(self, right: Tensor) -> Tensor:
        """Solution for right sides (groups, n, m)."""
        return self.factor @ right if self.inverted else torch.cholesky_solve(right, self.factor)


def inverse(matrix: Tensor) -> Tensor:
    """Inverse of a damped positive semi-definite matrix, (groups, n, n)."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    return _pseudo_inverse(matrix) if bool(info.any()) else torch.cholesky_inverse(factor)


def inverse_of(factor: Tensor) -> Tensor:
    """The inverse of the matrix with this Cholesky factor, by one triangular solution for all matrices."""
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    below: Tensor = torch.linalg.solve_triangular(factor, eye, upper=False)
    return below.mT @ below


def _pseudo_inverse(matrix: Tensor) -> Tensor:
    # Rounding made the matrix indefinite: directions below the noise are left out, negative ones among them.
    values, vectors = torch.linalg.eigh(matrix)
    stays = values > 1e-10 * values[..., -1:].clamp_min(0)
    weights = torch.where(stays, 1 / values, 0.0).unsqueeze(-1)
    inverted: Tensor = vectors @ (weights * vectors.mT)
    return inverted
