"""Rules for what reads and makes sequences: recurrent layers and embeddings."""

from __future__ import annotations

import math

from torch import Tensor, fx

from autoprune.graph.call import Call, Rule
from autoprune.graph.groups import LayerKind, Role
from autoprune.graph.labels import Labels
from autoprune.graph.operators_layers import COMPUTED, record
from autoprune.graph.trace import Value


def recurrent(call: Call) -> Value:
    """lstm, gru, rnn: what the first layer reads can go; what it remembers stays."""
    columns, values = call.labels_along("input", -1), call.arg("params")
    if columns is None or values is None:
        return call.give_up("mixes channels")
    directions = 1 + call.arg("bidirectional")
    each = len(values) // (call.arg("num_layers") * directions)
    firsts = range(0, each * directions, each)
    biased = call.arg("has_biases")
    _feed_back(call, [(values[i], values[i + 2] if biased else None) for i in firsts], columns)
    return call.constants()


def recurrent_cell(call: Call) -> Value:
    """lstm_cell, gru_cell, rnn_*_cell: one step."""
    columns = call.labels_along("input", -1)
    if columns is None:
        return call.give_up("mixes channels")
    _feed_back(call, [(call.arg("w_ih"), call.arg("b_ih"))], columns)
    return call.constants()


def _feed_back(call: Call, weights: list[tuple[fx.Node, fx.Node | None]], columns: Tensor) -> None:
    """Weights (O, I) read the input; what they give comes back, as does what was hidden before."""
    why = "feeds back"
    fx.map_arg(call.arg("hx"), lambda node: call.freeze(call.raw_of(node), why))
    for weight, bias in weights:
        name = call.state_name(weight)
        if name is None:
            call.freeze(columns, COMPUTED)
            continue
        places = math.prod(call.raw("input").shape[:-1])
        record(call, LayerKind.LINEAR, name, 1, places, bias, inside=True)
        call.trace.attach(name, 1, Role.CONSUMER, columns)
        rows = call.trace.ledger.fresh(call.trace.program.tensors[name].shape[0])
        call.freeze(rows, why)
        call.trace.attach(name, 0, Role.PRODUCER, rows)


def embedding(call: Call) -> Value:
    """embedding, embedding_bag: a table (entries, O) gives vectors (..., O)."""
    table = call.state_name(call.arg("weight"))
    if table is None:
        return call.give_up("looks up what is computed")
    width = call.trace.program.tensors[table].shape[1]
    rows = call.trace.ledger.fresh(width)
    call.trace.readers[table].add(call.operator)
    call.trace.attach(table, 1, Role.PRODUCER, rows)
    found = Labels.along(call.shape, -1, rows)
    # A bag also says how many entries it holds.
    others = [Labels.uniform(shape) for shape in call.shapes[1:]]
    return [found, *others] if others else found


SEQUENCES: dict[str, Rule] = {
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), recurrent_cell),
    **dict.fromkeys(("embedding", "embedding_bag", "_embedding_bag"), embedding),
}
