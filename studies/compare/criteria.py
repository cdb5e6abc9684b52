"""All criteria, with uniform and with searched rates, under every reconstruction, at one budget.

    python studies/compare/criteria.py studies/cifar10-resnet20.toml --macs 0.5 --out criteria.json

One network, one budget, the same splits and calibration images for all. "Uniform": one rate for all groups.
"Searched": the knapsack on the criterion's own curves, one candidate, no trials. Prints a Markdown table of
test accuracies and writes JSON with both splits.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.storages import InMemoryStorage

from autoprune.cli.progress import make_progress
from autoprune.components import create
from autoprune.config import load_study
from autoprune.criteria import criteria
from autoprune.finetuning import with_training
from autoprune.graph.groups import Kept
from autoprune.reconstruction import reconstructions
from autoprune.searching.allocate import allocate
from autoprune.searching.engine import Engine
from autoprune.searching.parameters import to_counts
from autoprune.searching.strategies.uniform import one_per_target
from autoprune.session import Session
from autoprune.versions import versions

RATES = ("uniform", "searched")


def engines(session: Session, names: list[str]) -> Iterator[tuple[str, Engine]]:
    """One engine per criterion; all share the groups and the second moments."""
    first = session.engine
    shared = {"graph": first.graph, "bench": first.bench}
    for name in names:
        options = replace(first.options, criterion=name, criterion_options={}, batch_removal=(1,))
        engine = Engine(first.task, options, InMemoryStorage(), first.progress)
        engine.__dict__.update(shared)
        yield name, engine


def candidates(engine: Engine) -> dict[str, Kept]:
    """The channels that stay within the engine's budget, by how the rates were chosen."""
    space = engine.space
    flat = one_per_target(engine.strategy.problem, np.ones(len(space.names)), 1.0)
    widest = max((to_counts(space, rates) for rates in flat), key=lambda found: int(found.sum()))
    counts = {
        "uniform": widest,
        "searched": allocate(space, engine.profile.curves(space.names, 1)),
    }
    return {rates: engine.profile.kept(space.widths(found), 1) for rates, found in counts.items()}


def measured(
    session: Session, engine: Engine, kept: Kept, method: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    network = engine.evaluator.slicer.build(kept).eval()
    start = time.perf_counter()
    create(reconstructions, method, options).restore(engine.bench, network, kept)
    seconds = time.perf_counter() - start
    splits = {split: session.evaluate(network, split)[0] for split in ("validation", "test")}
    return {"reconstruction": method, "seconds": seconds, **splits}


def compare(session: Session, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    casm = {"steps": options.casm_steps, "scope": options.casm_scope}
    for name, engine in engines(session, options.criteria or list(criteria)):
        for rates, kept in candidates(engine).items():
            macs = int(engine.cost.macs({group: len(channels) for group, channels in kept.items()}))
            for method in options.reconstructions:
                found = measured(session, engine, kept, method, casm if method == "casm" else {})
                yield {
                    "criterion": name,
                    "rates": rates,
                    "macs_ratio": macs / engine.cost.dense_macs,
                    **found,
                }


def table(records: list[dict[str, Any]], methods: list[str]) -> str:
    cells = {(r["criterion"], r["rates"], r["reconstruction"]): r["test"] for r in records}
    lines = [f"| criterion, rates | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for name in dict.fromkeys(r["criterion"] for r in records):
        for rates in RATES:
            found = [cells.get((name, rates, method)) for method in methods]
            row = ["-" if value is None else f"{value:.1%}" for value in found]
            lines.append(f"| {name}, {rates} | {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--criteria", nargs="*")
    parser.add_argument("--reconstructions", nargs="*", default=["none", "independent", "sequential", "casm"])
    parser.add_argument("--casm-steps", type=int, default=100)
    parser.add_argument("--casm-scope", default="network")
    parser.add_argument("--history-images", type=int, default=5000)
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    config = load_study(options.study)
    budget = config.search.budget.model_copy(update={"macs": options.macs})
    config = config.model_copy(update={"search": config.search.model_copy(update={"budget": budget})})
    # The history of a network that came without one is recorded in a short fine-tuning.
    config = with_training(config, {"images": options.history_images})
    session = Session.open(
        config, device=options.device, progress=make_progress(False), storage=InMemoryStorage()
    )
    records: list[dict[str, Any]] = []
    for record in compare(session, options):
        records.append(record)
        print(record, flush=True)
        document = {"versions": versions(), "threads": torch.get_num_threads(), "records": records}
        options.out.write_text(json.dumps(document, indent=2))
    print(table(records, options.reconstructions))


if __name__ == "__main__":
    main()
