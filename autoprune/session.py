"""A study file put to work: its model and data loaded, and the engine that searches them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from optuna import Study
from optuna.storages import BaseStorage
from torch import nn
from torch.utils.data import Dataset

from autoprune.config import StudyConfig
from autoprune.data import Inputs, as_batches, data_fingerprint, load_splits, loader
from autoprune.data.inputs import mixed, most_inputs
from autoprune.data.splits import Splits
from autoprune.errors import ConfigError
from autoprune.fingerprint import fingerprint
from autoprune.graph import ChannelGraph
from autoprune.models import load_model
from autoprune.progress import Progress, Silent
from autoprune.searching.engine import Engine, Options, Task
from autoprune.searching.evaluator import checked
from autoprune.searching.front import Front, Point
from autoprune.searching.metric_scale import MetricScale
from autoprune.searching.metrics import LabelledMetric, find_metric, scale_of
from autoprune.searching.running import never
from autoprune.storing.artifacts import open_artifacts
from autoprune.storing.storages import open_storage
from autoprune.training.history import History


class Session:
    """One study with its model and data at hand. Use `Session.open`."""

    def __init__(self, config: StudyConfig, splits: Splits, engine: Engine, device: torch.device) -> None:
        self.config, self.splits, self.engine, self.device = config, splits, engine, device

    @classmethod
    def open(
        cls,
        config: StudyConfig,
        *,
        device: str | None = None,
        progress: Progress | None = None,
        storage: BaseStorage | None = None,
        searches: bool = True,
    ) -> Session:
        """Load data and model and find the groups; everything that can be wrong is an AutopruneError here.

        `storage` stands in for the study's own, which is opened, and created where it is absent. Without
        `searches` what only a search reads (its budget, its strategy) is not asked to fit.
        """
        options = options_of(config)
        options.check_names()
        find_metric(config.data.metric)
        place = pick_device(device)
        storage = storage or open_storage(config.storage)
        splits = load_splits(config.data)
        model = load_model(config.model, train=splits.train, seed=config.search.seed).to(place).eval()
        artifacts = open_artifacts(config.artifacts, config.storage)
        task = _task(config, splits, model, place)
        engine = Engine(task, options, storage, progress or Silent(), artifacts)
        (engine.check if searches else engine.check_inputs)()
        return cls(config, splits, engine, place)

    @property
    def model(self) -> nn.Module:
        return self.engine.task.model

    @property
    def metric(self) -> MetricScale:
        """What networks are judged by: its name, and how to print it."""
        return scale_of(self.engine.task.metric)

    @property
    def graph(self) -> ChannelGraph:
        return self.engine.graph

    def search(
        self,
        *,
        trials: int | None = None,
        timeout: float | None = None,
        stop: Callable[[], bool] = never,
        run: str | None = None,
    ) -> Front:
        """Continue the study to `trials` finished trials in total (the study file's number by default).

        Ends early after `timeout` seconds, when `stop()`, asked between trials, says so, or on a request
        in the storage to stop this `run`, or all.
        """
        return self.engine.search(trials, timeout, stop, run)

    def prepare(self) -> Study:
        """The study, with what its workers share made already, see `Engine.prepare`."""
        return self.engine.prepare()

    def front(self) -> Front:
        return self.engine.front()

    def build(self, point: Point) -> nn.Module:
        return self.engine.build(point)

    def rebuild(
        self, point: Point, reconstruction: str, options: Mapping[str, Any]
    ) -> tuple[nn.Module, Point]:
        """The point restored in another way, and the point with the validation accuracy and the output error
        that this gives."""
        network = self.engine.rebuild(point, reconstruction, options)
        error = self.engine.evaluator.output_error(network)
        return network, replace(point, accuracy=self.evaluate(network, "validation")[0], output_error=error)

    def evaluate(self, network: nn.Module, split: str) -> tuple[float, int]:
        """The study's metric, higher is better, and the number of images; split is `validation` or `test`.

        DataError where the metric is no finite number.
        """
        if split not in ("validation", "test"):
            raise ConfigError(f"split must be 'validation' or 'test', got '{split}'.")
        dataset = self.splits.validation if split == "validation" else self.splits.test
        metric = _metric(self.config, dataset, self.device)
        return checked(metric(network)), metric.images

    def example(self) -> Inputs:
        """A batch of one calibration input."""
        return self.engine.example


def pick_device(name: str | None) -> torch.device:
    """The named device; ConfigError when this machine does not have it. CPU by default."""
    try:
        device = torch.device(name or "cpu")
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"device '{name}' cannot be used: {reason} Use cpu, cuda or cuda:N.") from error
    return device


def options_of(config: StudyConfig) -> Options:
    search, reconstruction = config.search, config.reconstruction
    return Options(
        trials=search.trials,
        objective=search.objective,
        latency_batch=search.latency_batch,
        budget=search.budget.bounds,
        multiple_of=search.multiple_of,
        min_kept=search.min_kept,
        seed=search.seed,
        criterion=search.criterion,
        criterion_options=search.criterion_options,
        batch_removal=search.batch_removal,
        strategy=search.strategy,
        strategy_options=search.strategy_options,
        ignore=search.ignore,
        caps=search.caps,
        reconstruction=reconstruction.method,
        reconstruction_options=reconstruction.options,
        damping=reconstruction.damping,
        batch_norm=reconstruction.batch_norm,
        recovery=config.recovery.method,
        recovery_options=config.recovery.options,
        training=config.training,
        history_epochs=config.model.history_epochs,
    )


def _task(config: StudyConfig, splits: Splits, model: nn.Module, device: torch.device) -> Task:
    batch_size = config.data.batch_size
    metric = _metric(config, splits.validation, device)
    batches = as_batches(splits.calibration, batch_size, most_inputs(model))
    chunks = [inputs.to(device) for inputs in batches]
    if ":" in config.data.dataset:
        # Ours come as samples; a user's may come class by class, and some steps read the first ones alone.
        metric, chunks = metric.mixed(), [mixed(chunks)]
    history = None if config.model.history is None else History.load(config.model.history)
    prints = {} if history is None else {"history": history.fingerprint}
    return Task(
        name=config.name,
        model=model,
        chunks=chunks,
        probe=metric.inputs,
        metric=metric,
        fingerprints={"model": fingerprint(model), "data": data_fingerprint(splits), **prints},
        training=splits.train,
        history=history,
    )


def _metric(config: StudyConfig, dataset: Dataset[Any], device: torch.device) -> LabelledMetric:
    return find_metric(config.data.metric)(loader(dataset, config.data.batch_size, device), device)
