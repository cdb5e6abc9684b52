"""The workshop: what strategies may ask of the network, built from the engine's parts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from optuna import Study
from torch import nn

from autoprune.criteria import group_view
from autoprune.criteria.dispersion import kernel_dispersion
from autoprune.data.inputs import Inputs
from autoprune.data.labelled import Labelled
from autoprune.graph.groups import Kept
from autoprune.progress import Progress
from autoprune.reconstruction.base import Bench
from autoprune.searching import attributes as attr
from autoprune.searching.evaluator import Evaluator, Metric, NotFinite, checked
from autoprune.searching.gradients import measure_gradients, rebatched
from autoprune.searching.metrics import Accuracy, LabelledMetric, scale_of
from autoprune.searching.outputs import OutputError
from autoprune.searching.profile import Profile
from autoprune.searching.strategies.base import Gradients, Measure, OnFew, Split

REMEMBERED = 128
"""Judgements on few images that are kept for whoever asks again: more than a proposal looks at."""
NOTES = "autoprune.notes."
"""Prefix of the study's attributes that strategies wrote."""


@dataclass(frozen=True, kw_only=True)
class BenchWorkshop:
    """Answers strategies on one calibrated network.

    `evaluator()` restores the candidates that are assessed, the quick way; `rung()` judges others as the
    study does it, on few images. `probe(images)` are images the
    metric runs on, `labelled(images)` batches of labelled ones for gradients. `trial(number)` gives a
    finished trial's network, as a copy of its own, and its kept channels.
    """

    bench: Bench
    metric: Metric
    evaluator: Callable[[], Evaluator]
    rung: Callable[[], Evaluator]
    profile: Profile
    probe: Callable[[int], Sequence[Inputs]]
    labelled: Callable[[int], Sequence[Labelled]]
    trial: Callable[[int], tuple[nn.Module, Kept]]
    study: Callable[[], Study]
    seed: int
    progress: Progress
    _judges: dict[tuple[Measure, int], Callable[[nn.Module], float]] = field(default_factory=dict, init=False)
    _few: dict[tuple[int, tuple[int, ...]], OnFew] = field(default_factory=dict, init=False)
    _gradients: dict[tuple[int | None, Split, int], Gradients] = field(default_factory=dict, init=False)

    @property
    def dense_accuracy(self) -> float:
        return float(self.study().user_attrs[attr.DENSE]["accuracy"])

    @property
    def floor(self) -> float | None:
        return scale_of(self.metric).floor

    def assess(self, widths: Mapping[str, int], batch: int, measure: Measure, images: int) -> float:
        kept = self.profile.kept(widths, batch)
        return self._judge(measure, images)(self._evaluator.restored(kept))

    def on_few(self, widths: Mapping[str, int], batch: int) -> OnFew:
        key = (batch, tuple(widths.values()))
        if key not in self._few:
            self._few[key] = OnFew(*self.rung().judged(self.profile.kept(widths, batch)))
        found = self._few[key]
        # What a proposal measured is asked for again when the trial is evaluated, and later no more.
        while len(self._few) > REMEMBERED:
            del self._few[next(iter(self._few))]
        return found

    def dispersion(self, group: str) -> float:
        bench = self.bench
        view = group_view(bench.model, bench.graph, bench.statistics, bench.graph[group], self.seed)
        return kernel_dispersion(view.filters)

    def gradients(self, trial: int | None, split: Split, images: int) -> Gradients:
        key = (trial, split, images)
        if key not in self._gradients:
            network, kept = self._network(trial)
            bench, batches = self.bench, rebatched(self._labelled(split, images))
            self._gradients[key] = measure_gradients(bench.model, bench.graph, network, kept, batches)
        return self._gradients[key]

    def remember(self, key: str, value: Any) -> None:
        self.study().set_user_attr(NOTES + key, value)

    def recall(self, key: str) -> Any:
        return self.study().user_attrs.get(NOTES + key)

    def _labelled(self, split: Split, images: int) -> Sequence[Labelled]:
        if split == "train":
            return self.labelled(images)
        assert isinstance(self.metric, Accuracy), "strategies that need labels are refused without"
        return self.metric.first(images).batches

    def _network(self, trial: int | None) -> tuple[nn.Module, Kept]:
        if trial is None:
            return copy.deepcopy(self.bench.model), self.bench.graph.all_kept()
        return self.trial(trial)

    @cached_property
    def _evaluator(self) -> Evaluator:
        return self.evaluator()

    def _judge(self, measure: Measure, images: int) -> Callable[[nn.Module], float]:
        if (measure, images) not in self._judges:
            self._judges[measure, images] = self._new_judge(measure, images)
        return self._judges[measure, images]

    def _new_judge(self, measure: Measure, images: int) -> Callable[[nn.Module], float]:
        if measure == "last-layer-error":
            return OutputError(self.bench.model, self.probe(images))
        metric = self.metric.first(images) if isinstance(self.metric, LabelledMetric) else self.metric

        def lost(network: nn.Module) -> float:
            try:
                return 1.0 - checked(metric(network))
            except NotFinite:
                return math.inf

        return lost
