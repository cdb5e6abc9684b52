"""A search of many trials in one process: do its memory and the time of a trial stay flat?

    python studies/reliability/long.py studies/digits.toml --trials 1000 --out long.json
    python studies/reliability/long.py studies/digits.toml --trials 40 --front 10000

The search runs in a temporary journal file. Then its trials are repeated, with other widths and values,
until a study holds `--front` of them, in a journal file and in SQLite, and `autoprune front` reads it.
Prints Markdown: per hundred trials the seconds, those of processor time, and the memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import filling
import searches
from autoprune.config import StudyConfig
from autoprune.progress import Silent, Stage
from autoprune.searching.study import read_front
from autoprune.session import Session

MIB = 2**20
BLOCK = 100
SETTLED = 100
"""Trials before this one are no part of the slopes: those of the warm start cost less."""


@dataclass(frozen=True)
class Moment:
    """After so many finished trials: the clock and the processor time in seconds, MiB of memory and file."""

    trials: int
    seconds: float
    processor: float
    memory: float
    journal: float


class Watch(Silent):
    """Notes a moment whenever the search says that a trial is finished."""

    def __init__(self, journal: Path) -> None:
        self.journal, self.moments = journal, list[Moment]()

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Stage]:
        with super().stage(title, total) as silent:
            yield self if title == "search" else silent

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        trials = steps + (self.moments[-1].trials if self.moments else 0)
        size = self.journal.stat().st_size / MIB
        now = Moment(trials, time.perf_counter(), time.process_time(), resident(), size)
        self.moments.append(now)


def resident() -> float:
    """MiB of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def searched(config: StudyConfig) -> list[Moment]:
    watch = Watch(Path(config.storage))
    Session.open(config, progress=watch).search()
    return watch.moments


def blocks(moments: list[Moment]) -> list[dict[str, float]]:
    """Means over every hundred trials, and the memory at the end of each."""
    rows = []
    for first, last in zip(moments[::BLOCK], moments[BLOCK::BLOCK], strict=False):
        count = last.trials - first.trials
        rows.append(
            {
                "until": last.trials,
                "seconds": (last.seconds - first.seconds) / count,
                "processor_seconds": (last.processor - first.processor) / count,
                "memory_mib": last.memory,
                "journal_mib": last.journal,
            }
        )
    return rows


def slopes(moments: list[Moment]) -> dict[str, float]:
    """Growth over a thousand trials, by least squares: of a trial's milliseconds, and of the memory."""
    settled = moments[min(SETTLED, len(moments) // 2) :]
    numbers = np.array([moment.trials for moment in settled[1:]])
    processor = np.diff([moment.processor for moment in settled])
    memory = [moment.memory for moment in settled[1:]]
    return {
        "processor_ms_per_trial_per_1000": 1e6 * float(np.polyfit(numbers, processor, 1)[0]),
        "memory_mib_per_1000": 1e3 * float(np.polyfit(numbers, memory, 1)[0]),
    }


def timed_front(study: str, config: StudyConfig, storage: str) -> dict[str, Any]:
    """Seconds of reading in this process, and of the whole command in a fresh one; the best of three each."""
    reading, command = [], []
    line = [sys.executable, "-m", "autoprune", "front", study, "--storage", storage]
    for _ in range(3):
        start = time.perf_counter(), time.process_time()
        front = read_front(storage, config.name)
        _ = front.points, front.fidelities
        reading.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        command.append(_command(line))
    return {
        "trials": len(front.trials),
        "read_seconds": min(wall for wall, _ in reading),
        "read_processor_seconds": min(processor for _, processor in reading),
        "command_seconds": min(wall for wall, _ in command),
        "command_processor_seconds": min(processor for _, processor in command),
    }


def _command(line: list[str]) -> tuple[float, float]:
    start, before = time.perf_counter(), os.times()
    subprocess.run(line, check=True, capture_output=True)
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return time.perf_counter() - start, used


def fronts(study: str, config: StudyConfig, folder: Path, count: int) -> list[dict[str, Any]]:
    journal, database = folder / "many.journal", folder / "many.db"
    filling.fill_journal(config.storage, config.name, journal, count)
    filling.fill_sqlite(config.storage, config.name, database, count)
    found = []
    for path, storage in ((journal, str(journal)), (database, f"sqlite:///{database}")):
        size = path.stat().st_size / MIB
        found.append({"storage": path.suffix, "mib": size, **timed_front(study, config, storage)})
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    names = list(rows[0]) if rows else []
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--front", type=int, default=10_000, help="trials of the study that is read, 0: none")
    parser.add_argument("--out", type=Path, help="JSON with every trial")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = searches.config_of(options.study, str(folder / "long.journal"), trials=options.trials)
        searches.warm_up(config)
        moments = searched(config)
        measured: dict[str, Any] = {"blocks": blocks(moments), "slopes": slopes(moments)}
        print(table(measured["blocks"]), table([measured["slopes"]]), sep="\n", flush=True)
        if options.front:
            measured["fronts"] = fronts(options.study, config, folder, options.front)
            print(table(measured["fronts"]))
    if options.out:
        document = {"measured": measured, "moments": [asdict(moment) for moment in moments]}
        options.out.write_text(json.dumps({**searches.head("long", vars(options)), **document}, indent=1))


if __name__ == "__main__":
    main()
