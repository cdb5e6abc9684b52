"""Which measurement picks the best of several candidates of equal MACs, judged on images it has not seen.

    python studies/compare/selection.py studies/cifar10-resnet20.toml --candidates 48 --out selection.json

Candidates are drawn around the knapsack solution, somewhat wider than the search draws before it has learned
anything: its curves scaled by random factors, solved again at --macs. Each is restored on few images (the
rung below the measurement) and on all, and measured on two halves of the validation images: accuracy, and
error of the outputs, which needs no labels. What a measurement on one half says is compared with the accuracy
on the other, both ways round: Spearman's correlation, and the mean accuracy of the best of --among
candidates, picked by it, over many random choices.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from autoprune.cli.progress import make_progress
from autoprune.searching.allocate import allocate, total_loss
from autoprune.searching.engine import Engine
from autoprune.searching.metrics.classification import margins
from candidates import open_session
from records import Record

SPREAD = 0.6
"""Standard deviation of the logarithm of the factors that scale the curves."""
CHOICES = 20_000
"""Random choices of --among candidates over which the picks are averaged."""
HALVES = ("A", "B")
Row = dict[str, dict[str, float]]
Score = Callable[[Row, str], float]

SCORES: dict[str, Score] = {
    "accuracy": lambda row, half: row["full"][f"acc{half}"],
    "output error": lambda row, half: -row["full"][f"err{half}"],
    "output error of the rung": lambda row, half: -row["rung"][f"err{half}"],
    "accuracy of the rung": lambda row, half: row["rung"][f"acc{half}"],
    "smooth accuracy": lambda row, half: row["full"][f"smooth{half}"],
    "smooth accuracy of the rung": lambda row, half: row["rung"][f"smooth{half}"],
    "additive proxy (sees neither half)": lambda row, half: -row["curves"]["additive"],
}


class Judge:
    """Accuracy, its smooth form and output error of a network on each half of the validation images."""

    def __init__(self, engine: Engine) -> None:
        self.probe = list(engine.task.probe)
        self.labels = torch.cat([labels for _, labels in engine.task.metric.batches])  # type: ignore[attr-defined]
        self.dense = self._outputs(engine.task.model)
        self.power = (self.dense - self.dense.mean(0)).square().sum(1).mean()

    def __call__(self, network: nn.Module) -> dict[str, float]:
        outputs = self._outputs(network)
        right = (outputs.argmax(1) == self.labels).double()
        error = (outputs - self.dense).square().sum(1) / self.power
        middle = len(right) // 2
        parts = dict(zip(HALVES, (slice(0, middle), slice(middle, None)), strict=True))
        found = {"acc": right, "smooth": margins(outputs, self.labels).double().sigmoid(), "err": error}
        return {
            f"{name}{half}": float(v[part].mean())
            for name, v in found.items()
            for half, part in parts.items()
        }

    @torch.no_grad()
    def _outputs(self, network: nn.Module) -> Tensor:
        return torch.cat([batch.call(network) for batch in self.probe])


def measured(engine: Engine, macs: float, count: int, seed: int) -> Iterator[Row]:
    space = engine.space.within({"macs": int(macs * engine.cost.dense_macs)})
    batch, rng, judge = engine.options.batch_removal[0], np.random.default_rng(seed), Judge(engine)
    curves, rung = engine.profile.curves(space.names, batch), engine.rung
    for number in range(count):
        # The first is the knapsack solution itself.
        factors = [np.exp(SPREAD * rng.normal() * (number > 0)) for _ in curves]
        counts = allocate(space, [f * curve for f, curve in zip(factors, curves, strict=True)])
        kept = engine.profile.kept(space.widths(counts), batch)
        yield {
            "curves": {"additive": total_loss(curves, counts)},
            "rung": judge(rung.restored(kept)),
            "full": judge(engine.evaluator.restored(kept)),
        }


def summary(rows: list[Row], among: int) -> dict[str, dict[str, float]]:
    """Of each score: correlation with the accuracy on the other half, and what its pick has there."""
    rng = np.random.default_rng(0)
    choices = np.array([rng.choice(len(rows), among, replace=False) for _ in range(CHOICES)])
    found = {}
    for name, score in SCORES.items():
        pairs = [
            (np.array([score(r, h) for r in rows]), np.array([r["full"][f"acc{o}"] for r in rows]))
            for h, o in (HALVES, HALVES[::-1])
        ]
        found[name] = {
            "spearman": float(np.mean([_correlation(*pair) for pair in pairs])),
            "picked": float(np.mean([_picked(choices, *pair) for pair in pairs])),
        }
    return found


def _correlation(scores: np.ndarray, accuracies: np.ndarray) -> float:
    """Spearman's; not a number where either side is the same for all."""
    if np.ptp(scores) == 0 or np.ptp(accuracies) == 0:
        return float("nan")
    return float(spearmanr(scores, accuracies)[0])


def _picked(choices: np.ndarray, scores: np.ndarray, accuracies: np.ndarray) -> float:
    best = choices[np.arange(len(choices)), scores[choices].argmax(1)]
    return float(accuracies[best].mean())


def table(rows: list[Row], found: dict[str, dict[str, float]], among: int) -> str:
    mean = np.mean([row["full"][f"acc{half}"] for row in rows for half in HALVES])
    lines = [
        f"| measured on one half | Spearman with accuracy on the other | best of {among} there |",
        "|---|---|---|",
    ]
    lines += [f"| {n} | {v['spearman']:.2f} | {v['picked']:.2%} |" for n, v in found.items()]
    return "\n".join([*lines, f"| none: any of the {len(rows)} | | {mean:.2%} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--candidates", type=int, default=48)
    parser.add_argument("--among", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    engine = open_session(options.study, device=options.device).engine
    record, rows = Record(options.out, vars(options), options.device or "cpu"), list[Row]()
    with make_progress(False).stage("candidates", options.candidates) as stage:
        for row in measured(engine, options.macs, options.candidates, options.seed):
            rows.append(row)
            record.write(rows=rows)
            stage.advance(1, "")
    found = summary(rows, options.among)
    record.write(rows=rows, summary=found)
    print(table(rows, found, options.among))


if __name__ == "__main__":
    main()
