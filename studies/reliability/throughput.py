"""How the number of finished trials a second grows with the workers, where an evaluation only sleeps.

    python studies/reliability/throughput.py postgresql://... --workers 1 2 4 16

A tiny network; its metric sleeps, so that the processors are not what is measured. Each worker is a process
of its own that takes trials of one study. Also counted: errors, numbers and candidates that appear twice.
"""

from __future__ import annotations

import argparse
import collections
import json
import time
from functools import partial
from typing import Any

import optuna
import torch
from optuna.trial import TrialState
from torch import nn

import searches
from autoprune.data.inputs import Inputs
from autoprune.searching.engine import Engine, Options, Task
from autoprune.storing.storages import open_storage


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 16, 3),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()


def engine(name: str, trials: int, seconds: float, storage: Any = None) -> Engine:
    def sleeping(model: nn.Module) -> float:
        time.sleep(seconds)
        return float(sum(parameter.numel() for parameter in model.parameters()) % 97) / 97

    model, images = network(), torch.randn(48, 3, 10, 10, generator=torch.Generator().manual_seed(1))
    task = Task(
        name=name,
        model=model,
        chunks=[Inputs((images[:32],))],
        probe=[Inputs((images[32:],))],
        metric=sleeping,
        fingerprints={"model": "sleeping", "data": "none"},
    )
    return Engine(task, Options(trials=trials, strategy="random", reconstruction="none"), storage)


def worker(ready: Engine, name: str, trials: int, options: argparse.Namespace, start: float) -> None:
    """Search with what was prepared before the fork; only the storage is this process's own."""
    mine = engine(name, trials, options.seconds, open_storage(options.storage))
    for part in ("graph", "cost", "bench", "profile", "space"):
        mine.__dict__[part] = getattr(ready, part)
    time.sleep(max(0.0, start - time.monotonic()))
    mine.search()


def measured(options: argparse.Namespace, workers: int) -> dict[str, Any]:
    name, trials = f"sleep-{workers}-{time.time_ns()}", options.per_worker * workers
    ready = engine(name, trials, options.seconds)
    _ = ready.profile
    # The dense network is measured, and the study made, before the clock starts.
    _ = engine(name, trials, 0.0, open_storage(options.storage)).study
    start = time.monotonic() + 2.0
    one = partial(worker, ready, name, trials, options, start)
    children = [searches.in_child(one) for _ in range(workers)]
    codes = searches.collected(children)
    study = optuna.load_study(study_name=name, storage=open_storage(options.storage))
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ends = [trial.datetime_complete for trial in complete if trial.datetime_complete]
    begins = [trial.datetime_start for trial in complete if trial.datetime_start]
    # Queued trials carry the time of their queueing in some storages: the first end is the safe mark.
    seconds = (max(ends) - min(ends)).total_seconds()
    counts = collections.Counter(json.dumps(trial.params, sort_keys=True) for trial in complete)
    return {
        "workers": workers,
        "trials": len(complete),
        "wanted": trials,
        "per_second": (len(complete) - workers) / seconds,
        "began": str(min(begins)),
        "exit_codes": sorted(set(codes)),
        "numbers_twice": len(complete) - len({trial.number for trial in complete}),
        "candidates_twice": sum(count - 1 for count in counts.values()),
        "states": dict(collections.Counter(t.state.name for t in study.get_trials(deepcopy=False))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("storage")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 16])
    parser.add_argument("--per-worker", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2.0, help="that an evaluation sleeps")
    options = parser.parse_args()
    rows = [measured(options, workers) for workers in options.workers]
    for row in rows:
        linear = row["workers"] / rows[0]["workers"] * rows[0]["per_second"]
        row["share_of_linear"] = row["per_second"] / linear
    searches.report("throughput", vars(options), rows)


if __name__ == "__main__":
    main()
