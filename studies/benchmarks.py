"""Speed and memory of the main job, measured; the numbers stand in LOG.md.

    python studies/benchmarks.py profile studies/cifar10-resnet56.toml
    python studies/benchmarks.py candidates studies/cifar10-resnet56.toml
    python studies/benchmarks.py memory studies/digits.toml --trials 300

`profile`: seconds for second moments, orders and curves of all groups. `candidates`: seconds for costs
and proxy losses of 10,000 random candidates. `memory`: resident memory at every tenth of a search.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from autoprune.config import load_study
from autoprune.searching.engine import Engine
from autoprune.session import Session


def open_engine(path: str, folder: str) -> Engine:
    """The study's engine on a storage that is thrown away."""
    config = load_study(path).model_copy(update={"storage": str(Path(folder) / "benchmark.journal")})
    return Session.open(config).engine


def profile(engine: Engine) -> None:
    start = time.perf_counter()
    _ = len(engine.bench.statistics.moments)
    middle = time.perf_counter()
    _ = engine.profile
    end = time.perf_counter()
    moments, curves = middle - start, end - middle
    print(f"second moments {moments:.1f} s, orders and curves {curves:.1f} s, all {moments + curves:.1f} s")


def candidates(engine: Engine, count: int = 10_000) -> None:
    space, batch = engine.space, engine.options.batch_removal[0]
    curves = engine.profile.curves(space.names, batch)
    rng = np.random.default_rng(0)
    counts = np.stack([rng.choice(option, count) for option in space.options], 1)
    start = time.perf_counter()
    space.costs(counts)
    middle = time.perf_counter()
    _ = sum(curve[column] for curve, column in zip(curves, counts.T, strict=True))
    end = time.perf_counter()
    print(f"{count} candidates: costs {middle - start:.3f} s, proxy losses {end - middle:.3f} s")


def memory(engine: Engine, trials: int) -> None:
    for total in range(trials // 10, trials + 1, trials // 10):
        start = time.perf_counter()
        engine.search(trials=total)
        seconds = (time.perf_counter() - start) / (trials // 10)
        print(f"{total} trials: {resident_mb()} MB resident, {seconds:.2f} s per trial", flush=True)


def resident_mb() -> int:
    """Resident memory of this process in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 // 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["profile", "candidates", "memory"])
    parser.add_argument("study")
    parser.add_argument("--trials", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(options.study, folder)
        if options.what == "memory":
            memory(engine, options.trials)
        else:
            {"profile": profile, "candidates": candidates}[options.what](engine)


if __name__ == "__main__":
    main()
