"""Find the channel groups of a model: trace it, walk its operators once with labels, assemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx, nn

from autoprune.graph.assemble import assemble
from autoprune.graph.call import Call
from autoprune.graph.capture import Program, capture
from autoprune.graph.groups import ChannelGraph
from autoprune.graph.labels import Labels
from autoprune.graph.operators import apply_rule
from autoprune.graph.trace import Trace
from autoprune.graph.training_mode import in_training

OUTPUT = "network output"
"""Why the channels of a network's last layer stay."""


def find_groups(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    ignore: Sequence[str] = (),
) -> ChannelGraph:
    """Channel groups of `model` for one example call `model(*args, **kwargs)`, best with batch 1.

    `ignore` holds patterns (fnmatch) of module names whose channels stay dense. The model is not
    changed. Raises ModelError when it cannot be traced.
    """
    program = capture(model, args, kwargs)
    return assemble(walk(program, beside=in_training(model, program, args, kwargs)), ignore)


def walk(program: Program, beside: Program | None = None) -> Trace:
    """Visit every node in order of execution and note labels, layers and freezes.

    What runs in the program `beside` is sliced with the rest, and neither counted nor a reason to freeze.
    """
    trace, live = Trace(program), _live(program.graph)
    _visit(trace, live)
    if beside is not None:
        with trace.aside(beside):
            _visit(trace, set())
    trace.close()
    return trace


def _visit(trace: Trace, live: set[fx.Node]) -> None:
    for node in trace.program.graph.nodes:
        # What nobody reads runs all the same: sizes have to fit there, and channels may mix.
        trace.ledger.lenient = node not in live
        if node.op == "placeholder":
            _place(node, trace)
        elif node.op == "call_function":
            trace.values[node] = apply_rule(node, trace)
        elif node.op == "get_attr":
            trace.values[node] = Call(node, trace).constants()
        elif node.op == "output" and node in live:
            _freeze_outputs(node, trace)
    trace.ledger.lenient = False


def _live(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that the output depends on, or what is written in place."""
    found: set[fx.Node] = set()
    waiting = [node for node in graph.nodes if node.op == "output" or node.is_impure()]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _place(node: fx.Node, trace: Trace) -> None:
    """Inputs and constants come from no channel; state tensors are labelled when an operator asks."""
    if node.name not in trace.program.states:
        trace.values[node] = Call(node, trace).constants()


def _freeze_outputs(node: fx.Node, trace: Trace) -> None:
    for labels in Call(node, trace).inputs():
        if isinstance(labels, Labels):
            trace.ledger.freeze(labels.vector, OUTPUT)
