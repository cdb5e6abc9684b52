"""What every contestant is given, and what it gives back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from autoprune.data.inputs import leading
from autoprune.data.labelled import Labelled
from autoprune.graph import ChannelGraph, Slicer, count_macs
from autoprune.graph.groups import Kept
from autoprune.reconstruction import Bench
from autoprune.reconstruction.remembering import RememberingIndependent
from autoprune.searching.evaluator import Evaluator
from autoprune.searching.gradients import true_labelled
from autoprune.searching.metrics import Accuracy
from autoprune.searching.outputs import OutputError
from autoprune.session import Session


class LeftOut(Exception):
    """A contestant cannot take part; the message is the reason that the report gives."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much work each contestant may do.

    `subset`: validation images of a judgement within AIMET's and AMC's search; `labelled`: training images
    for the gradients of Taylor and Hessian; `steps`: of an iterative pruner, from dense to nothing;
    `divisor`: widths that FastNAS may take are multiples of it.
    """

    trials: int = 20
    episodes: int = 100
    subset: int = 500
    labelled: int = 64
    steps: int = 100
    divisor: int = 4
    seed: int = 0


@dataclass
class Ring:
    """One network, one budget. Contestants see calibration images, validation, and a few labelled ones.

    `share` is the part of the dense MACs that may stay. `evaluations` counts judgements on validation
    images; `charged` are CPU seconds of work that an earlier budget did and this one uses again.
    """

    session: Session
    share: float
    settings: Settings
    memo: dict[str, tuple[Any, float, int]] = field(default_factory=dict)
    evaluations: int = 0
    charged: float = 0.0

    @property
    def model(self) -> nn.Module:
        return self.session.model

    @property
    def graph(self) -> ChannelGraph:
        return self.session.graph

    @property
    def bench(self) -> Bench:
        return self.session.engine.bench

    @property
    def limit(self) -> int:
        """Most MACs allowed for one input."""
        return int(self.share * self.session.engine.cost.dense_macs)

    @property
    def example(self) -> torch.Tensor:
        """One image, (1, channels, height, width); peers take a single tensor."""
        return self.session.example().tensors[0].contiguous()

    def macs(self, network: nn.Module) -> int:
        """Counted on the network itself, whoever pruned it."""
        example = self.session.example()
        return count_macs(network, example.args, example.kwargs)

    def fits(self, network: nn.Module) -> bool:
        return self.macs(network) <= self.limit

    def sliced(self, kept: Kept) -> nn.Module:
        return Slicer(self.model, self.graph).build(kept).eval()

    def accuracy(self, network: nn.Module) -> float:
        """On the first validation images, `settings.subset` of them; counted."""
        self.evaluations += 1
        return self._subset(network)

    @cached_property
    def _subset(self) -> Accuracy:
        metric = self.session.engine.task.metric
        assert isinstance(metric, Accuracy)
        return metric.first(self.settings.subset)

    @cached_property
    def quick(self) -> Evaluator:
        """Restores by independent least squares, and solves only what changed since the last candidate."""
        probe = leading(self.session.engine.task.probe, 16)
        error = OutputError(self.model, probe)
        return Evaluator(self.bench, RememberingIndependent(), self.accuracy, error)

    def calibration_images(self) -> torch.Tensor:
        return torch.cat([chunk.tensors[0] for chunk in self.bench.chunks]).contiguous()

    def labelled(self) -> list[Labelled]:
        """The same few training images each time, with their classes."""
        task = self.session.engine.task
        if task.training is None:
            raise LeftOut("needs labelled training images, and the dataset has none")
        return true_labelled(task.training, self.settings.labelled, task.device)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What does not depend on the budget: made for the first, charged to all."""
        if name in self.memo:
            value, seconds, evaluations = self.memo[name]
            self.charged += seconds
            self.evaluations += evaluations
            return value
        start, before = time.process_time(), self.evaluations
        value = make()
        self.memo[name] = (value, time.process_time() - start, self.evaluations - before)
        return value


@dataclass(frozen=True)
class Choice:
    """A pruned network as its contestant leaves it; `kept` are its channels in autoprune's groups.

    Where `kept` is None, `why` says why the channels cannot be told.
    """

    network: nn.Module
    kept: Kept | None = None
    why: str = "the choice of channels is not reported by the package"


@dataclass(frozen=True)
class Contestant:
    """`choose` prunes to the ring's budget; each restoration of the choice is a row of its own."""

    name: str
    choose: Callable[[Ring], Choice]
    restorations: tuple[str, ...] = ("its own",)
