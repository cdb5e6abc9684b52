"""Write the studies that tests keep: `python -m tests.searching.make_kept`, from the root of the project.

A kept study is never written again by a later version: the tests say that it stays readable. A new schema, or
new fields, get a file of their own beside it. For each study a journal and what was read from it, as JSON.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from autoprune.config import load_study
from autoprune.searching.attributes import SCHEMA
from autoprune.searching.front import Front
from autoprune.searching.study import read_front
from autoprune.session import Session
from tests.searching.conftest import engine_for

FOLDER = Path(__file__).parent / "kept"
TRIALS = 7
TARGETS = (0.3, 0.5, 0.7)
SMALL: dict[str, Any] = {"batch_removal": (1, 2), "strategy_options": {"targets": TARGETS}}


def record(front: Front) -> dict[str, Any]:
    """All that a front says."""
    trials = [
        {**point.to_json(), "kept": {name: point.kept[name].tolist() for name in point.kept}}
        for point in front.trials
    ]
    return {**front.to_json(), "trials": trials}


def search_small(path: str, trials: int) -> Front:
    """A network whose weights come from a seed, so that the study can be continued elsewhere."""
    return engine_for("chain", path, trials=trials, **SMALL).search()


def search_digits(path: str, trials: int) -> Front:
    config = load_study("studies/digits.toml")
    search = config.search.model_copy(update={"trials": trials, "strategy_options": {"targets": TARGETS}})
    return Session.open(config.model_copy(update={"storage": path, "search": search})).search()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, study, search in (("small", "study", search_small), ("digits", "digits", search_digits)):
            path, kept = Path(folder) / f"{name}.journal", FOLDER / f"{name}-schema{SCHEMA}.journal"
            search(str(path), TRIALS)
            shutil.copyfile(path, kept)
            found = record(read_front(str(kept), study))
            kept.with_suffix(".json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
