"""Latencies of one task's networks, measured as its study measures them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from autoprune.data.inputs import Inputs
from autoprune.errors import StudyError
from autoprune.graph import ChannelGraph
from autoprune.graph.groups import Kept
from autoprune.graph.slicing import Slicer
from autoprune.latency import Latency, Timing
from autoprune.latency.measuring import first_channels, measure_table, steps
from autoprune.latency.place import device_name
from autoprune.latency.table import Table
from autoprune.latency.timing import example_batch
from autoprune.progress import Progress
from autoprune.searching.options import Options, Task
from autoprune.searching.space import LATENCY, Space, check_reachable, unreachable
from autoprune.searching.stored import StoredPlace


@dataclass(kw_only=True)
class Stopwatch:
    """`stored()` is the place of the study's measurements, `make_timing(batch, threads)` times networks."""

    task: Task
    options: Options
    graph: ChannelGraph
    make_timing: Callable[[Inputs, int], Timing]
    stored: Callable[[], StoredPlace]
    progress: Progress

    def here(self) -> dict[str, Any]:
        """The place of a study that begins now."""
        threads, batch = torch.get_num_threads(), self.options.latency_batch
        return {"device": device_name(self.task.device), "batch": batch, "threads": threads}

    @cached_property
    def timing(self) -> Timing:
        """Times networks as the study always does, however many threads this worker has."""
        return self._timing(self.stored().threads)

    def dense(self, space: Space) -> Latency:
        """Of the dense network; BudgetError where not even the narrowest candidate is within the budget."""
        timing = self._timing(torch.get_num_threads())
        dense, bound = timing.whole(self.task.model), self.options.budget.get(LATENCY)
        if bound is not None:
            kept = first_channels(self.graph, space.floor)
            least = timing.whole(Slicer(self.task.model, self.graph).build(kept).eval())
            if least.ms > bound:
                raise unreachable(LATENCY, bound, least.ms, dense.ms)
        return dense

    def check(self, space: Space) -> None:
        """Before long work: StudyError on another device than the study's, BudgetError out of reach."""
        here, stored = device_name(self.task.device), self.stored().device
        if here != stored:
            raise StudyError(
                f"study '{self.task.name}' times its networks on '{stored}', this is '{here}'; go on there, "
                "or choose another name: latencies of two devices do not compare."
            )
        bound = self.options.budget.get(LATENCY)
        if bound is not None:
            check_reachable(space, {LATENCY: bound})

    def table(self, space: Space) -> Table:
        """What layers and groups of the widths in `space` cost; takes seconds to minutes."""
        slicer, dense = Slicer(self.task.model, self.graph), self.graph.all_kept()
        network = slicer.build(dense).eval()

        def sliced(kept: Kept) -> nn.Module:
            complete = {**dense, **kept}
            slicer.apply(network, slicer.state(complete), complete)
            return network

        with self.progress.stage("time", steps(space.options, self.graph)) as stage:
            return measure_table(
                self.graph,
                space.options,
                self.timing,
                sliced,
                seed=self.options.seed,
                progress=stage.advance,
            )

    def _timing(self, threads: int) -> Timing:
        return self.make_timing(example_batch(self.task.chunks, self.options.latency_batch), threads)
