"""Fronts judged again on images that no search has looked at.

The more candidates a search measures, the more of the luck of its validation images its front has. Here the
accuracy that was seen chooses the front, and the accuracy on other images says what it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autoprune.searching.engine import Engine
from autoprune.searching.hypervolume import history, hypervolume
from autoprune.searching.metrics import LabelledMetric

Run = dict[str, Any]
Points = Sequence[tuple[float, float]]


def lacks_judgement(run: Run) -> bool:
    """Records of earlier runs may say what was measured, and were not judged on other images."""
    return "candidates" in run and "unseen" not in run


def judged(run: Run, engine: Engine, whole: LabelledMetric) -> Run:
    """With the accuracy of all that were ever on the front on the images of `whole` behind those of the
    engine's metric, where there are any; None for all others."""
    seen = engine.task.metric
    assert isinstance(seen, LabelledMetric)
    others = whole.images - seen.images
    if not others:
        return run
    joined = np.diff(history(run["points"]), prepend=0.0) > 0
    found: list[float | None] = []
    for (widths, batch), on in zip(run["candidates"], joined, strict=True):
        network = engine.evaluator.restored(engine.profile.kept(widths, batch)) if on else None
        right = None if network is None else whole(network) * whole.images - seen(network) * seen.images
        found.append(None if right is None else right / others)
    return run | {"unseen": found}


def volume(run: Run, trials: int, chance: float) -> float:
    """Hypervolume on unseen images of the front of so many trials."""
    points = run["points"][:trials]
    pairs = [(run["unseen"][place], points[place][1]) for place in _front(points)]
    return hypervolume([(a, c) for a, c in pairs if a is not None], accuracy=chance)


def _front(points: Points) -> list[int]:
    best, found = 0.0, []
    for place in sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0])):
        if points[place][0] > best:
            best = points[place][0]
            found.append(place)
    return found


def table(runs: dict[str, list[Run]], lengths: Sequence[int], chance: float) -> str:
    """Mean over the judged runs of each contestant at these lengths."""
    lines = [f"| on unseen images | {' | '.join(map(str, lengths))} |", "|---" * (len(lengths) + 1) + "|"]
    for name, those in runs.items():
        known = [run for run in those if "unseen" in run]
        if known:
            longest = min(len(run["points"]) for run in known)
            means = {n: np.mean([volume(run, n, chance) for run in known]) for n in lengths if n <= longest}
            cells = [f"{means[n]:.4f}" if n in means else "-" for n in lengths]
            lines.append(f"| {name} ({len(known)} seeds) | {' | '.join(cells)} |")
    return "\n".join(lines)
