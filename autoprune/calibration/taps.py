"""See every weighted operator as it runs, whatever module (or function) calls it.

A `LayerTap` is a context manager. It watches the torch functions that a forward pass calls and hands
those whose weight belongs to a known layer to a handler, which may look at the input or replace the
output. Watching functions instead of modules also catches weights used functionally, and padding that
a module adds before the convolution is already in the input that the handler sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from autoprune.calibration.binding import Watched, bound, bound_inside
from autoprune.calibration.call import Function, LayerCall
from autoprune.graph.groups import Layer
from autoprune.graph.multi_head import opened

Handler = Callable[[LayerCall], Tensor | None]


class LayerTap(TorchFunctionMode):
    """Calls `handler` for each call of the given layers; a returned tensor replaces the output."""

    def __init__(self, model: nn.Module, layers: Iterable[Layer], handler: Handler | None) -> None:
        super().__init__()
        state: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        # A fixed filter is a buffer.
        state |= dict(model.named_buffers(remove_duplicate=False))
        self._watched: dict[int, Watched] = {}
        for layer in layers:
            weight, bias = state[layer.weight], None if layer.bias is None else state[layer.bias]
            self._watched[id(weight)] = Watched(weight, layer, bias)
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
        for part in bound_inside(self._find_watched, func, args):
            self._handle(part)
        output = func(*args, **kwargs)
        self._watch(args, output)
        return output

    def _handle(self, call: LayerCall) -> Tensor | None:
        return None if self._handler is None else self._handler(call)

    def _match(self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LayerCall | None:
        return bound(self._find_watched, func, args, kwargs)

    def _find_watched(self, tensor: Any) -> Watched | None:
        return self._watched.get(id(tensor))

    def _watch(self, args: tuple[Any, ...], output: Any) -> None:
        """Weights are read transposed as well: watch what a function makes of one."""
        known = self._watched.get(id(args[0])) if args else None
        turned = None if known is None else known.turned_into(output)
        if turned is not None:
            self._watched[id(turned.tensor)] = turned
