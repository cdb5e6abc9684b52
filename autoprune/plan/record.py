"""What a plan says: which indices of which tensors stay, where that came from, and what it costs.

A plan names no path and no code: everything in it is a number, a name of a tensor, or a remark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch import nn

from autoprune.errors import PlanError
from autoprune.graph.capture import named_state
from autoprune.graph.groups import ChannelGraph, Kept
from autoprune.graph.slicing import member_sites, positions_kept, validate_kept
from autoprune.searching.front import Point
from autoprune.versions import versions

SCHEMA: Literal[1] = 1
"""Version of plan.json; raise it when an older reader would misread the file."""

Index = Annotated[int, Field(ge=0)]
Indices = Annotated[list[Index], Field(min_length=1)]
Width = Annotated[int, Field(ge=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Result(_Record):
    """What the search measured on the validation split, and exact costs. Ratios are relative to dense."""

    accuracy: float
    accuracy_before_reconstruction: float | None
    macs: int
    macs_ratio: float
    params: int
    params_ratio: float
    bytes: int
    batch_removal: int
    criterion: str


class FineTuning(_Record):
    """A training of the saved weights. Accuracies are on the validation split, before and after.

    `settings` are the [training] section; the weights are those of `best_epoch`, 0 where none did better.
    """

    settings: dict[str, Any]
    seed: int
    images: int
    best_epoch: int
    accuracy_before: float
    accuracy: float
    versions: dict[str, str]


class Plan(_Record):
    """How a network was pruned. `tensors` alone decides the shapes: tensor -> dimension -> kept indices.
    `attributes` are integers of modules that count attention heads or channels: module -> name -> value.

    `kept` says the same per channel group, of the `widths` before pruning. `weights_sha256` ties the plan
    to the weights that were saved with it. `reconstruction` names the method and options where the network
    was restored in another way than the study's; `result` holds its accuracy then. `fine_tuning` lists what
    was done to the weights since, oldest first; `result` stays as it was before.
    """

    schema_version: Literal[1] = SCHEMA
    study: str
    trial: int
    model: str
    widths: dict[str, Width]
    kept: dict[str, Indices]
    tensors: dict[str, dict[str, Indices]]
    attributes: dict[str, dict[str, Width]] = {}
    result: Result
    versions: dict[str, str]
    weights_sha256: str = ""
    reconstruction: dict[str, Any] = {}
    fine_tuning: list[FineTuning] = []

    @model_validator(mode="after")
    def _kept_channels_exist(self) -> Self:
        for name, indices in self.kept.items():
            rising = all(low < high for low, high in pairwise(indices))
            if not rising or indices[-1] >= self.widths.get(name, 0):
                raise ValueError(
                    f"kept channels of group '{name[:60]}' should be strictly rising and below its width"
                )
        return self

    @model_serializer(mode="wrap")
    def _leave_out_what_did_not_happen(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Readers from before these fields refuse those that they do not know.
        later = ("attributes", "reconstruction", "fine_tuning")
        return {name: value for name, value in dump(self).items() if name not in later or value}

    def sites(self) -> Iterator[tuple[str, int, list[int]]]:
        """Every sliced dimension: tensor, dimension, kept indices. PlanError for one that is no number."""
        for tensor, dims in self.tensors.items():
            for dim, indices in dims.items():
                # One spelling each: '00' beside '0' would slice a dimension twice.
                if not re.fullmatch("0|[1-9][0-9]?", dim):
                    raise PlanError(f"plan: dimensions of '{tensor}' must be numbers like '0', got '{dim}'.")
                yield tensor, int(dim), indices


def make_plan(
    model: nn.Module,
    graph: ChannelGraph,
    point: Point,
    *,
    study: str,
    reconstruction: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan of one point of the front. `model` is the dense network that `graph` was found on."""
    # By items(): a point that was read from storage unpacks its channels on access.
    kept = {**graph.all_kept(), **dict(point.kept.items())}
    validate_kept(graph, kept)
    return Plan(
        study=study,
        trial=point.trial,
        model=class_name(model),
        widths=graph.widths,
        kept={name: indices.tolist() for name, indices in kept.items()},
        tensors=_kept_indices(model, graph, kept),
        attributes=graph.sizes(kept),
        result=Result(**{name: getattr(point, name) for name in Result.model_fields}),
        versions=versions(),
        reconstruction=dict(reconstruction or {}),
    )


def class_name(model: nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _kept_indices(model: nn.Module, graph: ChannelGraph, kept: Kept) -> dict[str, dict[str, list[int]]]:
    """Only the dimensions that lose something."""
    state = named_state(model)
    tensors: dict[str, dict[str, list[int]]] = {}
    for (name, dim), members in member_sites(graph).items():
        size = state[name].shape[dim]
        index = positions_kept(size, members, kept)
        if len(index) < size:
            tensors.setdefault(name, {})[str(dim)] = index.tolist()
    return tensors
