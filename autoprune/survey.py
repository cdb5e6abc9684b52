"""What can go and what is frozen: the channel groups of a network, checked, with the least cost reachable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from autoprune.config import ModelConfig, SearchConfig, StudyConfig
from autoprune.data import Inputs, as_batches, load_splits
from autoprune.data.inputs import most_inputs
from autoprune.errors import ConfigError
from autoprune.graph import (
    ChannelGraph,
    ChannelGroup,
    CheckReport,
    CostModel,
    Role,
    check_groups,
    find_groups,
)
from autoprune.graph.check import checked
from autoprune.graph.patterns import caps_of, check_patterns
from autoprune.models.loading import build
from autoprune.searching.space import allowed_widths
from autoprune.session import pick_device


@dataclass(frozen=True)
class Survey:
    """Groups that passed rule 1, and the costs for one input: dense, and with every group at its floor."""

    graph: ChannelGraph
    check: CheckReport
    macs: int
    params: int
    least_macs: int
    least_params: int

    def to_json(self) -> dict[str, Any]:
        """What `groups --json` prints."""
        return {
            "groups": [_group_json(self.graph, group) for group in self.graph.groups],
            "frozen": [{"name": f.name, "width": f.width, "reason": f.reason} for f in self.graph.frozen],
            "dense": {"macs": self.macs, "params": self.params},
            "least": {"macs": self.least_macs, "params": self.least_params},
            "check": {
                "relative_error": self.check.relative_error,
                "failed": dict(self.check.failed),
                "without_effect": list(self.check.without_effect),
            },
        }


def survey(
    model: nn.Module,
    example: Inputs,
    *,
    search: SearchConfig | None = None,
    exhaustive: bool = False,
) -> Survey:
    """Find and check the groups of a network; with `exhaustive`, every group is also checked alone."""
    search = search or SearchConfig()
    args, kwargs = example.args, example.kwargs
    check_patterns("ignore", search.ignore, model)
    found = find_groups(model, args, kwargs, search.ignore)
    rule = partial(check_groups, model, args=args, kwargs=kwargs, exhaustive=exhaustive)
    graph, check = checked(found, rule)
    cost = CostModel(model, graph, args, kwargs)
    least = {name: max(search.min_kept, 1.0 - cap) for name, cap in caps_of(graph, search.caps).items()}
    floor = {g.name: int(allowed_widths(g.width, least[g.name], search.multiple_of)[0]) for g in graph.groups}
    return Survey(graph, check, cost.dense_macs, cost.dense_params, cost.macs(floor), cost.params(floor))


def survey_study(
    config: StudyConfig, input_size: Sequence[int] | None = None, *, device: str | None, exhaustive: bool
) -> Survey:
    """The groups of a study's network. Neither its weights nor its storage are needed.

    `input_size`, without the batch, stands in for the study's images.
    """
    place = pick_device(device)
    model = build(config.model, config.search.seed).eval().to(place)
    example = _noise(input_size) if input_size else _first_image(config, model)
    return survey(model, example.to(place), search=config.search, exhaustive=exhaustive)


def survey_factory(
    factory: str, input_size: Sequence[int], *, device: str | None, exhaustive: bool
) -> Survey:
    """The groups of whatever network an import path "package.module:function" returns."""
    place = pick_device(device)
    model = build(ModelConfig(factory=factory)).eval().to(place)
    return survey(model, _noise(input_size).to(place), exhaustive=exhaustive)


def _first_image(config: StudyConfig, model: nn.Module) -> Inputs:
    return next(iter(as_batches(load_splits(config.data).calibration, 1, most_inputs(model))))


def _noise(size: Sequence[int]) -> Inputs:
    if not size or min(size) < 1:
        raise ConfigError(f"an input size must be positive numbers such as 3 224 224, got {list(size)}.")
    return Inputs((torch.randn(1, *size, generator=torch.Generator().manual_seed(0)),))


def _group_json(graph: ChannelGraph, group: ChannelGroup) -> dict[str, Any]:
    return {
        "name": group.name,
        "width": group.width,
        "producers": owners(group, Role.PRODUCER),
        "consumers": owners(group, Role.CONSUMER),
        "members": [
            {"tensor": m.tensor, "dim": m.dim, "role": m.role.value, "per_channel": m.positions.shape[1]}
            for m in group.members
        ],
    }


def owners(group: ChannelGroup, role: Role) -> list[str]:
    """Modules whose tensors have this role in the group, each once, in the order of the members."""
    return list(dict.fromkeys(m.tensor.rpartition(".")[0] or m.tensor for m in group.of_role(role)))
