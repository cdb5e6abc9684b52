"""What every network must satisfy, whatever its groups are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autoprune.graph import ChannelGraph, CostModel, Slicer, check_groups, count_macs, find_groups

IMAGE = (1, 3, 8, 8)


def image(*shape: int) -> Tensor:
    return torch.randn(shape or IMAGE, generator=torch.Generator().manual_seed(3))


def graph_of(model: nn.Module, *args: Any, **kwargs: Any) -> ChannelGraph:
    return find_groups(model.eval(), args or (image(),), kwargs)


def widths(graph: ChannelGraph) -> list[int]:
    return [group.width for group in graph.groups]


def reasons(graph: ChannelGraph) -> dict[str, str]:
    return {group.name: group.reason for group in graph.frozen}


def random_kept(graph: ChannelGraph, share: float = 0.5, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        group.name: torch.randperm(group.width, generator=generator)[: max(1, int(group.width * share))]
        .sort()
        .values
        for group in graph.groups
    }


def assert_exact(
    model: nn.Module, graph: ChannelGraph, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Every group passes rule 1 and moves the output; cost equals what is counted on the sliced network."""
    report = check_groups(model, graph, args, kwargs, exhaustive=True)
    assert report.ok, report.failed
    assert not report.without_effect
    cost = CostModel(model, graph, args, kwargs)
    for share in (0.0, 0.6, 1.0):
        kept = random_kept(graph, share)
        sliced = Slicer(model, graph).build(kept)
        counts = {name: len(indices) for name, indices in kept.items()}
        stored = {tensor.data_ptr(): tensor for tensor in sliced.state_dict().values()}.values()
        assert cost.macs(counts) == count_macs(sliced, args, kwargs)
        assert cost.params(counts) == sum(parameter.numel() for parameter in sliced.parameters())
        assert cost.bytes(counts) == sum(tensor.numel() * tensor.element_size() for tensor in stored)
