"""Measure a network of a study: its metric on one split, and costs counted on the network itself."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from autoprune.graph import count_macs
from autoprune.plan import load

if TYPE_CHECKING:
    from autoprune.session import Session


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The study's `metric` on so many images of a split, higher is better; MACs for one input."""

    metric: str
    accuracy: float
    images: int
    split: str
    macs: int
    params: int

    def to_json(self) -> dict[str, Any]:
        """What `evaluate --json` prints."""
        return asdict(self)


def evaluate_saved(session: Session, plan: str | Path | None, split: str) -> Evaluation:
    """The network saved in a folder, or the dense one for None, on `split` (validation or test)."""
    # The copy is the fresh instance: the session keeps its dense network.
    network = session.model if plan is None else load(copy.deepcopy(session.model), plan)
    return evaluate_network(session, network, split)


def evaluate_network(session: Session, network: nn.Module, split: str) -> Evaluation:
    accuracy, images = session.evaluate(network, split)
    example = session.example()
    return Evaluation(
        metric=session.metric.name,
        accuracy=accuracy,
        images=images,
        split=split,
        macs=count_macs(network, example.args, example.kwargs),
        params=sum(parameter.numel() for parameter in network.parameters()),
    )
