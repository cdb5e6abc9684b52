"""Which trial a worker takes next: queued candidates first, each once, and never more than are wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna import Study, Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from autoprune.storing.experimental import without_notes
from autoprune.storing.marks import BROKEN, INTENT, ORIGIN, WARM_START, WITHDRAWN, WORKER

_TAKEN = (TrialState.COMPLETE, TrialState.RUNNING)


def queue_once(study: Study, candidates: Sequence[Mapping[str, Any]]) -> None:
    """Queue the candidates that a study starts with; what was cut short before is completed."""
    if WARM_START in study.user_attrs:
        return
    trials = study.get_trials(deepcopy=False)
    origins = {trial.user_attrs.get(ORIGIN) for trial in trials}
    # A study of an earlier version has finished trials, and none of them says where it comes from.
    if origins <= {None} and any(trial.state is TrialState.COMPLETE for trial in trials):
        candidates = []
    for number, parameters in enumerate(candidates):
        if f"warm/{number}" not in origins:
            attributes = {ORIGIN: f"warm/{number}"}
            with without_notes():
                study.enqueue_trial(dict(parameters), user_attrs=attributes, skip_if_exists=True)
    study.set_user_attr(WARM_START, len(candidates))


def missing(study: Study, total: int) -> tuple[int, int]:
    """Finished trials that are still wanted, and those of them that nobody works on."""
    states = [trial.state for trial in study.get_trials(deepcopy=False, states=_TAKEN)]
    wanted = total - states.count(TrialState.COMPLETE)
    return wanted, wanted - states.count(TrialState.RUNNING)


def take(study: Study, worker: str, total: int) -> int | None:
    """Id of a trial for this worker, signed; None when it was not needed after all, so look again.

    However many workers take at once, no more than `total` are ever finished or running and kept: whoever
    looks last, after its own trial is there, sees all others.
    """
    queued = _queued(study, worker)
    trial_id = _born(study, worker) if queued is None else queued
    if _others(study, trial_id) >= total:
        withdraw(study, trial_id, "enough others", back=True)
        return None
    if (first := _first_of_origin(study, trial_id)) is not None:
        withdraw(study, trial_id, f"trial {first} has the same candidate", back=False)
        return None
    # Samplers read the trials as they were when this was last reset.
    study._thread_local.cached_all_trials = None
    return trial_id


def rank(study: Study, trial_id: int) -> int:
    """How many finished, broken and running trials have lower numbers: what a sampler's randomness follows
    from.

    Trials side by side differ in it, and one that was lost and is drawn again has it again. Of a single
    worker it is the number of trials that are over.
    """
    number = study._storage.get_trial_number_from_id(trial_id)
    known = [*study.get_trials(deepcopy=False, states=_TAKEN), *broken(study)]
    return sum(trial.number < number for trial in known)


def broken(study: Study) -> list[FrozenTrial]:
    """Trials whose candidates cannot be measured, such as networks that answer with NaN."""
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    return [trial for trial in failed if BROKEN in trial.user_attrs]


def origin_of(trial: FrozenTrial) -> int:
    """Number of the trial whose candidate this one has: another, which was lost, or itself."""
    kind, _, number = str(trial.user_attrs.get(ORIGIN, "")).partition("/")
    return int(number) if kind == "again" and number.isdigit() else trial.number


def is_queued(trial: Trial) -> bool:
    """Whether the trial came with its parameters."""
    return "fixed_params" in trial.storage.get_trial_system_attrs(trial._trial_id)


def parameters_of(trial: FrozenTrial) -> dict[str, Any]:
    """Those that the trial was queued with, else those that were drawn."""
    fixed = trial.system_attrs.get("fixed_params")
    return dict(fixed) if fixed else dict(trial.params)


def suggest(trial: Trial, distributions: Mapping[str, BaseDistribution]) -> None:
    """Give the trial its parameters: those queued with it, else the sampler's."""
    for name, kind in distributions.items():
        if isinstance(kind, FloatDistribution):
            trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)
        else:
            assert isinstance(kind, CategoricalDistribution)
            trial.suggest_categorical(name, kind.choices)


def withdraw(study: Study, trial_id: int, reason: str, *, back: bool) -> None:
    """Give up a trial before it began; one that came from the queue goes `back` there if so wanted."""
    storage = study._storage
    trial = storage.get_trial(trial_id)
    try:
        storage.set_trial_user_attr(trial_id, WITHDRAWN, reason)
        storage.set_trial_state_values(trial_id, state=TrialState.FAIL)
    except UpdateFinishedTrialError:
        return
    fixed = trial.system_attrs.get("fixed_params")
    if fixed and back:
        kept = {k: v for k, v in trial.user_attrs.items() if k != WORKER and not k.startswith(INTENT)}
        study.enqueue_trial(dict(fixed), user_attrs=kept)


def _queued(study: Study, worker: str) -> int | None:
    """Take the first candidate of the queue; a repeated one stands where the lost one stood."""
    storage = study._storage
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    for trial in sorted(waiting, key=_place):
        try:
            storage.set_trial_user_attr(trial._trial_id, INTENT + worker, 1)
            if storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING):
                storage.set_trial_user_attr(trial._trial_id, WORKER, worker)
                return trial._trial_id
        except UpdateFinishedTrialError:
            continue
    return None


def _born(study: Study, worker: str) -> int:
    """A new running trial that is signed from its first moment."""
    template = create_trial(state=TrialState.RUNNING, user_attrs={WORKER: worker})
    return study._storage.create_new_trial(study._study_id, template_trial=template)


def _place(trial: FrozenTrial) -> tuple[int, int]:
    return (origin_of(trial), trial.number)


def _others(study: Study, trial_id: int) -> int:
    return sum(trial._trial_id != trial_id for trial in study.get_trials(deepcopy=False, states=_TAKEN))


def _first_of_origin(study: Study, trial_id: int) -> int | None:
    """Number of an earlier trial with the candidate of this one, which another worker queued as well."""
    trials = study.get_trials(deepcopy=False)
    mine = next(trial for trial in trials if trial._trial_id == trial_id)
    origin = mine.user_attrs.get(ORIGIN)
    if origin is None:
        return None
    same = (t.number for t in trials if t.user_attrs.get(ORIGIN) == origin and WITHDRAWN not in t.user_attrs)
    first = min(same)
    return first if first < mine.number else None
