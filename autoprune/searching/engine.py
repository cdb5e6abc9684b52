"""The whole line for one network: groups, cost, statistics, profile, trials, front."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from optuna import Study
from optuna.storages import BaseStorage, InMemoryStorage
from torch import nn

from autoprune.components import create
from autoprune.criteria import Criterion, criteria
from autoprune.data.inputs import Inputs, leading
from autoprune.data.labelled import Labelled
from autoprune.data.types import check_types
from autoprune.errors import ConfigError
from autoprune.graph import ChannelGraph, CostModel, verified_graph
from autoprune.graph.groups import Kept
from autoprune.graph.patterns import caps_of, check_patterns
from autoprune.latency import Timer, Timing
from autoprune.latency.shapes import LayerShapes
from autoprune.latency.table import LatencyModel, Table
from autoprune.progress import Progress, Silent
from autoprune.reconstruction import Bench, Reconstruction, reconstructions
from autoprune.searching.calibrating import Calibration, rechunked
from autoprune.searching.continuing import compare_dense
from autoprune.searching.dense import DenseNetwork
from autoprune.searching.evaluator import Evaluator
from autoprune.searching.front import Front, Point
from autoprune.searching.gradients import self_labelled, true_labelled
from autoprune.searching.judged_by import check_labels
from autoprune.searching.ladder import Ladder
from autoprune.searching.learning import Learning
from autoprune.searching.metrics import scale_of
from autoprune.searching.options import Options, Task
from autoprune.searching.profile import Profile, make_profile
from autoprune.searching.recovering import load_trained
from autoprune.searching.running import Run, never
from autoprune.searching.sharing import Sharing, shared_profile, shared_table
from autoprune.searching.space import Space, make_space
from autoprune.searching.stopwatch import Stopwatch
from autoprune.searching.stored import read_place
from autoprune.searching.strategies import Problem, Strategy, strategies
from autoprune.searching.study import finished, front_of, open_study
from autoprune.searching.workshop import BenchWorkshop
from autoprune.storing.artifacts import Artifacts, artifacts_of
from autoprune.storing.stopping import stop_count
from autoprune.storing.storages import open_storage
from autoprune.tensors import in_own_precision
from autoprune.training.recoveries import Trained
from autoprune.versions import versions

__all__ = ["Engine", "Options", "Task"]


class Engine:
    """Searches one task. Each stage is computed when first needed, and only then."""

    def __init__(
        self,
        task: Task,
        options: Options,
        storage: str | BaseStorage | None = None,
        progress: Progress | None = None,
        artifacts: Artifacts | None = None,
        make_timing: Callable[[Inputs, int], Timing] = Timer,
    ) -> None:
        options.check_names()
        check_labels(options.strategy, task.metric)
        self.task = replace(task, chunks=rechunked(task.chunks, task.model)).laid_out()
        self.options, self.progress = options, progress or Silent()
        self._make_timing = make_timing
        self._others: dict[tuple[str, str], Engine] = {}
        self.artifacts = artifacts or artifacts_of(storage)
        # Requests to stop that there were when the preparation of a search began.
        self.stops: int | None = None
        self.storage = storage if isinstance(storage, BaseStorage) else open_storage(storage)

    @in_own_precision
    def check(self) -> None:
        """AutopruneError for what can be known before long work: inputs, groups, budget, training data,
        artifacts."""
        self.check_inputs()
        strategies[self.options.strategy].check(self.space, self.options.strategy_options)
        self.learning.check()

    @in_own_precision
    def check_inputs(self) -> None:
        """AutopruneError where the model cannot read what calibrates it: all that must be right where nothing
        is searched."""
        check_types(self.task.model, self.example)

    @cached_property
    def graph(self) -> ChannelGraph:
        example = self.example
        check_patterns("ignore", self.options.ignore, self.task.model)
        return verified_graph(self.task.model, example.args, example.kwargs, ignore=self.options.ignore)

    @property
    def example(self) -> Inputs:
        return self.task.chunks[0].take(1)

    @cached_property
    def cost(self) -> CostModel:
        return CostModel(self.task.model, self.graph, self.example.args, self.example.kwargs)

    @cached_property
    def space(self) -> Space:
        options = self.options
        return make_space(
            self.graph,
            self.cost,
            min_kept=options.min_kept,
            multiple_of=options.multiple_of,
            budget=options.budget,
            caps=caps_of(self.graph, options.caps),
            objective=options.objective,
            latencies=(lambda counts: self.latency.safe(counts)) if options.timed else None,
        )

    @cached_property
    def latency(self) -> LatencyModel:
        """Predicts the latency of candidates; measures the table first, where the study has none."""
        place = read_place(self.study)
        depends = {"device": place.device, "threads": place.threads, "torch": torch.__version__}
        table = self.sharing.get(shared_table(self._table, len(self.graph.layers), **depends))
        return LatencyModel(LayerShapes(self.graph), table)

    def _table(self) -> Table:
        return self.stopwatch.table(self.space)

    @cached_property
    def dense(self) -> DenseNetwork:
        return DenseNetwork(
            task=self.task,
            cost=lambda: self.cost,
            latency=(lambda: self.stopwatch.dense(self.space)) if self.options.timed else None,
        )

    @cached_property
    def stopwatch(self) -> Stopwatch:
        return Stopwatch(
            task=self.task,
            options=self.options,
            graph=self.graph,
            make_timing=self._make_timing,
            stored=lambda: read_place(self.study),
            progress=self.progress,
        )

    @cached_property
    def bench(self) -> Bench:
        calibration = Calibration(
            task=self.task,
            graph=self.graph,
            damping=self.options.damping,
            sharing=self.sharing,
            progress=self.progress,
        )
        in_trials = self.reconstruction.needs_images or strategies[self.options.strategy].assesses
        # Without second moments nothing below can look at images by mistake.
        return calibration.bench(looks=not self.data_free, in_trials=in_trials)

    @cached_property
    def sharing(self) -> Sharing:
        """What the workers of the study make once for all."""
        return Sharing(self.storage, lambda: self.study, self.artifacts, self.progress)

    @cached_property
    def learning(self) -> Learning:
        return Learning(
            task=self.task,
            options=self.options,
            graph=self.graph,
            study=lambda: self.study,
            artifacts=self.artifacts,
            restored=lambda kept: self.evaluator.build(kept),
            progress=self.progress,
        )

    @cached_property
    def reconstruction(self) -> Reconstruction:
        options = self.options
        return create(reconstructions, options.reconstruction, options.reconstruction_options)

    @cached_property
    def criterion(self) -> Criterion:
        return create(criteria, self.options.criterion, self.options.criterion_options)

    @property
    def data_free(self) -> bool:
        """Nothing that chooses channels or restores weights looks at an image."""
        return not (self.criterion.needs_images or self.reconstruction.needs_images)

    @cached_property
    def ladder(self) -> Ladder:
        return Ladder(
            task=self.task,
            bench=self.bench,
            reconstruction=self.reconstruction,
            batch_norm=self.options.batch_norm,
            data_free=self.data_free,
            dense_macs=self.cost.dense_macs,
            latency=(lambda network: self.stopwatch.timing.whole(network)) if self.options.timed else None,
        )

    @cached_property
    def evaluator(self) -> Evaluator:
        return self.ladder.measuring()

    @cached_property
    def rung(self) -> Evaluator:
        """The rung below the measurement of a trial."""
        return self.ladder.below()

    @cached_property
    def profile(self) -> Profile:
        options, task = self.options, self.task
        return self.sharing.get(
            shared_profile(
                self._profiled,
                self.graph.widths,
                options.batch_removal,
                seed=options.seed,
                images=[sum(inputs.size for inputs in part) for part in (task.chunks, task.probe)],
                history=self.learning.history.fingerprint if self.criterion.needs_history else None,
            )
        )

    def _profiled(self) -> Profile:
        groups, judge = len(self.graph.groups), self.ladder.profiling()
        # Made now, so that calibration is a stage before this one.
        _ = len(self.bench.statistics.moments)
        with self.progress.stage("profile", groups) as stage:
            return make_profile(
                self.bench,
                self.criterion,
                self.options.batch_removal,
                judge.error,
                seed=self.options.seed,
                history=self.learning.history.norms if self.criterion.needs_history else None,
                progress=stage.advance,
            )

    @cached_property
    def strategy(self) -> Strategy:
        options = self.options
        problem = Problem(self.space, self.profile, tuple(options.batch_removal), options.seed, self.workshop)
        return create(strategies, options.strategy, options.strategy_options, problem=problem)

    @cached_property
    def workshop(self) -> BenchWorkshop:
        return BenchWorkshop(
            bench=self.bench,
            metric=self.task.metric,
            evaluator=self.ladder.quick,
            rung=lambda: self.rung,
            profile=self.profile,
            probe=lambda images: leading(self.task.probe, images),
            labelled=self._labelled,
            trial=self._finished,
            study=lambda: self.study,
            seed=self.options.seed,
            progress=self.progress,
        )

    @cached_property
    def study(self) -> Study:
        """Created if absent; the dense network is measured then."""
        _ = self.space
        identity = {
            **self.task.identity(),
            **self.options.identity(),
            **self.learning.identity(),
            "groups": self.graph.widths,
        }
        return open_study(
            self.storage,
            self.task.name,
            identity=identity,
            dense=self.dense.measure,
            dense_widths=self.graph.widths,
            versions=versions(),
            frozen=[{"name": f.name, "width": f.width, "reason": f.reason} for f in self.graph.frozen],
            metric=scale_of(self.task.metric),
            say=self.progress.message,
            timed_on=self.stopwatch.here() if self.options.timed else None,
        )

    @in_own_precision
    def prepare(self) -> Study:
        """The study, with what its workers share made already: curves and the candidates it starts with.

        Nothing is made for a study that has all its trials.
        """
        self.check()
        self.sharing.active = True
        self.stops = stop_count(self.study)
        if len(finished(self.study)) < self.options.trials:
            if self.options.timed:
                self.stopwatch.check(self.space)
            _ = self.profile
            Run(self, self.study).start()
        return self.study

    @in_own_precision
    def search(
        self,
        trials: int | None = None,
        timeout: float | None = None,
        stop: Callable[[], bool] = never,
        run: str | None = None,
    ) -> Front:
        """Continue the study to `trials` finished trials in total, or until `timeout` seconds are over.

        `stop()` is asked between trials; `run` names the run for requests that come through the storage.
        """
        self.check()
        self.sharing.active = True
        # Whoever asks during the preparation is heard, but only once.
        since, self.stops = self.stops, None
        if since is None:
            since = stop_count(self.study)
        total = self.options.trials if trials is None else trials
        if 0 < len(finished(self.study)) < total:
            compare_dense(self.study, self.task.metric, self.dense.accuracy)
        if self.options.timed and len(finished(self.study)) < total:
            self.stopwatch.check(self.space)
        Run(self, self.study).to(total, timeout, stop, run, since)
        return self.front()

    def front(self) -> Front:
        """All finished trials; their points can be built."""
        front = front_of(self.study)
        return replace(front, trials=[replace(point, builder=self.build) for point in front.trials])

    @in_own_precision
    def build(self, point: Point) -> nn.Module:
        """The pruned network of a finished trial, restored in closed form or read as it was trained."""
        trained = self.trained(point.trial)
        return self.evaluator.build(dict(point.kept.items())) if trained is None else trained.network

    @in_own_precision
    def rebuild(self, point: Point, reconstruction: str, options: Mapping[str, Any]) -> nn.Module:
        """The point's channels restored in another way than the study's; ConfigError for a trained one."""
        if self.trained(point.trial) is not None:
            raise ConfigError(
                f"trial {point.trial} was trained by recovery '{self.options.recovery}', which another "
                "reconstruction would throw away; leave it out, or fine-tune the network further."
            )
        return self._restoring(reconstruction, options).evaluator.build(dict(point.kept.items()))

    def _restoring(self, reconstruction: str, options: Mapping[str, Any]) -> Engine:
        """One that restores in this way: kept, so that several points are restored after one calibration."""
        key = reconstruction, repr(sorted(options.items()))
        if key not in self._others:
            changed = replace(self.options, reconstruction=reconstruction, reconstruction_options=options)
            self._others[key] = Engine(self.task, changed, InMemoryStorage(), self.progress)
            self._others[key].__dict__["graph"] = self.graph
        return self._others[key]

    def trained(self, number: int) -> Trained | None:
        """The trained candidate of a finished trial; None where it was restored in closed form."""
        attributes = self.study.get_trials(deepcopy=False)[number].user_attrs
        return load_trained(self.artifacts, self.task.model, self.graph, number, attributes)

    def _labelled(self, images: int) -> Sequence[Labelled]:
        if self.task.training is not None:
            return true_labelled(self.task.training, images, self.task.device)
        return self_labelled(self.task.model, leading(self.task.chunks, images))

    def _finished(self, number: int) -> tuple[nn.Module, Kept]:
        point = next(point for point in self.front().trials if point.trial == number)
        return point.build(), dict(point.kept.items())
