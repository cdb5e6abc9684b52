"""Candidates that comparisons of speed work on, and the plain forward passes they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from autoprune.config import StudyConfig, load_study
from autoprune.data.inputs import Inputs, fast_batches
from autoprune.graph.groups import Kept
from autoprune.searching.allocate import allocate
from autoprune.searching.engine import Engine
from autoprune.session import Session
from autoprune.storing.storages import open_storage
from timing import Work, forward, interleaved, medians

Batches = Sequence[Inputs]


def open_session(study: str, *, images: int | None = None, device: str | None = None) -> Session:
    """The study on a storage in memory, with so many calibration and validation images at most."""
    config = load_study(study)
    config = config if images is None else with_images(config, images)
    return Session.open(config, device=device, storage=open_storage(None))


def with_images(config: StudyConfig, images: int) -> StudyConfig:
    data = config.data.model_copy(update={"calibration_images": images, "validation_images": images})
    return config.model_copy(update={"data": data})


def knapsack_candidate(engine: Engine, macs: float, batch: int = 1) -> Kept:
    """The channels of the best candidate by the curves within a share of the MACs."""
    space = engine.space.within({"macs": int(macs * engine.cost.dense_macs)})
    counts = allocate(space, engine.profile.curves(space.names, batch))
    return engine.profile.kept(space.widths(counts), batch)


def uniform_candidate(engine: Engine, share: float) -> Kept:
    """The first channels of every group, an equal share of each: needs no profile."""
    widths = {name: engine.graph[name].width for name in engine.space.names}
    return {name: torch.arange(max(1, round(share * width))) for name, width in widths.items()}


def prepare(engine: Engine) -> None:
    """Everything that is made once a search and not once a candidate."""
    _ = engine.profile, engine.evaluator, engine.bench.targets


def restoring(engine: Engine, network: nn.Module, kept: Kept) -> Work:
    """One reconstruction of a network that is this candidate as sliced."""
    return lambda: engine.reconstruction.restore(engine.bench, network, kept)


def faster(network: nn.Module, chunks: Batches, device: torch.device) -> tuple[str, Batches]:
    """The batching of the same images whose forward pass takes less time, and its name."""
    cut = [part for chunk in chunks for part in fast_batches(chunk)]
    found = {"fast batches": cut, "chunks": chunks}
    works = {name: partial(forward, network, batches) for name, batches in found.items()}
    times = medians(interleaved(works, 1, device))
    best = min(times, key=times.__getitem__)
    return best, found[best]
