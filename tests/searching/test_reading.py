"""The front in its three ways: remembered by a search, from Optuna's trials, and read at one go."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from autoprune.errors import StudyError
from autoprune.searching import attributes as attr
from autoprune.searching.engine import Engine
from autoprune.searching.front import Front
from autoprune.searching.study import finished, front_of, read_front, stored_study
from autoprune.storing.storages import open_storage

MakeEngine = Callable[..., Engine]


def everything(front: Front) -> list[dict[str, Any]]:
    kept = [{name: point.kept[name].tolist() for name in point.kept} for point in front.trials]
    return [{**point.to_json(), "kept": k} for point, k in zip(front.trials, kept, strict=True)]


def changed(trial: FrozenTrial, rng: random.Random) -> FrozenTrial:
    """Finished, or to be finished later."""
    marks = {**trial.user_attrs, attr.COSTS: {**trial.user_attrs[attr.COSTS], "macs": rng.randint(1, 10**6)}}
    state = rng.choice([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL])
    values = [rng.random(), rng.random()] if state is TrialState.COMPLETE else None
    return optuna.create_trial(state=state, values=values, user_attrs=marks)


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_the_front_is_the_same_however_it_is_read(make_engine: MakeEngine, tmp_path: Path, kind: str) -> None:
    storage = str(tmp_path / "s.journal") if kind == "journal" else f"sqlite:///{tmp_path}/s.db"
    engine, rng = make_engine(storage=storage, trials=6, batch_removal=(1, 2)), random.Random(0)
    engine.search()
    study, models = engine.study, finished(engine.study)
    for _ in range(12):
        for _ in range(rng.randint(1, 4)):
            study.add_trial(changed(rng.choice(models), rng))
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if running:
            study.tell(rng.choice(running).number, [rng.random(), rng.random()])
        remembered = everything(front_of(study))
        assert remembered == everything(front_of(stored_study(storage, "study")))
        assert remembered == everything(read_front(storage, "study"))
    assert len(remembered) > 20


def test_a_study_without_trials_and_one_among_others(make_engine: MakeEngine, tmp_path: Path) -> None:
    for storage in (str(tmp_path / "s.journal"), f"sqlite:///{tmp_path}/s.db"):
        optuna.create_study(storage=open_storage(storage), study_name="other").add_trial(
            optuna.create_trial(value=1.0)
        )
        make_engine(storage=storage, trials=2).search(trials=0)
        assert list(read_front(storage, "study").trials) == []
        with pytest.raises(StudyError, match="holds no study 'third'; it holds: other, study"):
            read_front(storage, "third")
        with pytest.raises(StudyError, match="not made by autoprune"):
            read_front(storage, "other")
