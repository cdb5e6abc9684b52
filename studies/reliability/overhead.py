"""What one trial costs in each storage: created, given ten attributes, finished, and the study read again.

    python studies/reliability/overhead.py --trials 50 --out overhead.json

The attributes are as large as those of a real trial: some hundred bytes each, two of them 5 kB. PostgreSQL
and Redis are private servers on this machine: the one waits for the disk at every commit, the other writes
its log at once and syncs it every second, as both do by default. The gRPC proxy runs in a process of its own
before such a PostgreSQL. Prints a Markdown table, one row per storage.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import random
import statistics
import string
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "studies" / "compare")]

from autoprune.storing.storages import open_storage  # noqa: E402
from records import Record  # noqa: E402
from tests.services import PostgresServer, RedisServer, Server, free_port  # noqa: E402

SIZES = (200, 200, 300, 300, 400, 400, 600, 800, 5000, 5000)
"""Bytes of the ten attributes of a trial."""
DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
Place = Callable[[contextlib.ExitStack], str]


class DurablePostgres(PostgresServer):
    fsync = "on"


def started(kind: type[PostgresServer] | type[RedisServer]) -> Place:
    def place(stack: contextlib.ExitStack) -> str:
        server: Server = kind()
        stack.callback(server.remove)
        server.start()
        return server.fresh_url()

    return place


def in_folder(form: str) -> Place:
    def place(stack: contextlib.ExitStack) -> str:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "build"))
        return form.format(folder)

    return place


def behind_proxy(stack: contextlib.ExitStack) -> str:
    url, port = started(DurablePostgres)(stack), free_port()
    # Not forked: gRPC's threads do not survive that.
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(url, port), daemon=True)
    process.start()
    stack.callback(process.terminate)
    return f"grpc://127.0.0.1:{port}"


def serve(url: str, port: int) -> None:
    from optuna.storages import run_grpc_proxy_server

    warnings.simplefilter("ignore")
    run_grpc_proxy_server(open_storage(url), host="127.0.0.1", port=port)


PLACES: Mapping[str, Place] = {
    "journal": in_folder("{}/study.journal"),
    "sqlite": in_folder("sqlite:///{}/study.db"),
    "postgresql": started(DurablePostgres),
    "redis": started(RedisServer),
    "grpc": behind_proxy,
}


def opened(url: str, patience: float = 60.0) -> BaseStorage:
    """The storage, once its server, which may still be starting, answers."""
    end = time.monotonic() + patience
    while True:
        try:
            return open_storage(url)
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


@contextlib.contextmanager
def timed(into: list[float]) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    into.append(1000 * (time.perf_counter() - begin))


def measure(storage: BaseStorage, trials: int) -> dict[str, float]:
    """Milliseconds: medians over the trials, and what the last ten cost against the first ten."""
    study = storage.create_new_study(DIRECTIONS, "study")
    parts: dict[str, list[float]] = {"create": [], "attributes": [], "finish": [], "read": []}
    totals: list[float] = []
    for number in range(trials):
        with timed(totals):
            with timed(parts["create"]):
                trial = storage.create_new_trial(study)
                storage.set_trial_param(trial, "rate", 0.5, FloatDistribution(0.0, 1.0))
            with timed(parts["attributes"]):
                for place, size in enumerate(SIZES):
                    storage.set_trial_user_attr(trial, f"attribute {place}", text(size, number))
            with timed(parts["finish"]):
                storage.set_trial_state_values(trial, TrialState.COMPLETE, [0.5, 0.5])
            with timed(parts["read"]):
                # As a sampler does before it draws.
                storage.get_all_trials(study, deepcopy=False)
    median = {name: statistics.median(times) for name, times in {**parts, "trial": totals}.items()}
    growth = statistics.median(totals[-10:]) / statistics.median(totals[:10])
    return {**median, "growth": growth}


def text(size: int, seed: int) -> str:
    return "".join(random.Random(seed).choices(string.ascii_letters, k=size))


def reopened(url: str) -> float:
    """Milliseconds to open the finished study in a new process, imports not counted."""
    times: list[float] = []
    with timed(times):
        storage = open_storage(url, create=False)
        storage.get_all_trials(storage.get_study_id_from_name("study"), deepcopy=False)
    return times[0]


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    names = ["create", "attributes", "finish", "read", "trial", "growth", "open"]
    heads = [f"{name} (ms)" if name != "growth" else "last/first ten" for name in names]
    lines = [f"| storage | {' | '.join(heads)} |", f"|---|{'---:|' * len(names)}"]
    for storage, values in found.items():
        lines.append(f"| {storage} | {' | '.join(f'{values[name]:.1f}' for name in names)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="trials in each storage, at least 20")
    parser.add_argument("--storages", nargs="+", choices=PLACES, default=list(PLACES))
    parser.add_argument("--out", type=Path, default=None, help="also write a JSON record here")
    options = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    found: dict[str, dict[str, float]] = {}
    for name in options.storages:
        with contextlib.ExitStack() as stack:
            url = PLACES[name](stack)
            found[name] = measure(opened(url), options.trials)
            found[name]["open"] = reopened(url)
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    print(table(found))
    if options.out is not None:
        arguments: dict[str, Any] = vars(options)
        Record(options.out, arguments).write(storages=found)


if __name__ == "__main__":
    main()
