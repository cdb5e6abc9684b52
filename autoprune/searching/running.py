"""Trial after trial: ask the strategy, project onto the budget, build, measure, store."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from optuna import Study, Trial
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from autoprune.errors import DataError, StudyError
from autoprune.graph import ChannelGraph, CostModel
from autoprune.graph.groups import Kept
from autoprune.latency import Latency
from autoprune.latency.table import LatencyModel
from autoprune.progress import Progress, Stage
from autoprune.searching import attributes as attr
from autoprune.searching.allocate import project
from autoprune.searching.evaluator import Evaluator, Measurement, NotFinite
from autoprune.searching.front import UNITS
from autoprune.searching.learning import Learning
from autoprune.searching.options import Options, Task
from autoprune.searching.parameters import BATCH_REMOVAL, distributions, to_counts
from autoprune.searching.profile import Profile
from autoprune.searching.recovering import Record
from autoprune.searching.space import Space, by_name
from autoprune.searching.strategies import Strategy
from autoprune.searching.study import finished, front_of
from autoprune.storing.claims import Claims
from autoprune.storing.marks import BROKEN, ERROR, WARM_START
from autoprune.storing.pulses import INTERVAL, pulse
from autoprune.storing.queueing import broken, is_queued, missing, queue_once, rank, suggest, take
from autoprune.storing.stopping import StopRequests
from autoprune.storing.sweeping import Sweeper
from autoprune.storing.workers import new_worker
from autoprune.training.loop import Diverged
from autoprune.training.recovery import Trained
from autoprune.versions import versions

_PAUSE = 0.3
"""Seconds between two looks at what other workers do."""
_MOST_BROKEN = 2
"""Candidates that cannot be measured for each one that can, and at the start, before they end a search: one
has itself to blame, so many the network or the data."""

_log = logging.getLogger(__name__)


def never() -> bool:
    return False


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
    def latency(self) -> LatencyModel: ...

    @property
    def profile(self) -> Profile: ...

    @property
    def evaluator(self) -> Evaluator: ...

    @property
    def strategy(self) -> Strategy: ...

    @property
    def learning(self) -> Learning: ...

    def trained(self, number: int) -> Trained | None: ...


class Run:
    """One worker on a study; others, in this process or elsewhere, may be at work on the same one."""

    def __init__(self, engine: Parts, study: Study) -> None:
        self.engine, self.study = engine, study
        self._parameters = distributions(engine.space, engine.options.batch_removal)
        self._sweeper = Sweeper(study, self._parameters.keys(), carry=(attr.TRIED,))

    def to(
        self,
        total: int,
        timeout: float | None,
        stop: Callable[[], bool] = never,
        run: str | None = None,
        since: int | None = None,
    ) -> None:
        """Go on until the study has `total` finished trials, `timeout` seconds are over, or it is stopped.

        Stopped by `stop()`, asked between trials, or by a request in the storage, see `StopRequests`.
        """
        end = None if timeout is None else time.monotonic() + timeout
        requests = StopRequests(self.study, run, since)
        with new_worker() as worker:
            self._sweeper.sweep()
            if len(finished(self.study)) >= total:
                return
            self.start()
            self._work(worker, total, lambda: stop() or requests.asked() or _late(end))
        if broken(self.study) and not finished(self.study) and self._complete(total):
            raise DataError("no candidate can be measured; look at the network and the metric.")

    def start(self) -> None:
        """Queue the candidates that the study starts with, unless they have been."""

        def queued() -> bool:
            return WARM_START in self.study.user_attrs

        claims = Claims(self.study, self.engine.progress.message)
        with claims.turn(WARM_START, "the first candidates", queued) as mine:
            if mine:
                queue_once(self.study, self.engine.strategy.warm_start())

    def _work(self, worker: str, total: int, ended: Callable[[], bool]) -> None:
        shown, swept = 0, time.monotonic()
        with self.engine.progress.stage("search", total) as stage:
            while True:
                shown = show_finished(self.study, stage, shown)
                if self._complete(total) or ended():
                    return
                if time.monotonic() - swept > INTERVAL:
                    self._sweeper.sweep()
                    swept = time.monotonic()
                if self._busy_elsewhere(total) or not self._trial(worker, total):
                    # At random, so that workers that came at the same time do not do so again.
                    time.sleep(_PAUSE * (0.5 + random.random()))

    def _complete(self, total: int) -> bool:
        trials = finished(self.study)
        return len(trials) >= total or self._done(trials)

    def _done(self, trials: Sequence[FrozenTrial]) -> bool:
        strategy = self.engine.strategy
        # What cannot be measured is no candidate any more; a strategy that goes on from the last trial needs
        # one that was.
        return strategy.done(trials if strategy.one_at_a_time else [*trials, *broken(self.study)])

    def _busy_elsewhere(self, total: int) -> bool:
        """Whether others work on all that is left; should they die, this worker takes over."""
        if missing(self.study, total)[1] <= 0:
            return True
        if self.engine.strategy.one_at_a_time:
            return bool(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        states = (TrialState.COMPLETE, TrialState.RUNNING)
        return self._done(self.study.get_trials(deepcopy=False, states=states))

    def _trial(self, worker: str, total: int) -> bool:
        """Take and evaluate a trial; whether there was one."""
        trial_id = take(self.study, worker, total)
        if trial_id is None:
            return False
        self.study.sampler = self.engine.strategy.sampler(rank(self.study, trial_id))
        trial = Trial(self.study, trial_id)
        try:
            with pulse(self.study._storage, trial_id):
                self._propose(trial)
                self._evaluate(trial)
        except UpdateFinishedTrialError:
            _warn_of_repetition(trial)
        except (NotFinite, Diverged) as error:
            self._give_up(trial, error)
        except StudyError:
            # The storage itself may be the trouble; the next sweep finds the trial.
            raise
        except Exception as error:
            self._fail(trial, ERROR, f"{type(error).__name__}: {error}"[:500])
            if isinstance(error, DataError):
                raise DataError(f"trial {trial.number}: {error}") from error
            raise
        return True

    def _give_up(self, trial: Trial, error: NotFinite | Diverged) -> None:
        """Of a candidate that cannot be measured or trained; DataError where nothing follows it, or too many
        are so."""
        self._fail(trial, BROKEN, str(error))
        lost, measured = len(broken(self.study)), len(finished(self.study))
        if self.engine.strategy.one_at_a_time:
            raise DataError(
                f"trial {trial.number} cannot be measured: {error} The strategy goes on from the candidate "
                "before and so ends here; look at the network and the metric, or ask for less pruning."
            ) from error
        if lost > _MOST_BROKEN * (measured + 1):
            raise DataError(
                f"{lost} of {lost + measured} candidates cannot be measured, trial {trial.number} the last: "
                f"{error} Look at the network and the metric, or ask for less pruning."
            ) from error
        _log.warning("trial %d cannot be measured and is left out: %s", trial.number, error)

    def _fail(self, trial: Trial, mark: str, why: str) -> None:
        try:
            trial.set_user_attr(mark, why)
            self.study.tell(trial, state=TrialState.FAIL)
        except UpdateFinishedTrialError:
            _warn_of_repetition(trial)

    def _propose(self, trial: Trial) -> None:
        """Parameters from the queue or the sampler. What was considered beside them is stored first: a
        trial that is cut short later and repeated then knows it too."""
        if not is_queued(trial):
            _ = trial.relative_params
            if tried := self.engine.strategy.tried(trial.number):
                trial.set_user_attr(attr.TRIED, tried)
        suggest(trial, self._parameters)

    def _evaluate(self, trial: Trial) -> None:
        engine, batch = self.engine, int(trial.params[BATCH_REMOVAL])
        curves = engine.profile.curves(engine.space.names, batch)
        counts = project(engine.space, curves, to_counts(engine.space, trial.params))
        proposed = engine.profile.kept(engine.space.widths(counts), batch)
        costs = {name: int(v[0]) for name, v in by_name(engine.cost.evaluate(counts[None])).items()}
        trial.set_user_attr(attr.PROXIES, engine.strategy.proxies(counts, batch))
        kept, measured, trained = self._measured(trial, proposed, costs)
        record = {attr.COSTS: costs, attr.BATCH: batch, **self._record(kept, measured), **trained}
        if measured.latency is not None:
            predicted = float(engine.latency.predict(counts[None])[0])
            record[attr.LATENCY] = {**vars(measured.latency), "predicted_ms": predicted}
        for name, value in record.items():
            trial.set_user_attr(name, value)
        share = self._cost(costs, measured.latency) / front_of(self.study).dense_cost
        # Finished already: held dead in this very moment, so another worker repeats it.
        self.study.tell(trial, [measured.accuracy, share], skip_if_finished=True)

    def _cost(self, costs: Mapping[str, int], latency: Latency | None) -> float:
        """What the study's front runs over."""
        objective = self.engine.options.objective
        return costs[objective] if objective in costs or latency is None else latency.ms

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

    def _measured(
        self, trial: Trial, kept: Kept, costs: Mapping[str, int]
    ) -> tuple[Kept, Measurement, Record]:
        """A candidate restored or trained: its channels, what was measured, what names its artifacts."""

        def joins(accuracy: float, latency: Latency | None) -> bool:
            return front_of(self.study).takes(accuracy, self._cost(costs, latency))

        if not self.engine.options.trains:
            return kept, self.engine.evaluator.measure(kept, joins), {}
        parent = self.engine.strategy.parent(finished(self.study))
        start = None if parent is None else self.engine.trained(parent)
        trained, record = self.engine.learning.recoverer.recover(trial, kept, start)
        measured = self.engine.evaluator.measure_trained(trained.network, trained.kept, joins)
        return trained.kept, measured, record


def _warn_of_repetition(trial: Trial) -> None:
    _log.warning("trial %d was held dead and is repeated by another worker", trial.number)


def show_finished(study: Study, stage: Stage, shown: int) -> int:
    """Bring the progress bar from `shown` to the number of finished trials, whoever ran them; that number."""
    done = len(finished(study))
    if done != shown or done == 0:
        stage.advance(done - shown, best_so_far(study))
    return done


def best_so_far(study: Study) -> str:
    """The note beside the progress bar: the best point of at most half the cost, else of all."""
    front = front_of(study)
    half = [point for point in front.in_bound if front.share(point) <= 0.5]
    chosen = max(half or front.in_bound, key=lambda point: point.accuracy, default=None)
    if chosen is None:
        return ""
    shown, words = front.metric.shown(chosen.accuracy, 1), UNITS[front.objective]
    return f"{shown} at {front.share(chosen):.0%} {words}"


def _late(end: float | None) -> bool:
    return end is not None and time.monotonic() >= end
