"""One spelling for products with a weight: `x @ weight.t()` and `einsum` become the linear map that they are.

Only what is a parameter or buffer of two dimensions, perhaps transposed, is taken for a weight. A linear map
with a transposed weight becomes a product, which holds its inputs first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from autoprune.graph.equations import linear_map

_aten = torch.ops.aten
_TRANSPOSED = {
    getattr(_aten, name) for name in ("t", "numpy_T", "mT", "matrix_H", "adjoint", "transpose", "permute")
}
_MATMUL = {_aten.matmul, _aten.mm}


def spell(graph: fx.Graph, states: Mapping[str, str]) -> None:
    """Rewrite the graph in place; `states` has the names of the nodes that are parameters or buffers."""
    for node in graph.nodes:
        packet = getattr(node.target, "overloadpacket", None)
        if packet is _aten.linear:
            _spell(node, states, node.args[0], node.args[1], _bias(node), inputs_first=False)
        elif packet in _MATMUL:
            _spell(node, states, node.args[0], node.args[1], None, inputs_first=True)
        elif packet is _aten.addmm and not node.kwargs and _shape(node.args[0]) == _shape(node)[-1:]:
            _spell(node, states, node.args[1], node.args[2], node.args[0], inputs_first=True)
        elif packet is _aten.einsum and (found := linear_map(node.args[0])) is not None:
            operands = node.args[1]
            input, weight = operands[1 - found.weight], operands[found.weight]
            _spell(node, states, input, weight, None, inputs_first=found.inputs_first)


def _spell(
    node: fx.Node, states: Mapping[str, str], input: Any, weight: Any, bias: Any, *, inputs_first: bool
) -> None:
    """As a linear map or a product, whichever reads the weight as it is stored."""
    stored, turned = _stored(weight)
    if stored.name not in states or len(_shape(stored)) != 2:
        return
    if inputs_first == turned:
        node.target, node.args = _aten.linear.default, (input, stored, bias)
    elif bias is None:
        node.target, node.args = _aten.matmul.default, (input, stored)
    else:
        # Of any number of dimensions here: nobody runs this graph.
        node.target, node.args = _aten.addmm.default, (bias, input, stored)
    node.kwargs = {}


def _bias(node: fx.Node) -> Any:
    return node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")


def _stored(weight: fx.Node) -> tuple[fx.Node, bool]:
    """What the weight is a view of, and whether with its two dimensions exchanged."""
    turned = False
    while getattr(weight.target, "overloadpacket", None) in _TRANSPOSED and len(_shape(weight)) == 2:
        # Dimensions of equal size that stay where they are, such as permute(0, 1), are no exchange.
        turned ^= _places(weight) != _places(weight.args[0])
        weight = weight.args[0]  # type: ignore[assignment]
    return weight, turned


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _places(node: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return _shape(node), tuple(node.meta["val"].stride())
