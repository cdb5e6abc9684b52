"""Recovery by fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from autoprune.errors import PlanError
from autoprune.graph.reslicing import check_nested, reslice
from autoprune.training.recovery import Job, Recovery, Trained, recoveries


@recoveries.register("fine-tune")
@dataclass(frozen=True, kw_only=True)
class FineTune(Recovery):
    """Fine-tunes every candidate as [training] says; the epoch with the best metric counts.

    `start` is the reconstructed candidate, or with "parent" the trained network of the trial that the
    strategy continues from, cut to the channels proposed. Where there is no such trial, or a proposal has
    channels that it lacks, the start is the reconstruction; the latter is said in a message.
    """

    start: Literal["reconstruction", "parent"] = "reconstruction"

    @property
    def needs_parent(self) -> bool:
        return self.start == "parent"

    def recover(self, job: Job) -> Trained:
        network = self._start(job)
        history = job.train(network, "fine-tune")
        return Trained(network=network, kept=job.kept, history=history)

    def _start(self, job: Job) -> nn.Module:
        if self.start == "reconstruction" or job.parent is None:
            return job.restored(job.kept)
        try:
            check_nested(job.graph, job.parent.kept, job.kept)
        except PlanError as error:
            job.progress.message(f"starting from the reconstruction, not from the parent: {error}")
            return job.restored(job.kept)
        return reslice(job.model, job.graph, job.parent.network, job.parent.kept, job.kept)
