"""One contestant at one budget: what it chose, restored in every way, measured and timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from contestants.restoring import RESTORATIONS
from contestants.ring import Choice, Contestant, LeftOut, Ring

Record = dict[str, Any]


def bout(contestant: Contestant, ring: Ring) -> Iterator[Record]:
    """A record per restoration, with the accuracies, or with `error`: nothing that fails ends the run.

    CPU seconds are those of the contestant's own work: its choice and this restoration, without measuring.
    """
    head = {"contestant": contestant.name, "budget": ring.share}
    torch.manual_seed(ring.settings.seed)
    start = time.process_time()
    try:
        choice = contestant.choose(ring)
        spent = time.process_time() - start + ring.charged
        _check(ring, choice)
    except Exception as error:  # whatever a package raises is its result
        yield {**head, "error": reason(error), "cpu_seconds": time.process_time() - start + ring.charged}
        return
    for name in contestant.restorations:
        yield {**head, "restored": name, **_restored(ring, choice, name, spent)}


def _restored(ring: Ring, choice: Choice, name: str, spent: float) -> Record:
    start = time.process_time()
    try:
        network = RESTORATIONS[name](ring, choice).eval()
        seconds = spent + time.process_time() - start
        return {
            "macs_ratio": ring.macs(network) / ring.session.engine.cost.dense_macs,
            "evaluations": ring.evaluations,
            "cpu_seconds": seconds,
            **measured(ring, network),
        }
    except Exception as error:
        return {"error": reason(error)}


def measured(ring: Ring, network: nn.Module) -> Record:
    """Both splits, once, when nothing is left to decide."""
    return {split: ring.session.evaluate(network, split)[0] for split in ("validation", "test")}


def _check(ring: Ring, choice: Choice) -> None:
    if not ring.fits(choice.network):
        share = ring.macs(choice.network) / ring.session.engine.cost.dense_macs
        raise LeftOut(f"the fewest MACs that it reached are {share:.1%} of dense")


def reason(error: Exception) -> str:
    """The first line, with the kind of error unless the comparison itself left the contestant out."""
    line = (str(error).strip().splitlines() or [""])[0]
    return line if isinstance(error, LeftOut) else f"{type(error).__name__}: {line}"
