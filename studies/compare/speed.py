"""What a candidate costs beside plain forward passes, and what a search costs beside its candidates.

    python studies/compare/speed.py studies/cifar10-resnet56.toml --out speed.json

In one run, interleaved, medians over --repeats, for the knapsack candidate at --macs:

    reconstruction / dense   one sequential reconstruction over one dense forward pass of the same images,
                             batched as the faster of whole chunks and cache-sized batches
    evaluation / sliced      the candidate's metric over its plain forward pass of the validation images
    candidate / both         all that a trial measures (slice, metric before, restore, metric, output error)
                             over a dense pass of the calibration images and a sliced one of the others

Then a search of --trials with a journal file under cProfile: the processor's time by stages, and the share of
it that is neither forward pass nor linear algebra, in all threads; strictly, with element-wise operators on
tensors between them as outside too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from autoprune.searching.engine import Engine
from autoprune.session import Session
from autoprune.storing.storages import open_storage
from candidates import faster, knapsack_candidate, open_session, prepare, restoring
from records import Record
from stages import WORK, by_stage, outside, profiled
from timing import forward, interleaved, medians

RATIOS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "reconstruction / dense": ("reconstruction", ("dense, calibration",)),
    "reconstruction / sliced": ("reconstruction", ("sliced, calibration",)),
    "evaluation / sliced": ("evaluation", ("sliced, validation",)),
    "candidate / both": ("candidate", ("dense, calibration", "sliced, validation")),
}
"""Ratio -> what is above the line, and the sum below."""


def measure(session: Session, macs: float, repeats: int) -> dict[str, Any]:
    """Seconds of one candidate's parts and of plain forward passes, and their ratios."""
    engine, device = session.engine, session.device
    prepare(engine)
    kept = knapsack_candidate(engine, macs)
    sliced = engine.evaluator.build(kept)
    validation, chunks = list(engine.task.probe), engine.bench.chunks
    batching, dense_batches = faster(engine.bench.model, chunks, device)
    metric = engine.task.metric
    # Slicing right before reconstruction: the working network is the candidate as sliced.
    works = {
        "candidate": lambda: engine.evaluator.measure(kept),
        "dense, calibration": lambda: forward(engine.bench.model, dense_batches),
        "sliced, calibration": lambda: forward(sliced, dense_batches),
        "sliced, validation": lambda: forward(sliced, validation),
        "evaluation": lambda: metric(sliced),
        "slicing": lambda: engine.evaluator.sliced(kept),
        "reconstruction": restoring(engine, engine.evaluator.sliced(kept), kept),
    }
    times = interleaved(works, repeats, device)
    return {
        "batching": batching,
        "images": {"calibration": sum(c.size for c in chunks), "validation": sum(b.size for b in validation)},
        "macs_ratio": int(engine.cost.macs({n: len(c) for n, c in kept.items()})) / engine.cost.dense_macs,
        "seconds": times,
        "medians": medians(times),
        "ratios": ratios(times),
    }


def ratios(times: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Median, least and largest over the repeats, each made of neighbours in time."""
    found = {}
    for name, (above, below) in RATIOS.items():
        sums = [sum(values) for values in zip(*(times[part] for part in below), strict=True)]
        each = [value / limit for value, limit in zip(times[above], sums, strict=True)]
        found[name] = {"median": statistics.median(each), "least": min(each), "largest": max(each)}
    return found


def search_stages(session: Session, trials: int) -> dict[str, Any]:
    """Seconds by stage of a search whose profile is ready, with its trials in a journal file."""
    first = session.engine
    prepare(first)
    # Its threads were begun outside the profile, which would not see them.
    first.bench.__dict__.pop("lockstep", None)
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(str(Path(folder) / "speed.journal"))
        engine = Engine(first.task, first.options, storage)
        engine.__dict__.update({"graph": first.graph, "bench": first.bench, "profile": first.profile})
        _ = engine.evaluator, engine.study
        times = by_stage(profiled(lambda: engine.search(trials)))
    shares = {"outside": outside(times), "strictly": outside(times, WORK)}
    return {"trials": trials, "seconds": times, **shares}


def ratio_table(found: Mapping[str, Any]) -> str:
    lines = ["| ratio | median | least | largest |", "|---|---|---|---|"]
    for name, values in found["ratios"].items():
        lines.append(f"| {name} | {' | '.join(f'{value:.2f}' for value in values.values())} |")
    lines += ["", "| part | median seconds |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in found["medians"].items()]
    return "\n".join(lines)


def stage_table(found: Mapping[str, Any]) -> str:
    whole = sum(found["seconds"].values())
    lines = ["| stage | seconds | share |", "|---|---|---|"]
    lines += [f"| {stage} | {value:.3f} | {value / whole:.1%} |" for stage, value in found["seconds"].items()]
    lines += [f"| outside forward passes and linear algebra | | {found['outside']:.1%} |"]
    return "\n".join([*lines, f"| with operators between | | {found['strictly']:.1%} |"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--macs", type=float, default=0.5, help="share of the dense MACs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--images", type=int, help="calibration and validation images at most")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("speed.json"))
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    record = Record(options.out, vars(options))
    session = open_session(options.study, images=options.images)
    parts = measure(session, options.macs, options.repeats)
    record.write(parts=parts)
    print(f"{ratio_table(parts)}\n", flush=True)
    search = search_stages(session, options.trials)
    record.write(parts=parts, search=search)
    print(stage_table(search))


if __name__ == "__main__":
    main()
