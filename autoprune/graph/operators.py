"""The table of rules: what each ATen operator does to labels.

A rule belongs to an operator's name without overload; an in-place variant shares the rule of the
plain one. What is in no table is either element-wise by its tag, or freezes the channels it touches.
"""

from __future__ import annotations

import operator as python_operator
from collections.abc import Mapping

import torch
from torch import fx

from autoprune.graph.call import Call, Rule, is_constant, operator_name
from autoprune.graph.operators_blocks import BLOCKS
from autoprune.graph.operators_elementwise import ELEMENTWISE, elementwise
from autoprune.graph.operators_layers import LAYERS
from autoprune.graph.operators_movement import MOVEMENT
from autoprune.graph.operators_norms import NORMS
from autoprune.graph.operators_products import PRODUCTS
from autoprune.graph.operators_sequences import SEQUENCES
from autoprune.graph.operators_space import FOREIGN, SPACE
from autoprune.graph.operators_spectra import SPECTRA
from autoprune.graph.trace import Trace, Value

RULES: Mapping[str, Rule] = FOREIGN | {
    f"aten.{name}": rule
    for table in (LAYERS, NORMS, SEQUENCES, MOVEMENT, BLOCKS, SPACE, SPECTRA, PRODUCTS, ELEMENTWISE)
    for name, rule in table.items()
}


def apply_rule(node: fx.Node, trace: Trace) -> Value:
    """Labels of the outputs of one `call_function` node."""
    if node.target is python_operator.getitem:
        source = trace.values.get(node.args[0])  # type: ignore[arg-type]
        return source[node.args[1]] if isinstance(source, (list, tuple)) else None  # type: ignore[index]
    return _rule_of(node)(Call(node, trace))


def _rule_of(node: fx.Node) -> Rule:
    name = operator_name(node)
    plain = name.removesuffix("_")
    if rule := RULES.get(name) or RULES.get(plain):
        return rule
    return elementwise if _is_pointwise(node.target) or _is_pointwise(_overloads(plain)) else _unknown


def _is_pointwise(target: object) -> bool:
    """By the tag of the operator; some in-place variants lack that of the plain one."""
    if isinstance(target, torch._ops.OpOverloadPacket):
        return any(_is_pointwise(getattr(target, overload)) for overload in target.overloads())  # type: ignore[no-untyped-call]
    return isinstance(target, torch._ops.OpOverload) and torch.Tag.pointwise in target.tags


def _overloads(name: str) -> object:
    namespace, _, operator = name.partition(".")
    return getattr(getattr(torch.ops, namespace, None), operator, None) if operator else None


def _unknown(call: Call) -> Value:
    if call.operator.startswith("aten._assert") or all(map(is_constant, call.raw_inputs())):
        return call.constants()
    return call.give_up("is not known to keep channels apart")
