"""Rules for data movement: the same operator runs on the labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx

from autoprune.graph.call import Call, Rule, names
from autoprune.graph.operators_elementwise import combine_spread
from autoprune.graph.spread import Spread, tied, varying
from autoprune.graph.trace import Counted, One, Value


def moved(call: Call) -> Value:
    """Run the operator itself on the labels."""
    try:
        result = call.node.target(*_on_labels(call, call.node.args), **call.node.kwargs)  # type: ignore[operator]
    except RuntimeError:
        # Where elements go depends on the values of another tensor.
        return call.give_up("moves elements by the values of a tensor")
    return _spread_all(call, result)


def reshaped(call: Call) -> Value:
    value = call.raw("self")
    if value.expanded().numel() != math.prod(call.shape):
        return call.give_up("reads elements as another type")
    result = call.spread(value.expanded().reshape(call.shape))
    # A layer that views its output by the width it remembers.
    widths = "nf" in call.trace.program.sizes.get(call.module, {})
    for side in (value, result):
        if isinstance(side, Spread) or widths:
            call.trace.counted.append(Counted(call.module, side.expanded()))
        elif side.dim is not None:
            call.counts(side.vector)
    return result


def concatenated(call: Call) -> Value:
    """cat: side by side along the channels; along places, the channels of all inputs are tied."""
    inputs = [call.raw_of(node) for node in call.arg("tensors")]
    along = {dim for value in inputs for dim in varying(value.expanded())}
    dim = call.arg("dim", 0) % max(len(call.shape), 1)
    if not along or dim in along:
        return moved(call)
    joined = call.node.target(*_on_labels(call, call.node.args), **call.node.kwargs)  # type: ignore[operator]
    return call.spread(tied(joined, [dim], call.trace.ledger, f"{call.where} meets a constant"))


def kept_apart(argument: str, why: str) -> Rule:
    """A rule for operators that move data, unless along the channels: `argument` names their dimensions."""

    def rule(call: Call) -> Value:
        value, dims = call.raw("self"), call.arg(argument)
        dims = [dims] if isinstance(dims, int) else list(dims or range(value.ndim))
        whole = call.whole(value, dims)
        return call.give_up(why) if whole is None else _moved_alone(call, whole)

    return rule


def split(call: Call) -> Value:
    """chunk, split: equal parts along the channels are tied position by position, others where the module
    knows how long they are."""
    labels, dim = call.raw("self"), call.arg("dim", 0)
    if isinstance(labels, Spread):
        return _apart(call, labels, dim, "splits channels into parts")
    if labels.varies_along(dim):
        parts = torch.split(labels.vector, [shape[dim] for shape in call.shapes])
        if not _cut(call, parts):
            return call.give_up("splits channels into unequal parts")
    return moved(call)


def unbind(call: Call) -> Value:
    return _apart(call, call.raw("self"), call.arg("dim", 0), "takes single channels")


def _apart(call: Call, value: One, dim: int, why: str) -> Value:
    """Take the input apart along `dim`, which must be whole."""
    whole = call.whole(value, [dim])
    return call.give_up(why) if whole is None else _moved_alone(call, whole)


def slice_(call: Call) -> Value:
    """A slice along the channels counts as a split when its sisters complete it to one."""
    labels, dim = call.raw("self"), call.arg("dim", 0)
    if isinstance(labels, Spread):
        return moved(call) if call.shape == labels.shape else _apart(call, labels, dim, "cuts channels")
    if not labels.varies_along(dim) or call.shape == labels.shape:
        return moved(call)
    lengths = _lengths_of_slices(call, labels.shape[dim], dim)
    parts = torch.split(labels.vector, lengths) if lengths else ()
    # The last ends where the channels end, whatever its size.
    if not parts or not _cut(call, parts, spare=1):
        return call.give_up("cuts channels at a fixed place")
    return moved(call)


def _lengths_of_slices(call: Call, size: int, dim: int) -> list[int]:
    """Sizes of the parts that all slices of this tensor along `dim` cut it into; none where they do not lie
    side by side."""
    source = call.node.args[0]
    assert isinstance(source, fx.Node)
    cuts = set()
    for user in source.users:
        if user.target is call.node.target:
            sister = Call(user, call.trace)
            if sister.arg("dim", 0) % call.labels("self").ndim == dim % call.labels("self").ndim:
                cuts.add(slice(sister.arg("start"), sister.arg("end"), sister.arg("step", 1)).indices(size))
    ordered = sorted(cut for cut in cuts if cut != (0, size, 1))
    ends = [0, *(end for _, end, _ in ordered)]
    beside = ordered == [(start, end, 1) for start, end in pairwise(ends)] and ends[-1] == size
    return [end - start for start, end in pairwise(ends)] if beside else []


def _cut(call: Call, parts: Sequence[Tensor], spare: int = 0) -> bool:
    """Whether the parts, side by side along the channels, may still fit where channels are gone.

    Parts as long as each other lose the same ones. Where there are others, the module must know how long they
    are, but for `spare` of them, or for one that is what the others leave of the whole.
    """
    known = set(call.trace.program.lengths.get(call.module, {}).values())
    lengths = {len(part) for part in parts}
    if len(lengths) > 1 and len(lengths - known) > max(spare, sum(map(len, parts)) in known):
        return False
    for length in lengths:
        first, *others = [part for part in parts if len(part) == length]
        for other in others:
            call.unite(first, other)
    if "chunk" not in call.operator:
        for vector in (*parts, torch.cat(list(parts))):
            call.counts(vector)
    return True


def indexed(call: Call) -> Value:
    """x[..., index]: the index is unknown here, but where labels do not vary it does not matter."""
    indices = call.arg("indices")
    labels = call.whole(call.raw("self"), [dim for dim, index in enumerate(indices) if index is not None])
    if labels is None:
        return call.give_up("picks channels by index")
    known = [None if index is None else _zeros_like(index) for index in indices]
    if any(index is not None and index.dtype == torch.bool for index in known):
        return call.give_up("picks elements by a mask")
    return call.spread(torch.ops.aten.index.Tensor(labels.expanded(), known))


def gathered(call: Call) -> Value:
    """gather, index_select along `dim`."""
    dim = call.arg("dim")
    labels = call.whole(call.raw("self"), [dim])
    if labels is None:
        return call.give_up("picks channels by index")
    index = _zeros_like(call.arg("index"))
    return call.spread(call.node.target(labels.expanded(), dim, index))  # type: ignore[operator]


def scattered(call: Call) -> Value:
    """index_add, scatter, ... along `dim`: what was there and what comes meet channel by channel."""
    given = [call.arguments.get(name) for name in ("self", "src", "source")]
    known = [call.raw_of(node) for node in given if isinstance(node, fx.Node)]
    dim = call.arg("dim") % max(len(call.shape), 1)
    whole = [call.whole(value, [dim]) for value in known]
    # Any place along `dim` may meet any other.
    rows = [value.expanded().narrow(dim, 0, 1) for value in whole if value is not None]
    if len(rows) < len(known):
        return call.give_up("picks channels by index")
    if any(labels.shape != rows[0].shape for labels in rows):
        return call.give_up("writes into a part of a tensor")
    return combine_spread(call, [labels.expand(call.shape) for labels in rows], call.shape)


def _moved_alone(call: Call, value: One) -> Value:
    """Run the operator on these labels in place of its input's."""
    _, *others = call.node.args
    return _spread_all(call, call.node.target(value.expanded(), *others, **call.node.kwargs))  # type: ignore[operator]


def _on_labels(call: Call, argument: Any) -> Any:
    return fx.map_arg(argument, lambda node: call.raw_of(node).expanded())


def _spread_all(call: Call, result: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Value:
    if isinstance(result, Tensor):
        return call.spread(result)
    return [call.spread(item) for item in result]


def _zeros_like(index: fx.Node) -> Tensor:
    value: Tensor = index.meta["val"]
    dtype = torch.bool if value.dtype == torch.bool else torch.int64
    return torch.zeros(tuple(value.shape), dtype=dtype)


_MOVED = names(
    "permute transpose t numpy_T adjoint mT squeeze unsqueeze expand expand_as "
    "stack hstack vstack repeat repeat_interleave flip movedim swapaxes swapdims broadcast_to tile "
    "numpy_T rot90"
)
_RESHAPED = names("view reshape _unsafe_view flatten unflatten view_as reshape_as ravel")

MOVEMENT: dict[str, Rule] = {
    **dict.fromkeys(_MOVED, moved),
    **dict.fromkeys(_RESHAPED, reshaped),
    **dict.fromkeys(
        ("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_chunk", "unsafe_split"), split
    ),
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenated),
    "unbind": unbind,
    "slice": slice_,
    "narrow": kept_apart("dim", "cuts channels at a fixed place"),
    "select": kept_apart("dim", "takes a single channel"),
    "roll": kept_apart("dims", "rolls channels by a fixed number"),
    "unfold": kept_apart("dimension", "takes windows of channels"),
    "index": indexed,
    "index_select": gathered,
    "gather": gathered,
    **dict.fromkeys(names("index_add index_copy index_reduce scatter scatter_add scatter_reduce"), scattered),
}
