"""Interrupted and continued, or all at once: the same trials?

    python studies/reliability/resuming.py studies/digits.toml --storages a.journal sqlite:///a.db

One worker under a fixed seed. For each storage: a search that is killed (SIGKILL) several times and resumed,
one that is ended between trials and resumed, and one that runs through, compared trial for trial.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import Any

import searches
from autoprune.config import StudyConfig
from autoprune.searching.study import read_front

Trials = list[dict[str, Any]]


def through(config: StudyConfig) -> None:
    searches.collected([searches.in_child(lambda: searches.search(config))])


def in_parts(config: StudyConfig) -> None:
    for share in (4, 2, 1):
        part = config.search.model_copy(update={"trials": max(1, config.search.trials // share)})
        through(config.model_copy(update={"search": part}))


def killed(config: StudyConfig, kills: int, every: float) -> None:
    rng = random.Random(0)
    for _ in range(kills):
        child = searches.in_child(lambda: searches.search(config))
        time.sleep(rng.uniform(0.5, 2) * every)
        searches.kill(child)
    through(config)


def recorded(config: StudyConfig) -> Trials:
    """Finished trials in order of completion, without their numbers."""
    points = read_front(config.storage, config.name).trials
    complete = {trial.number: trial.datetime_complete for trial in searches.trials_of(config)}
    ordered = sorted(points, key=lambda point: str(complete[point.trial]))
    return [{**point.to_json(), "trial": None} for point in ordered]


def first_difference(a: Trials, b: Trials) -> str | None:
    for index, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return f"trial {index}: {[key for key in one if one[key] != other[key]]}"
    return None if len(a) == len(b) else f"{len(a)} trials, {len(b)} trials"


def compared(options: argparse.Namespace, storage: str) -> dict[str, Any]:
    def named(name: str) -> StudyConfig:
        config = searches.config_of(options.study, storage, trials=options.trials)
        return config.model_copy(update={"name": f"{config.name}-{name}-{time.time_ns()}"})

    whole, parts, fired = named("through"), named("parts"), named("killed")
    through(whole)
    in_parts(parts)
    killed(fired, options.kills, options.every)
    record = recorded(whole)
    return {
        "trials": len(record),
        "parts_differ": first_difference(record, recorded(parts)),
        "killed_differ": first_difference(record, recorded(fired)),
        "killed": searches.outcome(fired),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--storages", nargs="+", required=True)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--every", type=float, default=8.0, help="seconds until a kill, times 0.5 to 2")
    options = parser.parse_args()
    searches.warm_up(searches.config_of(options.study, options.storages[0]))
    searches.report("resuming", vars(options), {s: compared(options, s) for s in options.storages})


if __name__ == "__main__":
    main()
