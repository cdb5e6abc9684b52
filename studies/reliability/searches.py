"""What the scripts here share: searches in child processes, and what a storage holds afterwards."""

from __future__ import annotations

import collections
import datetime
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from autoprune.config import StudyConfig, load_study, mask_url
from autoprune.searching.hypervolume import hypervolume
from autoprune.searching.study import read_front
from autoprune.session import Session
from autoprune.storing.storages import open_storage
from autoprune.versions import versions


def config_of(path: str, storage: str, **search: Any) -> StudyConfig:
    """The study file with another storage, and other settings under [search]."""
    config = load_study(path)
    changed = config.search.model_copy(update=search)
    artifacts = None if "://" not in storage else f"{Path(path).stem}.artifacts"
    return config.model_copy(update={"storage": storage, "search": changed, "artifacts": artifacts})


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process, whose imports are already paid for; its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        # A worker that is killed must not take the others of its group with it.
        os.setpgid(0, 0)
        work()
        code = 0
    except BaseException as error:
        print(f"worker {os.getpid()}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def search(config: StudyConfig) -> None:
    Session.open(config).search()


def warm_up(config: StudyConfig) -> None:
    """Train and save the weights that a study makes on first use, and import all that a search does."""
    _ = Session.open(config, storage=optuna.storages.InMemoryStorage()).graph


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def collected(children: list[int]) -> list[int]:
    """Exit codes of the children, in order, once all have ended."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def trials_of(config: StudyConfig) -> list[FrozenTrial]:
    """All trials of the study; none where it does not exist yet."""
    try:
        storage = open_storage(config.storage)
        return optuna.load_study(study_name=config.name, storage=storage).get_trials(deepcopy=False)
    except KeyError:
        return []


def finished(trials: list[FrozenTrial]) -> dict[int, list[float]]:
    return {trial.number: list(trial.values) for trial in trials if trial.state is TrialState.COMPLETE}


def outcome(config: StudyConfig) -> dict[str, Any]:
    """What can be said of the finished study."""
    trials = trials_of(config)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    candidates = collections.Counter(json.dumps(trial.params, sort_keys=True) for trial in complete)
    return {
        "states": dict(collections.Counter(trial.state.name for trial in trials)),
        "numbers_twice": len(trials) - len({trial.number for trial in trials}),
        "candidates_twice": sum(count - 1 for count in candidates.values()),
        "hypervolume": volume(config),
    }


def volume(config: StudyConfig) -> float:
    """Hypervolume above accuracy 0.1 and below ratio 1."""
    front = read_front(config.storage, config.name)
    return hypervolume([(point.accuracy, point.macs_ratio) for point in front.trials], accuracy=0.1)


def head(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """What stands beside every measurement."""
    return {
        "script": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "options": {key: mask_url(str(value)) for key, value in options.items()},
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "versions": versions(),
    }


def report(name: str, options: dict[str, Any], measured: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps({**head(name, options), "measured": measured}, indent=1))


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.2) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(pause)
    return condition()
