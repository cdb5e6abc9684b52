"""See every weighted operator as it runs, whatever module (or function) calls it.

A `LayerTap` is a context manager. It watches the torch functions that a forward pass calls and hands
those whose weight belongs to a known layer to a handler, which may look at the input or replace the
output. Watching functions instead of modules also catches weights used functionally, and padding that
a module adds before the convolution is already in the input that the handler sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from autoprune.graph.groups import Layer
from autoprune.graph.multi_head import opened

Function = Callable[..., Any]


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer: its input (batch, ...) and how to run it again with other weights."""

    layer: Layer
    function: Function
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | str = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    def run(self) -> Tensor:
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
        return there.run().shape

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


Handler = Callable[[LayerCall], Tensor | None]


class LayerTap(TorchFunctionMode):
    """Calls `handler` for each call of the given layers; a returned tensor replaces the output."""

    def __init__(self, model: nn.Module, layers: Iterable[Layer], handler: Handler | None) -> None:
        super().__init__()
        state: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        # A fixed filter is a buffer.
        state |= dict(model.named_buffers(remove_duplicate=False))
        # The parameter itself is kept beside its id, so that the id cannot be reused meanwhile.
        watched = [(state[layer.weight], layer) for layer in layers if not layer.kind.inputs_first]
        self._layers = {id(weight): (weight, layer) for weight, layer in watched}
        self._handler = handler

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        call = self._match(func, args, kwargs)
        if call is not None:
            output = self._handle(call)
            if output is not None:
                return output
        if (inside := opened(func, args, kwargs)) is not None:
            with self:
                return inside(*args, **kwargs)
        return func(*args, **kwargs)

    def _handle(self, call: LayerCall) -> Tensor | None:
        return None if self._handler is None else self._handler(call)

    def _match(self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LayerCall | None:
        bind = _BINDERS.get(func)
        if bind is None:
            return None
        found = self._layers.get(id(args[1] if len(args) > 1 else kwargs.get("weight")))
        return None if found is None else bind(func, found[1], *args, **kwargs)


def _bind_linear(
    func: Function, layer: Layer, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> LayerCall:
    return LayerCall(layer, func, input, weight, bias)


def _bind_conv(
    func: Function,
    layer: Layer,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> LayerCall:
    n = weight.dim() - 2
    pads = padding if isinstance(padding, str) else _tuple(padding, n)
    return LayerCall(
        layer, func, input, weight, bias, _tuple(stride, n), pads, _tuple(dilation, n), groups
    )


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    items = (value,) if isinstance(value, int) else tuple(value)
    return items * n if len(items) == 1 else items


_BINDERS: dict[Function, Callable[..., LayerCall]] = {
    F.linear: _bind_linear,
    torch.conv1d: _bind_conv,
    torch.conv2d: _bind_conv,
    torch.conv3d: _bind_conv,
}
