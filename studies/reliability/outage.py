"""The database goes away in the middle of a search, twice: does it complete, and is nothing lost?

    python studies/reliability/outage.py studies/digits.toml --server postgres --seconds 30
    python studies/reliability/outage.py studies/digits.toml --server redis --seconds 30

A private server is started in a temporary folder (see tests/services.py), stopped and started again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import searches

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.services import PostgresServer, RedisServer, Server

SERVERS: dict[str, type[Server]] = {"postgres": PostgresServer, "redis": RedisServer}


def interrupted(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    config = searches.config_of(options.study, server.fresh_url(), trials=options.trials)
    workers = [searches.in_child(lambda: searches.search(config)) for _ in range(options.workers)]
    known: dict[int, list[float]] = {}
    away = []
    for part in range(1, options.times + 1):
        aim = options.trials * part // (options.times + 1)
        searches.wait_until(lambda aim=aim: len(searches.finished(searches.trials_of(config))) >= aim, 600)
        known |= searches.finished(searches.trials_of(config))
        server.stop()
        away.append(len(known))
        time.sleep(options.seconds)
        server.start()
    codes = searches.collected(workers)
    now = searches.finished(searches.trials_of(config))
    lost = sum(now.get(number) != values for number, values in known.items())
    outcome = searches.outcome(config)
    return {"stopped_after": away, "finished_trials_lost": lost, "exit_codes": codes, **outcome}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--server", choices=list(SERVERS), required=True)
    parser.add_argument("--seconds", type=float, default=30.0, help="that the server is away")
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trials", type=int, default=40)
    options = parser.parse_args()
    server = SERVERS[options.server]()
    server.start()
    try:
        searches.warm_up(searches.config_of(options.study, server.url))
        searches.report("outage", vars(options), interrupted(server, options))
    finally:
        server.remove()


if __name__ == "__main__":
    main()
