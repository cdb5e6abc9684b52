from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna import Study, Trial
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from autoprune.storing.queueing import take
from autoprune.storing.storages import open_storage

SPACE: dict[str, BaseDistribution] = {"rate.a": FloatDistribution(0.0, 1.0)}


@pytest.fixture(params=["memory", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
    return InMemoryStorage() if request.param == "memory" else open_storage(str(tmp_path / "s.journal"))


@pytest.fixture
def study(storage: BaseStorage) -> Study:
    return optuna.create_study(storage=storage, study_name="study", directions=["maximize", "minimize"])


States = Callable[[Study], list[str]]


@pytest.fixture
def states() -> States:
    return lambda study: [trial.state.name for trial in study.get_trials(deepcopy=False)]


def numbers(study: Study, state: TrialState) -> list[int]:
    return [trial.number for trial in study.get_trials(deepcopy=False, states=(state,))]


def taken(study: Study, worker: str, total: int) -> Trial | None:
    """A trial as Optuna gives it."""
    trial_id = take(study, worker, total)
    return None if trial_id is None else Trial(study, trial_id)
