"""One call of a layer, as a plain map: a convolution or a linear map with outputs first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
        return self.run_with(self.weight, self.bias)

    def run_with(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The output with another weight and bias."""
        if self.faster is not None:
            return self.faster(weight, bias)
        more = (self.stride, self.padding, self.dilation, self.groups) if self.stride else ()
        output: Tensor = self.function(self.input, weight, bias, *more)
        return output

    @property
    def taps(self) -> int:
        """Positions of the kernel; 1 for a linear layer."""
        return math.prod(self.weight.shape[2:])

    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, found without computing it."""
        outputs, _, *kernel = self.weight.shape
        if not self.stride:
            return (*self.input.shape[:-1], outputs)
        padded = [size + sum(pads) for size, pads in zip(self.input.shape[2:], self.pads(), strict=True)]
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, kernel, strict=True)]
        along = zip(padded, reach, self.stride, strict=True)
        return (len(self.input), outputs, *((size - r) // s + 1 for size, r, s in along))

    def pads(self) -> list[tuple[int, int]]:
        """Zeros added before and after each spatial dimension."""
        kernel = self.weight.shape[2:]
        if self.padding == "valid":
            return [(0, 0)] * len(kernel)
        if self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, kernel, strict=True)]
            return [(t // 2, t - t // 2) for t in totals]
        return [(int(p), int(p)) for p in self.padding]
