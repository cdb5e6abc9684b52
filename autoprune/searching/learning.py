"""What a study trains: its candidates, where a recovery does, and the dense network for its history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from optuna import Study
from torch import nn

from autoprune.components import create
from autoprune.config import TrainingConfig
from autoprune.errors import DataError
from autoprune.graph import ChannelGraph
from autoprune.graph.groups import Kept
from autoprune.progress import Progress
from autoprune.searching import attributes as attr
from autoprune.searching.judged_by import trained_so
from autoprune.searching.options import Options, Task
from autoprune.searching.recovering import Recoverer, study_history
from autoprune.storing.artifacts import Artifacts
from autoprune.storing.claims import Claims
from autoprune.training.data import TrainingData
from autoprune.training.history import History
from autoprune.training.recording import record_history
from autoprune.training.recoveries import recoveries


@dataclass(frozen=True, kw_only=True)
class Learning:
    """The trainings of one study; `restored` gives a candidate in closed form, which training starts from."""

    task: Task
    options: Options
    graph: ChannelGraph
    study: Callable[[], Study]
    artifacts: Artifacts
    restored: Callable[[Kept], nn.Module]
    progress: Progress

    def check(self) -> None:
        """AutopruneError where images to train on, a place for weights or a fitting history are missing."""
        records = self.options.needs_history and self.task.history is None
        if self.options.trains or self.options.needs_history:
            self.artifacts.check()
        if self.options.trains or records:
            _ = self._settings, self._data()
        if self.task.history is not None:
            self.task.history.check(self.task.model, self.graph, "the history of [model]")

    def identity(self) -> dict[str, str]:
        """What trials were trained on must stay the same when a study continues, where it can be known."""
        data = self._data().identity()["data"] if self.options.trains else None
        return {} if data is None else {attr.TRAINING_DATA: data}

    @cached_property
    def recoverer(self) -> Recoverer:
        """Trains candidates; only where the recovery does."""
        options = self.options
        return Recoverer(
            name=options.recovery,
            recovery=create(recoveries, options.recovery, options.recovery_options),
            model=self.task.model,
            graph=self.graph,
            data=self._data(),
            settings=self._settings,
            metric=self.task.metric,
            restored=self.restored,
            history=lambda: self.history,
            artifacts=self.artifacts,
            seed=options.seed,
            progress=self.progress,
        )

    @cached_property
    def history(self) -> History:
        """Of the dense network's training: as given, or recorded once in the study's first search."""
        claims = Claims(self.study(), self.progress.message)
        history = study_history(claims, self.artifacts, lambda: self.task.history or self._recorded())
        return history.check(self.task.model, self.graph, "the history of the study")

    def _recorded(self) -> History:
        options = self.options
        return record_history(
            self.task.model,
            self.graph,
            data=self._data(),
            settings=self._settings,
            epochs=options.history_epochs,
            seed=options.seed,
            progress=self.progress,
        )

    @property
    def _settings(self) -> TrainingConfig:
        return trained_so(self.options.training, self.task.metric)

    def _data(self) -> TrainingData:
        if self.task.training is None:
            raise DataError(
                f"recovery '{self.options.recovery}', criterion '{self.options.criterion}': wanted "
                "labelled training images, got none; use a dataset with a training split, or pass training."
            )
        settings = self.options.training
        return TrainingData.of(self.task.training, images=settings.images, workers=settings.workers)
