"""A storage whose operations wait for its server. What was done before the connection broke is not redone."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from autoprune.storing.patience import Patience, troubled

CALL = "autoprune.call"
"""System attribute of a trial: which call created it."""


def patient(inner: BaseStorage, patience: Patience) -> PatientStorage:
    """The storage, with patience; with heartbeats if it has them."""
    kind = PatientDatabase if isinstance(inner, BaseHeartbeat) else PatientStorage
    return kind(inner, patience)


def _repeated(name: str) -> Any:
    """A method that may be done twice without harm: it reads, or overwrites."""

    def method(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        return self.patience.run(lambda again: getattr(self.inner, name)(*args, **kwargs))

    method.__name__ = name
    return method


class PatientStorage(BaseStorage):
    """Delegates every operation to `inner` and repeats it while the connection is in trouble."""

    def __init__(self, inner: BaseStorage, patience: Patience) -> None:
        self.inner, self.patience = inner, patience

    set_study_user_attr = _repeated("set_study_user_attr")
    set_study_system_attr = _repeated("set_study_system_attr")
    get_study_id_from_name = _repeated("get_study_id_from_name")
    get_study_name_from_id = _repeated("get_study_name_from_id")
    get_study_directions = _repeated("get_study_directions")
    get_study_user_attrs = _repeated("get_study_user_attrs")
    get_study_system_attrs = _repeated("get_study_system_attrs")
    get_all_studies = _repeated("get_all_studies")
    # SQL storages ignore a second value of a parameter; the others overwrite it with the same one.
    set_trial_param = _repeated("set_trial_param")
    set_trial_intermediate_value = _repeated("set_trial_intermediate_value")
    set_trial_user_attr = _repeated("set_trial_user_attr")
    set_trial_system_attr = _repeated("set_trial_system_attr")
    get_trial_id_from_study_id_trial_number = _repeated("get_trial_id_from_study_id_trial_number")
    get_trial_number_from_id = _repeated("get_trial_number_from_id")
    get_trial_param = _repeated("get_trial_param")
    get_trial_params = _repeated("get_trial_params")
    get_trial_user_attrs = _repeated("get_trial_user_attrs")
    get_trial_system_attrs = _repeated("get_trial_system_attrs")
    get_trial = _repeated("get_trial")
    get_all_trials = _repeated("get_all_trials")
    get_n_trials = _repeated("get_n_trials")
    get_best_trial = _repeated("get_best_trial")

    def remove_session(self) -> None:
        self.inner.remove_session()

    def check_trial_is_updatable(self, trial_id: int, trial_state: TrialState) -> None:
        self.inner.check_trial_is_updatable(trial_id, trial_state)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        # Made before the connection broke, it is a duplicate now: whoever asked with load_if_exists gets it.
        return self.patience.run(lambda again: self.inner.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        def delete(again: bool) -> None:
            try:
                self.inner.delete_study(study_id)
            except KeyError:
                if not again:
                    raise

        self.patience.run(delete)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """A repeated call finds the trial that the first one made, unless it is still being made.

        Such a trial stays behind as RUNNING without a heartbeat; sweepers take care of it.
        """
        if self.patience.limit <= 0:
            return self.patience.run(lambda again: self.inner.create_new_trial(study_id, template_trial))
        call = uuid.uuid4().hex
        template = template_trial or create_trial(state=TrialState.RUNNING)
        signed = copy.copy(template)
        signed._system_attrs = {**signed.system_attrs, CALL: call}

        def create(again: bool) -> int:
            made = self._made_by(study_id, call) if again else None
            return self.inner.create_new_trial(study_id, signed) if made is None else made

        return self.patience.run(create)

    def _made_by(self, study_id: int, call: str) -> int | None:
        trials = self.inner.get_all_trials(study_id, deepcopy=False)
        made = (trial._trial_id for trial in reversed(trials) if trial.system_attrs.get(CALL) == call)
        return next(made, None)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Taking a waiting trial twice answers False, as if another had taken it: sweepers find it."""

        def update(again: bool) -> bool:
            try:
                return self.inner.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if again and self._is_stored(trial_id, state, values):
                    return True
                raise

        return self.patience.run(update)

    def _is_stored(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> bool:
        stored = self.inner.get_trial(trial_id)
        wanted = None if values is None else [float(value) for value in values]
        return stored.state is state and (wanted is None or stored.values == wanted)


class PatientDatabase(PatientStorage, BaseHeartbeat):
    """A patient storage whose trials have heartbeats."""

    inner: Any

    record_heartbeat = _repeated("record_heartbeat")

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """None while those who live may not yet have had the time to say so after an outage."""
        grace = getattr(getattr(self.inner, "_backend", self.inner), "grace_period", None) or 60
        if troubled(self, within=grace):
            return []
        stale: list[int] = self.patience.run(lambda again: self.inner._get_stale_trial_ids(study_id))
        return stale

    def get_heartbeat_interval(self) -> int | None:
        interval: int | None = self.inner.get_heartbeat_interval()
        return interval

    def get_heartbeat_stale_trial_callback(self) -> Callable[[Study, FrozenTrial], None] | None:
        callback: Callable[[Study, FrozenTrial], None] | None
        callback = self.inner.get_heartbeat_stale_trial_callback()
        return callback
