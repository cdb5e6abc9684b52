"""Recovery as in HBFP: make redundant pairs more alike, remove one of each, retrain.

Basha et al., Neurocomputing 2024 (arXiv 2102.00160).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from autoprune.errors import ConfigError
from autoprune.graph.groups import ChannelGraph, Kept
from autoprune.graph.reslicing import reslice
from autoprune.graph.slicing import Slicer
from autoprune.training.history import History
from autoprune.training.pairs import GroupNorms, Pairs, Remove, closest_pairs, pair_distance
from autoprune.training.recording import for_epochs, train_recorded
from autoprune.training.recovery import Job, Recovery, Trained, recoveries


@recoveries.register("history")
@dataclass(frozen=True, kw_only=True)
class HistoryRecovery(Recovery):
    """HBFP's iteration: makes channels of like history more alike, removes one of each pair, retrains.

    Of a proposal only the widths count; the channels follow from the history of the parent trial's
    training, or of the dense network's. `regulariser` weighs the pairs' distance against the loss over
    `regularise_epochs`; then [training] retrains, and records the next history. Readings: the regulariser
    is the mean over pairs of the difference of their L1 norms relative to their group's mean norm; pairs do
    not overlap with channels already gone; who goes is decided before the optimisation.
    """

    regularise_epochs: Annotated[int, Field(ge=0)] = 1
    regulariser: Annotated[float, Field(ge=0)] = 1.0
    remove: Remove = "smaller"

    needs_history = True
    citation = "Basha et al., Neurocomputing 2024 (HBFP)"

    def recover(self, job: Job) -> Trained:
        start = _start(job)
        norms = GroupNorms(job.graph, start.kept)
        assert start.history is not None
        pairs = self._pairs(job, start.kept, start.history, norms)
        if pairs and self.regularise_epochs:
            self._regularise(job, start.network, norms, pairs)
        kept = without(start.kept, pairs)
        network = reslice(job.model, job.graph, start.network, start.kept, kept)
        return Trained(network=network, kept=kept, history=job.train(network, "retrain"))

    def _pairs(self, job: Job, kept: Kept, history: History, norms: GroupNorms) -> dict[str, Pairs]:
        """As many pairs of each group as the proposal takes channels away."""
        found: dict[str, Pairs] = {}
        for group in job.graph.groups:
            count = len(kept[group.name]) - len(job.kept[group.name])
            if count < 0:
                raise ConfigError(
                    f"recovery 'history' cannot widen group '{group.name}' from {len(kept[group.name])} to "
                    f"{len(job.kept[group.name])} channels; search with strategy 'history'."
                )
            if count > 0:
                found[group.name] = closest_pairs(norms.of_history(history, group), count, self.remove)
        return found

    def _regularise(
        self, job: Job, network: nn.Module, norms: GroupNorms, pairs: Mapping[str, Pairs]
    ) -> None:
        train_recorded(
            network,
            job.graph,
            data=job.data,
            settings=for_epochs(job.settings, self.regularise_epochs),
            teacher=job.model,
            seed=job.seed + 1,
            progress=job.progress,
            title="make pairs alike",
            extra_loss=lambda current: self.regulariser * pair_distance(norms, current, pairs),
        )


def without(kept: Kept, pairs: Mapping[str, Pairs]) -> dict[str, Tensor]:
    """The channels that stay when one of each pair is gone."""
    left = dict(kept)
    for name, pair in pairs.items():
        stays = torch.ones(len(left[name]), dtype=torch.bool)
        stays[pair.gone] = False
        left[name] = left[name][stays]
    return left


def _start(job: Job) -> Trained:
    """A copy of the parent, or of the dense network; both with the history to judge them by."""
    if job.parent is not None and job.parent.history is not None:
        kept = {**job.graph.all_kept(), **job.parent.kept}
        network = reslice(job.model, job.graph, job.parent.network, kept, kept)
        history = job.parent.history.check(network, job.graph, "the history of the parent trial")
        return Trained(network=network, kept=kept, history=history)
    kept = job.graph.all_kept()
    return Trained(network=_copy(job.model, job.graph), kept=kept, history=job.history())


def _copy(model: nn.Module, graph: ChannelGraph) -> nn.Module:
    return Slicer(model, graph).build(graph.all_kept())
