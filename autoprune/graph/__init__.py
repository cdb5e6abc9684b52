"""Channel groups, the exact cost model, and slicing."""

from autoprune.graph.check import CheckReport, check_groups, verified_graph
from autoprune.graph.cost import CostModel, Costs, count_macs
from autoprune.graph.discover import find_groups
from autoprune.graph.groups import (
    ChannelGraph,
    ChannelGroup,
    FrozenGroup,
    Kept,
    Layer,
    LayerKind,
    Member,
    Role,
)
from autoprune.graph.slicing import Slicer, layer_positions, mask_consumers, validate_kept

__all__ = [
    "ChannelGraph",
    "ChannelGroup",
    "CheckReport",
    "CostModel",
    "Costs",
    "FrozenGroup",
    "Kept",
    "Layer",
    "LayerKind",
    "Member",
    "Role",
    "Slicer",
    "check_groups",
    "count_macs",
    "find_groups",
    "layer_positions",
    "mask_consumers",
    "validate_kept",
    "verified_graph",
]
