"""Trial after trial: ask the strategy, project onto the budget, build, measure, store."""

from __future__ import annotations

import time
from typing import Protocol

import optuna
from optuna import Study, Trial

from autoprune.errors import AutopruneError
from autoprune.graph import ChannelGraph, CostModel
from autoprune.graph.groups import Kept
from autoprune.progress import Progress, Stage
from autoprune.searching import attributes as attr
from autoprune.searching.allocate import project
from autoprune.searching.evaluator import Evaluator, Measurement
from autoprune.searching.options import Options, Task
from autoprune.searching.parameters import BATCH_REMOVAL, distributions, to_counts
from autoprune.searching.profile import Profile
from autoprune.searching.recovering import Record, Recoverer
from autoprune.searching.space import Space
from autoprune.searching.strategies import Strategy
from autoprune.searching.study import finished, front_of, sweep_dead, worker_name
from autoprune.training.recovery import Trained
from autoprune.versions import versions


class Parts(Protocol):
    """What a run takes from the engine: the stages of one task, each made when first asked for."""

    task: Task
    options: Options
    progress: Progress

    @property
    def graph(self) -> ChannelGraph: ...

    @property
    def cost(self) -> CostModel: ...

    @property
    def space(self) -> Space: ...

    @property
    def profile(self) -> Profile: ...

    @property
    def evaluator(self) -> Evaluator: ...

    @property
    def strategy(self) -> Strategy: ...

    @property
    def recoverer(self) -> Recoverer: ...

    def trained(self, number: int) -> Trained | None: ...


class Run:
    """One process at work on a study."""

    def __init__(self, engine: Parts, study: Study) -> None:
        self.engine, self.study = engine, study

    def to(self, total: int, timeout: float | None) -> None:
        """Go on until the study has `total` finished trials, or until `timeout` seconds are over."""
        end = None if timeout is None else time.monotonic() + timeout
        sweep_dead(self.study)
        done = len(finished(self.study))
        if done >= total:
            return
        self._begin()
        with self.engine.progress.stage("search", total) as stage:
            stage.advance(done, self._note())
            while not self._over(total, end):
                self._trial(stage)

    def _begin(self) -> None:
        """Queue the warm start once; a run that was cut short while doing so completes it."""
        if len(finished(self.study)) == 0:
            for parameters in self.engine.strategy.warm_start():
                self.study.enqueue_trial(parameters, skip_if_exists=True)

    def _over(self, total: int, end: float | None) -> bool:
        trials = finished(self.study)
        late = end is not None and time.monotonic() >= end
        return late or len(trials) >= total or self.engine.strategy.done(trials)

    def _trial(self, stage: Stage) -> None:
        self.study.sampler = self.engine.strategy.sampler(len(finished(self.study)))
        trial = self.study.ask(distributions(self.engine.space, self.engine.options.batch_removal))
        trial.set_user_attr(attr.WORKER, worker_name())
        if tried := self.engine.strategy.tried(trial.number):
            trial.set_user_attr(attr.TRIED, tried)
        try:
            self._evaluate(trial)
        except AutopruneError:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        stage.advance(1, self._note())

    def _evaluate(self, trial: Trial) -> None:
        engine, batch = self.engine, int(trial.params[BATCH_REMOVAL])
        curves = engine.profile.curves(engine.space.names, batch)
        counts = project(engine.space, curves, to_counts(engine.space, trial.params))
        proposed = engine.profile.kept(engine.space.widths(counts), batch)
        costs = {name: int(value[0]) for name, value in engine.space.costs(counts[None]).items()}
        trial.set_user_attr(attr.PROXIES, engine.strategy.proxies(counts, batch))
        kept, measured, trained = self._measured(trial, proposed, costs["macs"])
        record = {attr.COSTS: costs, attr.BATCH: batch, **self._record(kept, measured), **trained}
        for name, value in record.items():
            trial.set_user_attr(name, value)
        self.study.tell(trial, [measured.accuracy, costs["macs"] / engine.cost.dense_macs])

    def _record(self, kept: Kept, measured: Measurement) -> Record:
        """What makes the trial reproducible from storage alone."""
        engine = self.engine
        origin = {**engine.task.fingerprints, "seed": engine.options.seed, "versions": versions()}
        return {
            attr.WIDTHS: {name: len(channels) for name, channels in kept.items()},
            attr.KEPT: attr.pack_all(kept, engine.graph.widths),
            attr.BEFORE: measured.accuracy_before_reconstruction,
            attr.OUTPUT_ERROR: measured.output_error,
            attr.CRITERION: engine.options.criterion,
            attr.PROVENANCE: origin,
        }

    def _measured(self, trial: Trial, kept: Kept, macs: int) -> tuple[Kept, Measurement, Record]:
        """A candidate restored or trained: its channels, what was measured, what names its artifacts."""

        def joins(accuracy: float) -> bool:
            return front_of(self.study).takes(accuracy, macs)

        if not self.engine.options.trains:
            return kept, self.engine.evaluator.measure(kept, joins), {}
        parent = self.engine.strategy.parent(finished(self.study))
        start = None if parent is None else self.engine.trained(parent)
        trained, record = self.engine.recoverer.recover(trial, kept, start)
        measured = self.engine.evaluator.measure_trained(trained.network, trained.kept, joins)
        return trained.kept, measured, record

    def _note(self) -> str:
        """Best point so far, for the progress bar."""
        front = front_of(self.study)
        half = [point for point in front.trials if point.macs_ratio <= 0.5]
        chosen = max(half or front.trials, key=lambda point: point.accuracy, default=None)
        return "" if chosen is None else f"{chosen.accuracy:.1%} at {chosen.macs_ratio:.0%} MACs"
