"""One call of a layer, as a plain map: a convolution or a linear map with outputs first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from autoprune.graph.groups import Layer

Function = Callable[..., Any]


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer: its input (batch, ...) and how to run it again with other weights.

    `weight` is (outputs, inputs per group, *kernel). Where `phases` are given, along each spatial dimension
    every so many-th output position reads the same part of the kernel; `faster` computes the same from weight
    and bias, for this input.
    """

    layer: Layer
    function: Function
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | str = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    phases: tuple[int, ...] = ()
    faster: Callable[[Tensor, Tensor | None], Tensor] | None = None

    def run(self) -> Tensor:
        return self._plain() if self.faster is None else self.faster(self.weight, self.bias)

    def _plain(self) -> Tensor:
        if not self.stride:
            output: Tensor = self.function(self.input, self.weight, self.bias)
            return output
        output = self.function(
            self.input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )
        return output

    @property
    def taps(self) -> int:
        """Positions of the kernel; 1 for a linear layer."""
        return math.prod(self.weight.shape[2:])

    def output_shape(self) -> torch.Size:
        """Shape of the output, found without computing it."""
        bias = None if self.bias is None else self.bias.to("meta")
        there = replace(self, input=self.input.to("meta"), weight=self.weight.to("meta"), bias=bias)
        return there._plain().shape

    def with_weights(self, weight: Tensor, bias: Tensor | None) -> LayerCall:
        return replace(self, weight=weight, bias=bias)

    def pads(self) -> list[tuple[int, int]]:
        """Zeros added before and after each spatial dimension."""
        kernel = self.weight.shape[2:]
        if self.padding == "valid":
            return [(0, 0)] * len(kernel)
        if self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, kernel, strict=True)]
            return [(t // 2, t - t // 2) for t in totals]
        return [(int(p), int(p)) for p in self.padding]
