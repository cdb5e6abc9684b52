"""Latency: do predictions rank what is measured, and does the network chosen for a budget keep it?

    python studies/compare/latency.py studies/imagenet-resnet18.toml --images 64 --out latency.json

Searches with latency as the objective (one draw a trial), then takes the points of the front: Spearman's
correlation of the predicted with the measured latency, and its number of points. For each of `--budgets`,
shares of the dense latency in milliseconds, the chosen network is saved, loaded in fresh processes that know
the study's model and the saved folder alone, and measured there again; budgets take turns, so that what
disturbs the machine disturbs all. A budget is met where the median in the fresh process is within it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from autoprune.cli.progress import make_progress
from autoprune.config import StudyConfig, load_study
from autoprune.data.inputs import Inputs
from autoprune.errors import BudgetError
from autoprune.latency import Timer
from autoprune.models import load_model
from autoprune.plan import load, make_plan, save_plan
from autoprune.searching.fidelity import spearman
from autoprune.searching.front import Front, Point
from autoprune.session import Session, pick_device
from autoprune.storing.storages import open_storage
from candidates import with_images
from records import Record

Row = dict[str, Any]


def timed(config: StudyConfig, trials: int) -> StudyConfig:
    """The study with latency as its objective, at every share of it, one candidate restored a trial."""
    changes = {"objective": "latency", "trials": trials, "strategy_options": {"draws": 1}}
    return config.model_copy(update={"search": config.search.model_copy(update=changes)})


def row(point: Point) -> Row:
    names = ("trial", "accuracy", "macs_ratio", "latency_predicted_ms", "latency_ms", "latency_spread_ms")
    return {name: getattr(point, name) for name in names}


def correlation(points: list[Point]) -> float | None:
    """Of the predicted with the measured latency; None for fewer than three points, or if all are equal."""
    predicted = [point.latency_predicted_ms or 0.0 for point in points]
    measured = [point.latency_ms or 0.0 for point in points]
    if len(points) < 3 or len(set(predicted)) == 1 or len(set(measured)) == 1:
        return None
    return spearman(predicted, measured)


def chosen(front: Front, shares: list[float]) -> dict[float, Point | None]:
    """The best point for each budget, shares of the dense latency; None where there is none."""
    dense = front.dense.latency_ms or 0.0
    found: dict[float, Point | None] = {}
    for share in shares:
        try:
            found[share] = front.best(latency_ms=share * dense)
        except BudgetError:
            found[share] = None
    return found


def remeasure(study: str, folder: Path, shape: list[int], device: str | None) -> float:
    """Milliseconds of a saved network, loaded and measured in a process of its own."""
    command = [sys.executable, __file__, study, "--measure", str(folder), "--shape", *map(str, shape)]
    where = [] if device is None else ["--device", device]
    done = subprocess.run([*command, *where], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the fresh process that measures {folder.name} failed: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout)["ms"])


def measure(study: str, folder: Path, shape: list[int], device: str | None) -> None:
    """What a fresh process does: no trace of the search is left in it."""
    place = pick_device(device)
    network = load(load_model(load_study(study).model).to(place).eval(), folder).to(place).eval()
    found = Timer(Inputs((torch.randn(1, *shape, device=place),)), torch.get_num_threads()).whole(network)
    print(json.dumps(vars(found)))


def again(
    study: str, session: Session, points: dict[float, Point | None], repeats: int, device: str | None
) -> list[Row]:
    """Each chosen point measured in `repeats` fresh processes, budgets in turns."""
    dense = session.front().dense.latency_ms or 0.0
    shape = list(session.example().tensors[0].shape[1:])
    with tempfile.TemporaryDirectory() as place:
        found: dict[float, list[float]] = {}
        for share, point in points.items():
            if point is not None:
                plan = make_plan(session.model, session.graph, point, study=session.config.name)
                save_plan(Path(place) / str(share), session.build(point), plan, force=False)
                found[share] = []
        for _ in range(repeats):
            for share, times in found.items():
                times.append(remeasure(study, Path(place) / str(share), shape, device))
    return [
        {
            "budget": share,
            "budget_ms": share * dense,
            "fresh_ms": times,
            "met": sum(ms <= share * dense for ms in times),
            **row(point),
        }
        for share, times in found.items()
        if (point := points[share]) is not None
    ]


def tables(front: Front, found: list[Row]) -> str:
    lines = ["| trial | accuracy | MACs | predicted ms | measured ms | spread |", "|---|---|---|---|---|---|"]
    for point in front:
        known = [point.latency_predicted_ms, point.latency_ms, point.latency_spread_ms]
        cells = " | ".join(f"{value or 0.0:.2f}" for value in known)
        lines.append(f"| {point.trial} | {point.accuracy:.1%} | {point.macs_ratio:.1%} | {cells} |")
    head = "| budget ms | chosen trial | measured ms | in fresh processes | met |"
    lines += ["", head, "|---|---|---|---|---|"]
    for one in found:
        fresh, count = ", ".join(f"{ms:.2f}" for ms in one["fresh_ms"]), len(one["fresh_ms"])
        middle = statistics.median(one["fresh_ms"])
        cells = f"{one['latency_ms']:.2f} | {fresh} (median {middle:.2f}) | {one['met']} of {count}"
        lines.append(f"| {one['budget_ms']:.2f} | {one['trial']} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--trials", type=int, default=19)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.4, 0.55, 0.7])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device")
    parser.add_argument("--storage", help="a journal, to continue what was cut short")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.study, options.measure, options.shape, options.device)
    config = timed(with_images(load_study(options.study), options.images), options.trials)
    storage, progress = open_storage(options.storage), make_progress(False)
    session = Session.open(config, device=options.device, storage=storage, progress=progress)
    front = session.search()
    points = {"front": front.points, "trials": list(front.trials)}
    ranks = {name: {"n": len(of), "spearman": correlation(of)} for name, of in points.items()}
    table = vars(session.engine.latency.table)
    how = {name: table[name] for name in ("block", "error", "spread")}
    found = again(options.study, session, chosen(front, options.budgets), options.repeats, options.device)
    if options.out:
        record = Record(options.out, vars(options), options.device or "cpu")
        rows = [row(point) for point in front.trials]
        record.write(dense=vars(front.dense), table=how, correlation=ranks, trials=rows, budgets=found)
    print(tables(front, found))
    for name, rank in ranks.items():
        print(f"Spearman of predicted and measured, {name}: {rank['spearman']} (n = {rank['n']})")


if __name__ == "__main__":
    main()
