"""Workers are killed at random moments: what is left of the study?

    python studies/reliability/killing.py studies/digits.toml --trials 200 --kills 50
    python studies/reliability/killing.py studies/digits.toml --storage postgresql://... --workers 3

A first search runs undisturbed, in a journal file; the second is killed with SIGKILL, a worker at a time, and
a new worker comes in its place. Wanted: every finished trial is still there with its values, no number and
no candidate twice, none left running, the exact total, and a front that is as good.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import searches
from autoprune.config import StudyConfig


def killed(config: StudyConfig, options: argparse.Namespace) -> dict[str, Any]:
    """Search under fire; what was lost on the way."""
    rng = random.Random(options.seed)
    workers = [searches.in_child(lambda: searches.search(config)) for _ in range(options.workers)]
    known: dict[int, list[float]] = {}
    lost, kills = 0, 0
    while kills < options.kills:
        time.sleep(rng.uniform(0, 2 * options.every))
        now = searches.finished(searches.trials_of(config))
        lost += sum(now.get(number) != values for number, values in known.items())
        known = now
        if len(now) >= options.trials:
            break
        victim = rng.randrange(len(workers))
        searches.kill(workers[victim])
        kills += 1
        workers[victim] = searches.in_child(lambda: searches.search(config))
    codes = searches.collected(workers)
    return {"kills": kills, "finished_trials_lost": lost, "exit_codes": codes, **searches.outcome(config)}


def undisturbed(config: StudyConfig) -> dict[str, Any]:
    searches.collected([searches.in_child(lambda: searches.search(config))])
    return searches.outcome(config)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--storage", help="a journal file in a temporary folder by default")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--every", type=float, default=8.0, help="mean seconds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        alone = searches.config_of(options.study, str(place / "alone.journal"), trials=options.trials)
        fired = searches.config_of(
            options.study, options.storage or str(place / "killed.journal"), trials=options.trials
        )
        searches.warm_up(alone)
        start = time.monotonic()
        measured = {"killed": killed(fired, options), "killed_seconds": time.monotonic() - start}
        start = time.monotonic()
        measured |= {"undisturbed": undisturbed(alone), "undisturbed_seconds": time.monotonic() - start}
    searches.report("killing", vars(options), measured)


if __name__ == "__main__":
    main()
