"""From a pruned network to a narrower one with the same weights: a step of iterated pruning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoprune.errors import PlanError
from autoprune.graph.capture import named_state
from autoprune.graph.groups import ChannelGraph, Kept
from autoprune.graph.slicing import Slicer, member_sites, positions_kept, validate_kept


def reslice(model: nn.Module, graph: ChannelGraph, network: nn.Module, before: Kept, kept: Kept) -> nn.Module:
    """`network`, which holds the channels `before` of the dense `model`, cut to the channels `kept`.

    Returns a module of its own. Indices of both candidates count the dense channels. Raises PlanError
    where a group would keep a channel that the network no longer has.
    """
    check_nested(graph, before, kept)
    dense, state = named_state(model), dict(named_state(network))
    for (name, dim), members in member_sites(graph).items():
        size = dense[name].shape[dim]
        have, want = (positions_kept(size, members, candidate) for candidate in (before, kept))
        places = torch.searchsorted(have, want)
        state[name] = state[name].detach().index_select(dim, places.to(state[name].device))
    return Slicer(model, graph).build(kept, {name: _copied(tensor) for name, tensor in state.items()})


def check_nested(graph: ChannelGraph, before: Kept, kept: Kept) -> None:
    """PlanError, naming the group, unless every channel of `kept` is among those of `before`."""
    for candidate in (before, kept):
        validate_kept(graph, candidate)
    whole = graph.all_kept()
    for group in graph.groups:
        have, want = before.get(group.name, whole[group.name]), kept.get(group.name, whole[group.name])
        missing = want[~torch.isin(want, have)].tolist()
        if missing:
            raise PlanError(
                f"group '{group.name}': wanted channels of the pruned network only, got {missing[:5]}, "
                "which it no longer has; keep a subset of its channels."
            )


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()
