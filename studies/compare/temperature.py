"""Fine-tuning of one pruned network with three losses: variable temperature, constant, cross-entropy alone.

    python studies/compare/temperature.py studies/cifar10-resnet20.toml --macs 0.5 --epochs 10 --seeds 3 \\
        --images 10000 --out temperature.json

The network is the best of the first trials of the study's own search within the budget, restored; every
run starts from it. All else is the study's [training] section. Weights are those of the epoch that is best on
validation; the test split is touched once per run. Prints a Markdown table and writes JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.cli.progress import make_progress
from autoprune.config import BudgetConfig, load_study
from autoprune.finetuning import training_data, with_training
from autoprune.searching.front import Point
from autoprune.session import Session
from autoprune.storing.storages import open_storage
from autoprune.training import fine_tune
from autoprune.versions import versions

LOSSES: Mapping[str, Mapping[str, Any]] = {
    "variable, T 8 to 1": {"temperature": (8.0, 1.0)},
    "constant, T 4": {"temperature": 4.0},
    "cross-entropy": {"distillation": 0.0},
}
Record = dict[str, Any]


def open_session(options: argparse.Namespace) -> Session:
    """The study on a storage in memory, its budget and training as the options say."""
    config = load_study(options.study)
    budget = BudgetConfig(macs=options.macs)
    search = config.search.model_copy(update={"budget": budget, "trials": options.trials})
    names = ("epochs", "images", "learning_rate", "distillation")
    config = with_training(config, {name: getattr(options, name) for name in names})
    return Session.open(
        config.model_copy(update={"search": search}),
        device=options.device,
        progress=make_progress(False),
        storage=open_storage(None),
    )


def tuned(session: Session, pruned: nn.Module, name: str, seed: int) -> Record:
    """One training of a copy of the pruned network."""
    settings = with_training(session.config, LOSSES[name]).training
    network = copy.deepcopy(pruned)
    result = fine_tune(
        network,
        data=training_data(session),
        settings=settings,
        teacher=session.model if settings.distillation > 0 else None,
        evaluate=session.engine.task.metric,
        seed=seed,
        progress=make_progress(False),
        title=f"{name}, seed {seed}",
    )
    return {
        "loss": name,
        "seed": seed,
        "validation": result.metric,
        "test": session.evaluate(network, "test")[0],
        "best_epoch": result.best_epoch,
        "seconds": result.seconds,
        "history": [epoch.to_json() for epoch in result.history],
        "settings": settings.model_dump(mode="json"),
    }


def row(name: str, records: list[Record]) -> str:
    """Mean and every seed, validation and test, of one loss."""
    mine = [record for record in records if record["loss"] == name]
    cells = []
    for split in ("validation", "test"):
        values = [record[split] for record in mine]
        each = ", ".join(f"{value:.2%}" for value in values)
        cells += [f"{statistics.mean(values):.2%}", each]
    seconds = statistics.mean(record["seconds"] for record in mine)
    return f"| {name} | {' | '.join(cells)} | {seconds:.0f} |"


def circumstances(session: Session, point: Point, options: argparse.Namespace) -> Record:
    """What stands beside the numbers."""
    return {
        "study": session.config.name,
        "arguments": vars(options),
        "versions": versions(),
        "device": str(session.device),
        "threads": torch.get_num_threads(),
        "dense": {split: session.evaluate(session.model, split)[0] for split in ("validation", "test")},
        "pruned": {name: getattr(point, name) for name in ("accuracy", "macs_ratio", "params_ratio")},
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--macs", type=float, default=0.5, help="share of the dense MACs at most")
    parser.add_argument("--trials", type=int, default=2, help="of the search; the second aims at the budget")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int, help="training images")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--distillation", type=float, help="share of distillation in the first two losses")
    parser.add_argument("--device")
    parser.add_argument("--out", default="temperature.json", help="JSON with every epoch of every run")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    session = open_session(options)
    point = session.search().best(macs=options.macs)
    pruned, head = session.build(point), circumstances(session, point, options)
    records: list[Record] = []
    # Seeds outside, so that an interrupted comparison still has every loss.
    for seed in range(options.seeds):
        for name in LOSSES:
            records.append(tuned(session, pruned, name, seed))
            Path(options.out).write_text(json.dumps({**head, "runs": records}, indent=1) + "\n")
    print(f"{head['study']} at {point.macs_ratio:.1%} of the MACs: validation {point.accuracy:.2%} before")
    print("| loss | validation, mean | each seed | test, mean | each seed | seconds |")
    print("|---|---|---|---|---|---|")
    for name in LOSSES:
        print(row(name, records))


if __name__ == "__main__":
    main()
