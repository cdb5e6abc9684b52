"""Recoveries: training that follows pruning inside a search, and what a trained candidate is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from autoprune.components import Component
from autoprune.config import TrainingConfig
from autoprune.graph.groups import ChannelGraph, Kept
from autoprune.progress import Progress
from autoprune.registry import Registry
from autoprune.training.data import TrainingData
from autoprune.training.history import History
from autoprune.training.recording import train_recorded


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A pruned network, the dense channels that it has, and the norms of its filters while it was trained."""

    network: nn.Module
    kept: Kept
    history: History | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One candidate to recover. Nothing here may be changed.

    `model` is the dense network and `graph` its groups; `kept` are the proposed channels, of every group.
    `restored(kept)` makes a network of its own, reconstructed in closed form, for any channels.
    `parent` is the trained candidate that the strategy continues from, where it names one. `history()` is
    that of the dense network's training, read or recorded when first asked for. `metric` is the search's,
    higher is better. `seed` follows from the study's and the candidate, so a trial is reproducible.
    """

    model: nn.Module
    graph: ChannelGraph
    kept: Kept
    restored: Callable[[Kept], nn.Module]
    parent: Trained | None
    history: Callable[[], History]
    data: TrainingData
    settings: TrainingConfig
    metric: Callable[[nn.Module], float]
    seed: int
    progress: Progress

    def train(self, network: nn.Module, title: str) -> History:
        """Train `network` in place as [training] says, to its best epoch; the norms of its filters."""
        return train_recorded(
            network,
            self.graph,
            data=self.data,
            settings=self.settings,
            teacher=self.model,
            seed=self.seed,
            progress=self.progress,
            title=title,
            metric=self.metric,
        )


class Recovery(Component, ABC):
    """Trains a candidate. Options are the fields of its dataclass; [training] says how it trains."""

    trains: ClassVar[bool] = True
    """Whether it changes weights by training; a search in which nothing does needs no training images."""
    needs_history: ClassVar[bool] = False
    """Whether it reads the history of the dense network's training."""

    @property
    def needs_parent(self) -> bool:
        """Whether it is meant for strategies that continue from the trial before."""
        return False

    @abstractmethod
    def recover(self, job: Job) -> Trained:
        """The trained candidate; it may have other channels than proposed, but as many in every group."""


recoveries: Registry[type[Recovery]] = Registry("recovery")


@recoveries.register("none")
class NoRecovery(Recovery):
    """No training: the reconstructed candidate is the result."""

    trains = False

    def recover(self, job: Job) -> Trained:
        return Trained(network=job.restored(job.kept), kept=job.kept, history=None)
