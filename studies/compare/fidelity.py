"""Fidelity: how well each rung of the ladder ranks random candidates of equal MACs.

    python studies/compare/fidelity.py studies/cifar10-resnet20.toml --out fidelity.json --plot fidelity.svg

Candidates have random rates: a weight per group, uniform in 0..1, times the least common factor that meets
the budget; only those within 1 % of the dense MACs below it count. Each is judged by the additive proxy,
restored independently on few images, restored as the study does it on few images (the rung below the
measurement), and measured: restored on all calibration images, validation accuracy. The table gives Spearman
correlations with that accuracy; `--images` adds rungs on so many calibration images, judged by accuracy on
the validation images themselves. The last line says how far a judge can get that does not share the luck of
these images: the root of the measurement's reliability, which the accuracies on their two halves give
(Spearman, 1910; Brown, 1910).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from autoprune.cli.progress import make_progress
from autoprune.searching.allocate import total_loss
from autoprune.searching.engine import Engine
from autoprune.searching.evaluator import Evaluator
from autoprune.searching.fidelity import Fidelity, pooled, spearman
from autoprune.searching.strategies.base import ADDITIVE, LOSS_ON_FEW, ON_FEW
from autoprune.searching.strategies.uniform import scaled_rates
from candidates import open_session
from plots import Panel, Series, draw, require
from records import Record
from selection import HALVES, Judge

HIGHEST = 0.95
ATTEMPTS = 100
"""Random draws per wanted candidate, of which few may come near the budget."""
INDEPENDENT = "independent"
ERROR, ACCURACY = "output_error", "accuracy"
NAMES = {
    ADDITIVE: "additive proxy",
    INDEPENDENT: "independent, few images",
    ON_FEW: "as the study restores, few images: output error",
    LOSS_ON_FEW: "as the study restores, few images: smooth accuracy (what the search ranks by)",
    ERROR: "as the study restores, all images: output error",
}


def candidates(engine: Engine, macs: float, count: int, seed: int) -> Iterator[np.ndarray]:
    """Widths (groups,) of `count` different random candidates; fewer where a small network has no more."""
    space = engine.space.within({"macs": int(macs * engine.cost.dense_macs)})
    rng, seen = np.random.default_rng(seed), set[tuple[int, ...]]()
    for _ in range(ATTEMPTS * count):
        counts = scaled_rates(space, rng.uniform(0, 1, len(space.names)), HIGHEST)
        if counts is None or tuple(counts) in seen:
            continue
        if space.costs(counts[None])["macs"][0] >= (macs - 0.01) * engine.cost.dense_macs:
            seen.add(tuple(counts))
            yield counts
        if len(seen) == count:
            return


class Rungs:
    """All that judges a candidate; `images` are the rungs that are judged by accuracy."""

    def __init__(self, engine: Engine, images: Sequence[int]) -> None:
        self.engine, self.judge = engine, Judge(engine)
        self.rungs: dict[str, Evaluator] = {named(n): engine.ladder.on_few(n) for n in images}

    def __call__(self, counts: np.ndarray) -> dict[str, float]:
        engine = self.engine
        widths, batch = engine.space.widths(counts), engine.options.batch_removal[0]
        kept = engine.profile.kept(widths, batch)
        found = {name: -mean(self.judge(rung.restored(kept)), "acc") for name, rung in self.rungs.items()}
        measured = self.judge(engine.evaluator.restored(kept))
        return found | {
            ADDITIVE: total_loss(engine.profile.curves(engine.space.names, batch), counts),
            INDEPENDENT: engine.workshop.assess(widths, batch, "last-layer-error", 256),
            **engine.workshop.on_few(widths, batch).proxies,
            ERROR: mean(measured, "err"),
            ACCURACY: mean(measured, "acc"),
            **{half: measured[f"acc{half}"] for half in HALVES},
            "macs_ratio": float(engine.space.costs(counts[None])["macs"][0]) / engine.cost.dense_macs,
        }


def named(images: int) -> str:
    return f"as the study restores, {images} images: accuracy"


def mean(found: dict[str, float], what: str) -> float:
    return sum(found[f"{what}{half}"] for half in HALVES) / len(HALVES)


def correlations(rows: list[dict[str, float]]) -> dict[str, Fidelity]:
    """Of every rung with the measured accuracy; rungs are better when lower."""
    accuracies = [row[ACCURACY] for row in rows]
    rungs = [name for name in rows[0] if name not in (ACCURACY, "macs_ratio", *HALVES)]
    found = {name: pooled([([row[name] for row in rows], accuracies)]) for name in rungs}
    return {name: fidelity for name, fidelity in found.items() if fidelity is not None}


def ceiling(rows: list[dict[str, float]]) -> float:
    """Correlation with the measured accuracy of a judge that knows the true one."""
    halves = [[row[half] for row in rows] for half in HALVES]
    agreement = max(0.0, spearman(*halves))
    return math.sqrt(2 * agreement / (1 + agreement))


def table(rows: list[dict[str, float]], found: dict[str, Fidelity]) -> str:
    lines = ["| rung | Spearman with measured accuracy | 95 % interval | candidates |", "|---|---|---|---|"]
    for name, fidelity in found.items():
        interval = f"{fidelity.low:.3f} to {fidelity.high:.3f}"
        cells = (NAMES.get(name, name), f"{fidelity.correlation:.3f}", interval, str(fidelity.trials))
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"| a judge that knows the accuracy on all images there are | {ceiling(rows):.3f} | | |")
    return "\n".join(lines)


def plot(rows: list[dict[str, float]], found: dict[str, Fidelity], path: Path) -> None:
    panels = [
        Panel(
            title=f"{NAMES[name]}: {found[name].correlation:.2f}",
            x_label="proxy, lower is better",
            y_label="validation accuracy",
            series=[Series("candidates", [r[name] for r in rows], [r[ACCURACY] for r in rows], style="dots")],
        )
        for name in (ADDITIVE, LOSS_ON_FEW)
    ]
    draw(panels, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--images", type=int, nargs="*", default=[], help="rungs judged by accuracy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.plot:
        require()
    engine = open_session(options.study, device=options.device).engine
    record = Record(options.out, vars(options), options.device or "cpu")
    judged, rows = Rungs(engine, options.images), list[dict[str, float]]()
    with make_progress(False).stage("candidates", options.candidates) as stage:
        for counts in candidates(engine, options.macs, options.candidates, options.seed):
            rows.append(judged(counts))
            record.write(rows=rows)
            stage.advance(1, "")
    found = correlations(rows)
    values = {name: vars(fidelity) for name, fidelity in found.items()}
    record.write(rows=rows, fidelity=values, ceiling=ceiling(rows))
    print(table(rows, found))
    if options.plot:
        plot(rows, found, options.plot)


if __name__ == "__main__":
    main()
