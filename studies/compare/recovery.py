"""How fast a pruned network recovers: closed form, CASM, fine-tuning on the same images, and on all.

    python studies/compare/recovery.py studies/cifar10-resnet20.toml --macs 0.5 0.35 --out recovery.json

One candidate per budget (knapsack on the study's curves), from which every contestant starts, sliced and
not restored. Each contestant runs several times, longer each time, with a schedule of its own length; time
is its own work alone, without measuring, in seconds of the processor, for machines are shared. Closed form
and CASM see no labels. Prints for each contestant accuracy against seconds, and how many times faster it
reaches what fine-tuning reaches in one epoch of all images.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from optuna.storages import InMemoryStorage
from torch import nn

from autoprune.cli.progress import make_progress
from autoprune.components import create
from autoprune.config import load_study
from autoprune.finetuning import training_data, with_training
from autoprune.graph.groups import Kept
from autoprune.reconstruction import reconstructions
from autoprune.searching.allocate import allocate
from autoprune.session import Session
from autoprune.training import fine_tune
from autoprune.versions import versions

Record = dict[str, Any]
Work = Callable[[nn.Module], None]
EPOCH = "fine-tuning, all images"


def candidate(session: Session, macs: float) -> Kept:
    engine = session.engine
    space = engine.space.within({"macs": int(macs * engine.cost.dense_macs)})
    counts = allocate(space, engine.profile.curves(space.names, 1))
    return engine.profile.kept(space.widths(counts), 1)


def restoring(session: Session, kept: Kept, method: str, **options: Any) -> Work:
    part = create(reconstructions, method, options)
    return lambda network: part.restore(session.engine.bench, network, kept)


def few_images(session: Session, kept: Kept, count: int) -> Work:
    """Sequential least squares on the first images only."""
    bench = session.engine.bench
    small = bench.first(count)
    # The dense outputs are made once for all candidates of a study.
    _ = small.targets
    return lambda network: reconstructions["sequential"]().restore(small, network, kept)


def tuning(session: Session, epochs: int, images: int | None, rate: float) -> Work:
    changes = {"epochs": epochs, "images": images, "learning_rate": rate, "distillation": 0.0}
    config = with_training(session.config, changes)
    changed = copy.copy(session)
    changed.config = config

    def work(network: nn.Module) -> None:
        fine_tune(network, data=training_data(changed), settings=config.training, seed=0)

    return work


def contestants(session: Session, kept: Kept, options: argparse.Namespace) -> Iterator[tuple[str, str, Work]]:
    """(contestant, how long, work), the shortest first."""
    same = session.config.data.calibration_images
    yield f"closed form, {options.few} images", "one pass", few_images(session, kept, options.few)
    yield "closed form", "one pass", restoring(session, kept, "sequential")
    quick = {"scope": options.scope, "learning_rate": options.casm_rate, "start_images": options.few}
    for steps in options.quick_steps:
        work = restoring(session, kept, "casm", steps=steps, batch=64, **quick)
        yield f"CASM from {options.few} images", f"{steps} steps of 64", work
    for steps in options.steps:
        work = restoring(
            session, kept, "casm", steps=steps, scope=options.scope, learning_rate=options.casm_rate
        )
        yield "CASM", f"{steps} steps", work
    for epochs in options.epochs:
        yield "fine-tuning, same images", f"{epochs} epochs", tuning(session, epochs, same, options.rate)
    yield EPOCH, "1 epoch", tuning(session, 1, None, options.rate)


def run(session: Session, macs: float, options: argparse.Namespace) -> Iterator[Record]:
    kept = candidate(session, macs)
    # What all share is made before the clock starts.
    _ = session.engine.bench.targets
    for name, length, work in contestants(session, kept, options):
        network = session.engine.evaluator.slicer.build(kept).eval()
        wall, cpu = time.perf_counter(), time.process_time()
        work(network)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        splits = {split: session.evaluate(network, split)[0] for split in ("validation", "test")}
        times = {"seconds": wall, "cpu_seconds": cpu}
        yield {"macs": macs, "contestant": name, "length": length, **times, **splits}


def summary(records: list[Record]) -> str:
    """Seconds until the test accuracy of one epoch of all images, and how many times faster that is."""
    lines = [
        "| MACs | contestant | length | CPU seconds | test | reaches the epoch's accuracy |",
        "|---" * 6 + "|",
    ]
    for record in records:
        epoch = [r for r in records if r["contestant"] == EPOCH and r["macs"] == record["macs"]]
        faster = "-"
        if epoch and record["test"] >= epoch[-1]["test"]:
            faster = f"{epoch[-1]['cpu_seconds'] / record['cpu_seconds']:.1f} times faster"
        start = f"| {record['macs']:.0%} | {record['contestant']} | {record['length']} "
        lines.append(f"{start}| {record['cpu_seconds']:.1f} | {record['test']:.2%} | {faster} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--macs", type=float, nargs="+", default=[0.5, 0.35])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--steps", type=int, nargs="*", default=[30, 100, 300])
    parser.add_argument("--quick-steps", type=int, nargs="*", default=[20, 60])
    parser.add_argument("--scope", default="network")
    parser.add_argument("--casm-rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--rate", type=float, default=0.02, help="learning rate of fine-tuning")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    config = load_study(options.study)
    data = config.data.model_copy(update={"calibration_images": options.images})
    config = config.model_copy(update={"data": data})
    progress = make_progress(False)
    session = Session.open(config, device=options.device, progress=progress, storage=InMemoryStorage())
    records: list[Record] = []
    for macs in options.macs:
        for record in run(session, macs, options):
            records.append(record)
            print(record, flush=True)
            document = {"versions": versions(), "threads": torch.get_num_threads(), "records": records}
            options.out.write_text(json.dumps(document, indent=2))
    print(summary(records))


if __name__ == "__main__":
    main()
