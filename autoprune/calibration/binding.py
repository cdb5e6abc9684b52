"""Calls of torch functions as layer calls: which argument is the weight, and what plain map it stands for.

Whatever way a layer is written, it becomes a linear map or a convolution with outputs first: a product
`x @ w` is a linear map by `w.t()`, a transposed convolution one of its input with zeros in between.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from autoprune.calibration.call import Function, LayerCall
from autoprune.calibration.trees import leaves
from autoprune.graph.equations import linear_map
from autoprune.graph.groups import Layer, LayerKind
from autoprune.graph.orientation import outputs_first


@dataclass(frozen=True)
class Watched:
    """A layer's weight or its transpose; kept, so that its id means nothing else meanwhile."""

    tensor: Tensor
    layer: Layer
    bias: Tensor | None = None
    turned: bool = False

    @property
    def inputs_first(self) -> bool:
        return self.layer.kind.inputs_first != self.turned

    def turned_into(self, output: Any) -> Watched | None:
        """The output of a function of this weight, if it is its transpose."""
        tensor = self.tensor
        if not isinstance(output, Tensor) or tensor.dim() != 2 or output.shape != tensor.shape[::-1]:
            return None
        same = output.data_ptr() == tensor.data_ptr() and output.stride() == tensor.stride()[::-1]
        return Watched(output, self.layer, self.bias, not self.turned) if same else None


Find = Callable[[Any], Watched | None]
"""What is watched under a tensor."""
Binder = Callable[..., LayerCall | None]


def bound(find: Find, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LayerCall | None:
    """The call of a watched layer; None for any other call."""
    binder = _BINDERS.get(func)
    # Written into a tensor (`out`), of another type, or in an old order: left to torch.
    if binder is None or not _takes(binder, len(args), tuple(kwargs)):
        return None
    return binder(find, func, *args, **kwargs)


def bound_inside(find: Find, func: Function, args: tuple[Any, ...]) -> list[LayerCall]:
    """Calls of watched layers that a recurrent function makes and goes on with: their outputs are its own."""
    if func not in _RECURRENT:
        return []
    # One sample without a batch is no row of images.
    if not isinstance(args[0], Tensor) or args[0].dim() < 2 + (func not in _CELLS):
        return []
    found = [find(leaf) for leaf in leaves(args[1:])]
    known = {one.layer.name: one for one in found if one is not None}
    return [LayerCall(one.layer, F.linear, args[0], one.tensor, one.bias) for one in known.values()]


def _linear(
    find: Find, func: Function, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> LayerCall | None:
    found = find(weight) if input.dim() > 1 else None
    return None if found is None or found.inputs_first else LayerCall(found.layer, func, input, weight, bias)


def _product(find: Find, input: Tensor, other: Any, bias: Tensor | None = None) -> LayerCall | None:
    found = find(other) if input.dim() > 1 else None
    if found is None or not found.inputs_first:
        return None
    return LayerCall(found.layer, F.linear, input, other.t(), bias)


def _matmul(find: Find, func: Function, input: Tensor, other: Any) -> LayerCall | None:
    return _product(find, input, other)


def _mm(find: Find, func: Function, input: Tensor, mat2: Tensor) -> LayerCall | None:
    return _product(find, input, mat2)


def _addmm(
    find: Find, func: Function, input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> LayerCall | None:
    plain = beta == alpha == 1 and input.dim() == 1
    return _product(find, mat1, mat2, input) if plain else None


def _einsum(find: Find, func: Function, equation: str, *operands: Any) -> LayerCall | None:
    given = operands[0] if len(operands) == 1 else operands
    found = linear_map(equation) if isinstance(equation, str) and len(given) == 2 else None
    if found is None:
        return None
    input, weight = given[1 - found.weight], given[found.weight]
    return _product(find, input, weight) if found.inputs_first else _linear(find, F.linear, input, weight)


def _convolution(
    find: Find,
    func: Function,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> LayerCall | None:
    found, n = find(weight), weight.dim() - 2
    if found is None or input.dim() != weight.dim() or found.layer.kind is not LayerKind.CONV:
        # A transposed convolution's weight may serve a plain one as well.
        return None
    pads = padding if isinstance(padding, str) else _tuple(padding, n)
    return LayerCall(
        found.layer, func, input, weight, bias, _tuple(stride, n), pads, _tuple(dilation, n), groups
    )


def _transposed(
    find: Find,
    func: Function,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> LayerCall | None:
    """Dumoulin and Visin, arXiv:1603.07285, section 4: a convolution over the input with zeros in between."""
    found, n = find(weight), weight.dim() - 2
    if found is None or input.dim() != weight.dim() or found.layer.kind is not LayerKind.CONV_TRANSPOSE:
        return None
    steps, dilations = _tuple(stride, n), _tuple(dilation, n)
    reach = [d * (k - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
    before = [r - p for r, p in zip(reach, _tuple(padding, n), strict=True)]
    after = [b + more for b, more in zip(before, _tuple(output_padding, n), strict=True)]
    between = _with_zeros(input, steps, before, after)
    forward, zero, one = _FORWARD[func], (0,) * n, (1,) * n
    layer, turned = found.layer, outputs_first(found.layer, weight)

    def faster(weight: Tensor, bias: Tensor | None) -> Tensor:
        own: Tensor = outputs_first(layer, weight)
        output: Tensor = func(input, own, bias, stride, padding, output_padding, groups, dilation)
        return output

    return LayerCall(
        layer, forward, between, turned, bias, one, zero, dilations, groups, phases=steps, faster=faster
    )


def _with_zeros(input: Tensor, steps: Sequence[int], before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Positions `steps` apart, zeros in between, and so many before and after; negative numbers cut off."""
    sizes = [(size - 1) * step + 1 for size, step in zip(input.shape[2:], steps, strict=True)]
    spread = input.new_zeros(*input.shape[:2], *sizes)
    every = spread
    for dim, step in enumerate(steps, start=2):
        every = every[(slice(None),) * dim + (slice(None, None, step),)]
    every.copy_(input)
    return F.pad(spread, [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair])


@cache
def _takes(binder: Binder, count: int, names: tuple[str, ...]) -> bool:
    """Whether it can be called with so many arguments by place and these by name."""
    try:
        inspect.signature(binder).bind(None, None, *[None] * count, **dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    items = (value,) if isinstance(value, int) else tuple(value)
    return items * n if len(items) == 1 else items


_FORWARD: dict[Function, Function] = {
    torch.conv_transpose1d: torch.conv1d,
    torch.conv_transpose2d: torch.conv2d,
    torch.conv_transpose3d: torch.conv3d,
}
_CELLS: set[Function] = {torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell}
_RECURRENT: set[Function] = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu, *_CELLS}
_MATMULS: list[Function] = [torch.matmul, Tensor.matmul, Tensor.__matmul__]
_BINDERS: dict[Function, Binder] = {
    F.linear: _linear,
    **dict.fromkeys(_FORWARD.values(), _convolution),
    **dict.fromkeys(_FORWARD, _transposed),
    **dict.fromkeys(_MATMULS, _matmul),
    **dict.fromkeys((torch.mm, Tensor.mm), _mm),
    **dict.fromkeys((torch.addmm, Tensor.addmm), _addmm),
    torch.einsum: _einsum,
}
