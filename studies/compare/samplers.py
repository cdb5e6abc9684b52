"""Evaluations: hypervolume over the number of measured candidates, ours against Optuna's samplers.

    python studies/compare/samplers.py studies/cifar10-resnet20.toml --out samplers.json --plot samplers.svg

All contestants share the network, splits, groups, second moments, orders of removal and the reconstruction
of every candidate; they differ in which widths they propose. With `--measure`, ours climbs one rung more as
well: what it measures is restored more thoroughly, what it tries before is not. "Cold": free rates from the
first trial on; "warm": the knapsack front first. Hypervolume is the area of validation accuracy over the MACs
ratio above chance (1 / classes) and below 1. What the profile and the rung below the measurement cost is
reported beside.
The more candidates a search measures, the more of the luck of its validation images its front has. So the
fronts are judged again, on --unseen other images: the same area for the candidates that were on the front.
`--jobs` runs so many contestants at once, each in its own process; `--records` adds those of earlier runs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from optuna.storages import InMemoryStorage

import unseen
from autoprune.cli.progress import make_progress
from autoprune.config import load_study
from autoprune.data.inputs import leading
from autoprune.errors import ConfigError
from autoprune.searching.engine import Engine, Options
from autoprune.searching.hypervolume import history
from autoprune.searching.metrics import LabelledMetric
from autoprune.session import Session
from plots import Panel, Series, draw, require
from records import Record
from ways import Way

Run = dict[str, Any]
PLAIN = ("random", "nsga2", "tpe", "gp")
OURS = "knapsack"
LENGTHS = (10, 20, 30, 60, 100, 200, 300)
"""Numbers of measured candidates that the tables show."""


@dataclass(frozen=True)
class Contest:
    """`measure` restores what a trial measures in another way than the study's, as METHOD:OPTION=VALUE,..."""

    strategy: str
    options: dict[str, Any]
    trials: int
    measure: str = ""


def contestants(options: argparse.Namespace) -> Iterator[Contest]:
    if options.ours:
        yield from (Contest(OURS, {}, options.ours, measure) for measure in ("", *options.measure))
    for name in options.samplers:
        longest = options.slow if name == "gp" else options.trials
        yield Contest(name, {"warm": False}, longest)
        if options.warm:
            yield Contest(name, {"warm": True}, options.warm)


@dataclass(frozen=True)
class Opened:
    """What the contestants of a process share: an engine on the smaller splits, the metric on all images."""

    device: str
    classes: int
    engine: Engine
    whole: LabelledMetric


@cache
def opened(
    study: str, calibration: int, validation: int, others: int, rung: int, device: str | None
) -> Opened:
    """With the rung below the measurement on so many images."""
    config = load_study(study)
    sizes = {"calibration_images": calibration, "validation_images": validation + others}
    config = config.model_copy(update={"data": config.data.model_copy(update=sizes)})
    session = Session.open(config, device=device, progress=make_progress(True), storage=InMemoryStorage())
    whole = session.engine.task
    task = replace(whole, metric=whole.metric.first(validation), probe=leading(whole.probe, validation))
    engine = Engine(task, session.engine.options, InMemoryStorage(), session.engine.progress)
    engine.__dict__["rung"] = engine.ladder.on_few(rung)
    return Opened(str(session.device), session.splits.num_classes or 1, engine, whole.metric)


def run(settings: tuple[Any, ...], contest: Contest, seed: int) -> Run:
    """One search in memory that shares everything but the proposals with the others of its process, and what
    measures its trials where the contest says so."""
    shared_by_all = opened(*settings)
    base, name, how = shared_by_all.engine, contest.strategy, contest.options
    changed = replace(base.options, strategy=name, strategy_options=how, trials=contest.trials, seed=seed)
    engine = sharing(base, changed, contest.measure)
    start = time.process_time()
    front = engine.search()
    cpu = time.process_time() - start
    points = [(point.accuracy, point.macs_ratio) for point in front.trials]
    # What it takes to restore them again.
    candidates = [(dict(point.widths), point.batch_removal) for point in front.trials]
    found = {"strategy": name, "options": how, "seed": seed, "cpu_seconds": cpu, "points": points}
    found |= {"candidates": candidates, **({"measure": contest.measure} if contest.measure else {})}
    volume = history(points, accuracy=1.0 / shared_by_all.classes)[-1]
    # Now: judging restores the front again, which may take as long.
    print(label(found), seed, f"{volume:.4f}", f"{cpu:.0f} CPU s", flush=True)
    return unseen.judged(found, engine, shared_by_all.whole)


def sharing(base: Engine, options: Options, measure: str) -> Engine:
    """One with all that `base` has made; where `measure` says so, its trials are restored in that way."""
    shared = {"graph", "cost", "space", "bench", "profile", "rung", "evaluator"}
    if measure:
        way = read_measure(measure)
        options = replace(options, reconstruction=way.method, reconstruction_options=way.options)
        shared -= {"evaluator"}
    engine = Engine(base.task, options, InMemoryStorage(), base.progress)
    engine.__dict__.update({part: getattr(base, part) for part in shared})
    return engine


def read_measure(text: str) -> Way:
    """ConfigError where it asks for images of its own."""
    way = Way.read(text)
    if way.images is not None:
        raise ConfigError(f"all contestants share their calibration images (--calibration), got '{text}'.")
    return way


def runs(settings: tuple[Any, ...], work: list[tuple[Contest, int]], jobs: int) -> Iterator[Run]:
    """As they end, in so many processes."""
    if jobs == 1:
        yield from (run(settings, contest, seed) for contest, seed in work)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run, settings, contest, seed) for contest, seed in work]):
            yield done.result()


def curves(records: list[Run], chance: float) -> dict[str, np.ndarray]:
    """Hypervolume after every trial by contestant, (seeds, trials)."""
    found: dict[str, list[np.ndarray]] = {}
    for record in records:
        found.setdefault(label(record), []).append(history(record["points"], accuracy=chance))
    return {name: np.stack([row[: min(map(len, rows))] for row in rows]) for name, rows in found.items()}


def label(record: Run) -> str:
    if record["strategy"] == OURS:
        return f"ours, {record['measure']}" if "measure" in record else "ours"
    return f"{record['strategy']}, {'warm' if record['options']['warm'] else 'cold'}"


def table(found: dict[str, np.ndarray]) -> str:
    """Mean over seeds at a few lengths, and after how many trials ours reaches the last mean."""
    ours = found["ours"].mean(0) if "ours" in found else np.empty(0)
    lines = [f"| contestant | {' | '.join(map(str, LENGTHS))} | ours reaches its last value after |"]
    lines.append("|---" * (len(LENGTHS) + 2) + "|")
    for name, rows in found.items():
        mean = rows.mean(0)
        cells = [f"{mean[n - 1]:.4f}" if len(mean) >= n else "-" for n in LENGTHS]
        reached = np.flatnonzero(ours >= mean[-1])
        after = f"{reached[0] + 1} trials" if len(reached) else "not reached" if len(ours) else "-"
        lines.append(f"| {name} ({len(rows)} seeds) | {' | '.join(cells)} | {after} |")
    return "\n".join(lines)


def plot(found: dict[str, np.ndarray], chance: float, path: Path) -> None:
    series = [
        Series(
            name,
            list(range(1, rows.shape[1] + 1)),
            rows.mean(0).tolist(),
            low=rows.min(0).tolist(),
            high=rows.max(0).tolist(),
            style="dashes" if name.endswith("warm") else "plain",
        )
        for name, rows in found.items()
    ]
    reference = f"hypervolume above accuracy {chance:.2g}, below the dense MACs"
    title = f"mean and range over {len(next(iter(found.values())))} seeds"
    draw([Panel(title=title, x_label="measured candidates", y_label=reference, series=series)], path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--samplers", nargs="*", default=list(PLAIN))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=300, help="of cold samplers")
    parser.add_argument("--slow", type=int, default=100, help="of the cold Gaussian process")
    parser.add_argument("--warm", type=int, default=60, help="of warm samplers; 0 leaves them out")
    parser.add_argument("--ours", type=int, default=60, help="trials of ours; 0 leaves it out")
    parser.add_argument(
        "--measure",
        nargs="*",
        default=[],
        metavar="METHOD:OPTION=VALUE,...",
        help="ours once more for each, its measured candidates restored so",
    )
    parser.add_argument("--calibration", type=int, default=256)
    parser.add_argument("--validation", type=int, default=1000)
    parser.add_argument("--unseen", type=int, default=1000, help="more validation images to judge fronts on")
    parser.add_argument("--rung", type=int, default=64, help="calibration images of the rung below")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--records", type=Path, nargs="*", default=[], help="what --out has of earlier runs")
    parser.add_argument("--device")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.plot:
        require()
    for text in options.measure:
        read_measure(text)
    sizes = (options.calibration, options.validation, options.unseen, options.rung)
    settings = (options.study, *sizes, options.device)
    shared = opened(*settings)
    chance = 1.0 / shared.classes
    record = Record(options.out, vars(options), shared.device)
    records = [run for path in options.records for run in json.loads(path.read_text())["records"]]
    for place, earlier in enumerate(records):
        if unseen.lacks_judgement(earlier):
            engine = sharing(shared.engine, shared.engine.options, earlier.get("measure", ""))
            records[place] = unseen.judged(earlier, engine, shared.whole)
    work = [(contest, seed) for seed in options.seeds for contest in contestants(options)]
    # Ours, then the longest: what waits for a process at the end should be short.
    work.sort(key=lambda item: (item[0].strategy != OURS, -item[0].trials))
    for found in runs(settings, work, options.jobs):
        records.append(found)
        record.write(records=records)
    curves_of = curves(records, chance)
    print(table(curves_of))
    by_name: dict[str, list[Run]] = {}
    for found in records:
        by_name.setdefault(label(found), []).append(found)
    print(unseen.table(by_name, LENGTHS, chance))
    record.write(records=records)
    if options.plot:
        plot(curves_of, chance, options.plot)


if __name__ == "__main__":
    main()
