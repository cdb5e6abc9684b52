"""Coordinates of a layer's weights in which a joint fit is well conditioned.

The curvature of a squared error in a layer's weight W is about G (x) C: C the covariance of what the layer
reads, G what the layers behind it make of its outputs (Martens and Grosse, ICML 2015, section 3). With
W = W0 + G^-1/2 U C^-1/2 it is about one in every direction of U.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoprune.calibration.moments import Moments
from autoprune.linear_algebra import damped

_BEHIND = 1e-2
"""Damping of G, which is only a guess."""


@dataclass(frozen=True)
class Curvature:
    """C as an inverse root (n, n), the inputs' mean (n, 1), and the ridge on U (curvature is 1).

    Without a constant to follow the weights, C is E[u u^T], and the mean counts as zero.
    """

    root: Tensor
    mean: Tensor
    ridge: float

    @classmethod
    def of(cls, moments: Moments, columns: Tensor, damping: float, centred: bool) -> Curvature:
        columns = columns.to(moments.second.device)
        matrix = moments.covariance(centred)[0][columns][:, columns]
        mean = moments.mean[0][columns]
        return cls(inverse_root(matrix, damping), mean if centred else torch.zeros_like(mean), damping)

    @classmethod
    def unknown(cls, columns: int, damping: float, like: Tensor) -> Curvature:
        root = torch.eye(columns, dtype=torch.float64, device=like.device)
        return cls(root, root.new_zeros(columns, 1), damping)


class Coordinates:
    """U and a constant of one layer, leaves that an optimiser may move; the layer follows at `apply`."""

    def __init__(
        self,
        weight: nn.Parameter,
        constant: nn.Parameter | None,
        scale: Tensor,
        curvature: Curvature,
        behind: Tensor,
    ) -> None:
        """`scale` (out,) is what a norm multiplies outputs by; `behind` is G (out, out) for outputs after it,
        in units of the loss: the coordinates do not depend on the units of activations.

        `constant` is the parameter that adds to outputs after the norm.
        """
        self.weight, self.constant, self.scale, self.ridge = weight, constant, scale, curvature.ridge
        left = inverse_root(behind, _BEHIND)
        self.left = (left / _nonzero(scale).unsqueeze(-1).double()).to(weight.dtype)
        self.left_constant = left.to(weight.dtype)
        self.root, self.mean = curvature.root.to(weight.dtype), curvature.mean.to(weight.dtype)
        self.start = weight.detach().clone()
        self.start_constant = None if constant is None else constant.detach().clone()
        self.moved = torch.zeros(weight.flatten(1).shape, dtype=weight.dtype, device=weight.device)
        self.shift = self.moved.new_zeros(len(weight))
        self.leaves = [self.moved] if constant is None else [self.moved, self.shift]

    @torch.no_grad()
    def apply(self) -> None:
        change = self.left @ self.moved @ self.root
        self.weight.copy_(self.start + change.view_as(self.weight))
        if self.constant is not None and self.start_constant is not None:
            follows = self.scale * (change @ self.mean).squeeze(-1)
            self.constant.copy_(self.start_constant + self.left_constant @ self.shift - follows)

    @torch.no_grad()
    def pull(self) -> None:
        """Gradients of the leaves from those of the parameters, ridge included."""
        # Behind a `detach` no gradient comes: the layer stays as it is.
        gradient = torch.zeros_like(self.moved) if self.weight.grad is None else self.weight.grad.flatten(1)
        if self.constant is not None and self.constant.grad is not None:
            constant = self.constant.grad
            gradient = gradient - torch.outer(self.scale * constant, self.mean.squeeze(-1))
            self.shift.grad = self.left_constant.mT @ constant
        self.moved.grad = self.left.mT @ gradient @ self.root + self.ridge * self.moved

    def penalty(self) -> float:
        return 0.5 * self.ridge * float(self.moved.square().sum())


def inverse_root(matrix: Tensor, damping: float) -> Tensor:
    """Inverse root of a damped positive semi-definite matrix (n, n), symmetric, float64."""
    whole, amount = damped(matrix.double(), damping)
    values, vectors = torch.linalg.eigh(whole)
    # Rounding may have made the matrix indefinite; no eigenvalue is below what the damping added.
    root: Tensor = (vectors * values.clamp_min(float(amount)).rsqrt()) @ vectors.mT
    return root


def carried_back(behind: Tensor, weight: Tensor, channels: int) -> Tensor | None:
    """G (channels, channels) of a layer's inputs from that of its outputs (out, out); None where it does not
    read these channels alone."""
    out, matrix = len(weight), weight.detach().double()
    alone = weight.shape[1] == channels if weight.dim() > 2 else channels and weight.shape[1] % channels == 0
    if alone:
        taps = matrix.reshape(out, channels, -1)
        return torch.einsum("ock,op,pdk->cd", taps, behind, taps)
    if weight.shape[1] == 1 and out == channels:
        # A depthwise convolution.
        return torch.diag(behind.diagonal() * matrix.flatten(1).square().sum(1))
    return None


def _nonzero(scale: Tensor) -> Tensor:
    """A channel that a norm multiplies by zero cannot be fitted; dividing by it must not be either."""
    least = 1e-3 * scale.abs().mean().clamp_min(torch.finfo(scale.dtype).tiny)
    return torch.where(scale.abs() < least, least, scale)
