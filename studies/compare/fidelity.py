"""Fidelity: how well each rung of the ladder ranks random candidates of equal MACs.

    python studies/compare/fidelity.py studies/cifar10-resnet20.toml --out fidelity.json --plot fidelity.svg

Candidates have random rates: a weight per group, uniform in 0..1, times the least common factor that meets
the budget; only those within 1 % of the dense MACs below it count. Each is judged by the additive proxy,
restored independently on few images, restored as the study does it on few images (the rung below the
measurement), and measured: restored on all calibration images, validation accuracy. The table gives Spearman
correlations with that accuracy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from autoprune.cli.progress import make_progress
from autoprune.searching.allocate import total_loss
from autoprune.searching.engine import Engine
from autoprune.searching.fidelity import Fidelity, pooled
from autoprune.searching.strategies.base import ADDITIVE, ON_FEW
from autoprune.searching.strategies.uniform import scaled_rates
from candidates import open_session
from plots import Panel, Series, draw, require
from records import Record

HIGHEST = 0.95
INDEPENDENT = "independent"
ERROR, ACCURACY = "output_error", "accuracy"
RUNGS = (ADDITIVE, INDEPENDENT, ON_FEW, ERROR)
NAMES = {
    ADDITIVE: "additive proxy",
    INDEPENDENT: "independent, few images",
    ON_FEW: "as the study restores, few images",
    ERROR: "as the study restores, all images: output error",
}


def candidates(engine: Engine, macs: float, count: int, seed: int) -> Iterator[np.ndarray]:
    """Widths (groups,) of `count` different random candidates."""
    space = engine.space.within({"macs": int(macs * engine.cost.dense_macs)})
    rng, seen = np.random.default_rng(seed), set[tuple[int, ...]]()
    while len(seen) < count:
        counts = scaled_rates(space, rng.uniform(0, 1, len(space.names)), HIGHEST)
        if counts is None or tuple(counts) in seen:
            continue
        if space.costs(counts[None])["macs"][0] >= (macs - 0.01) * engine.cost.dense_macs:
            seen.add(tuple(counts))
            yield counts


def judged(engine: Engine, counts: np.ndarray) -> dict[str, float]:
    widths, batch = engine.space.widths(counts), engine.options.batch_removal[0]
    kept = engine.profile.kept(widths, batch)
    measured = engine.evaluator.measure(kept, lambda accuracy, latency: False)
    return {
        ADDITIVE: total_loss(engine.profile.curves(engine.space.names, batch), counts),
        INDEPENDENT: engine.workshop.assess(widths, batch, "last-layer-error", 256),
        ON_FEW: engine.workshop.error_on_few(widths, batch),
        ERROR: measured.output_error,
        ACCURACY: measured.accuracy,
        "macs_ratio": float(engine.space.costs(counts[None])["macs"][0]) / engine.cost.dense_macs,
    }


def correlations(rows: list[dict[str, float]]) -> dict[str, Fidelity]:
    accuracies = [row[ACCURACY] for row in rows]
    found = {name: pooled([([row[name] for row in rows], accuracies)]) for name in RUNGS}
    return {name: fidelity for name, fidelity in found.items() if fidelity is not None}


def table(found: dict[str, Fidelity]) -> str:
    lines = ["| rung | Spearman with measured accuracy | 95 % interval | candidates |", "|---|---|---|---|"]
    for name, fidelity in found.items():
        interval = f"{fidelity.low:.3f} to {fidelity.high:.3f}"
        lines.append(f"| {NAMES[name]} | {fidelity.correlation:.3f} | {interval} | {fidelity.trials} |")
    return "\n".join(lines)


def plot(rows: list[dict[str, float]], found: dict[str, Fidelity], path: Path) -> None:
    panels = [
        Panel(
            title=f"{NAMES[name]}: {found[name].correlation:.2f}",
            x_label="proxy, lower is better",
            y_label="validation accuracy",
            series=[Series("candidates", [r[name] for r in rows], [r[ACCURACY] for r in rows], style="dots")],
        )
        for name in (ADDITIVE, ON_FEW)
    ]
    draw(panels, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.plot:
        require()
    engine = open_session(options.study, device=options.device).engine
    record = Record(options.out, vars(options), options.device or "cpu")
    rows: list[dict[str, float]] = []
    with make_progress(False).stage("candidates", options.candidates) as stage:
        for counts in candidates(engine, options.macs, options.candidates, options.seed):
            rows.append(judged(engine, counts))
            record.write(rows=rows)
            stage.advance(1, "")
    found = correlations(rows)
    record.write(rows=rows, fidelity={name: vars(fidelity) for name, fidelity in found.items()})
    print(table(found))
    if options.plot:
        plot(rows, found, options.plot)


if __name__ == "__main__":
    main()
