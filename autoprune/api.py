"""The library's front door: one function from a trained network to its Pareto front."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from autoprune.config import check_section, training_settings
from autoprune.data import Inputs, as_batches
from autoprune.data.hashes import fingerprint_of, fingerprint_of_samples, hashed
from autoprune.data.inputs import mixed, most_inputs
from autoprune.errors import ConfigError, DataError, ModelError
from autoprune.fingerprint import fingerprint
from autoprune.models.checking import check_model
from autoprune.paths import expanded
from autoprune.progress import Progress
from autoprune.searching.attributes import DATA, INPUTS, LABELS
from autoprune.searching.engine import Engine, Options, Task
from autoprune.searching.front import Front
from autoprune.searching.metrics import LabelledMetric, find_metric, name_of
from autoprune.session import pick_device
from autoprune.storing.artifacts import open_artifacts
from autoprune.storing.storages import open_storage
from autoprune.tensors import in_own_precision, plain
from autoprune.training.history import History


@in_own_precision
def search(
    model: nn.Module,
    *,
    calibration: Any,
    validation: Iterable[Any] | None = None,
    metric: str | Callable[[Any, Tensor], Any] = "accuracy",
    evaluate: Callable[[nn.Module], float] | None = None,
    trials: int = 100,
    timeout: float | None = None,
    budget: Mapping[str, float | int] | None = None,
    objective: str = "macs",
    latency_batch: int = 1,
    multiple_of: int = 1,
    min_kept: float = 0.05,
    ignore: Sequence[str] = (),
    caps: Mapping[str, float] | None = None,
    criterion: str = "second-moment",
    criterion_options: Mapping[str, Any] | None = None,
    batch_removal: Sequence[int] = (1, 2, 4),
    strategy: str = "knapsack",
    strategy_options: Mapping[str, Any] | None = None,
    reconstruction: str = "sequential",
    reconstruction_options: Mapping[str, Any] | None = None,
    damping: float = 1e-3,
    batch_norm: bool = False,
    recovery: str = "none",
    recovery_options: Mapping[str, Any] | None = None,
    training: Dataset[Any] | None = None,
    training_options: Mapping[str, Any] | None = None,
    history: History | str | Path | None = None,
    history_epochs: int = 2,
    seed: int = 0,
    name: str = "autoprune",
    storage: str | Path | None = None,
    artifacts: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> Front:
    """Search how many channels each layer of `model` can lose; the model itself is not changed.

    Images and judge:

    - `calibration`: unlabelled inputs: a tensor (images, ...), a tuple or dict of them, or a loader or list
      of such batches (class labels beside the inputs are left out); 256 to 2,048 images are usual.
    - `validation`: a loader of (inputs, labels) that the network was not trained on.
    - `metric`: what judges it, higher is better: accuracy, mean-iou, pixel-accuracy, r2, or a function
      `(outputs, labels) -> number` of a batch.
    - `evaluate`: a function `(model) -> float`, higher is better, in place of `validation` and `metric`. It
      gets a copy of each candidate, and runs without gradients (`recovery` trains candidates).

    What is searched:

    - `trials`: finished trials of the study in all, those of earlier calls included.
    - `timeout`: seconds after which no further trial starts; none by default.
    - `budget`: hard upper bounds by name: macs, params, bytes as a fraction of dense (up to 1) or absolute,
      latency_ms in milliseconds.
    - `objective`: the cost that the front runs over: macs, params, or latency, measured on `device` in
      batches of `latency_batch`.
    - `multiple_of`: kept widths are multiples of it.
    - `min_kept`: share of every group's channels that stays, 0 to 1.
    - `ignore`: patterns of module names that stay dense.
    - `caps`: pattern -> the greatest pruning rate, 0 to 1, of the groups that match; hard.
    - `seed`: same seed, same trials.

    How (`autoprune methods` lists the names, and the options of each):

    - `criterion`: the order in which the channels of a group go.
    - `batch_removal`: how many of them go before the next decision; a trial chooses among these.
    - `strategy`: what proposes widths.
    - `reconstruction`: what restores the weights of a candidate, without labels.
    - `damping`: of every least-squares fit, relative to the mean diagonal of its second moments.
    - `batch_norm`: whether to estimate the statistics of batch norms again behind that.
    - `recovery`: what trains every candidate, on `training`, a dataset of (input, label) pairs, as
      `training_options` say (section [training] of a study file).
    - `history`: that of the model's own training (`HistoryRecorder`), or its file; where a method needs one
      and none is given, it is recorded over `history_epochs` epochs of training a copy.

    Where:

    - `storage`: path of a journal file or Optuna URL, to continue later under the same `name`; in memory by
      default.
    - `artifacts`: folder or s3:// place of curves and trained weights; beside the storage by default.
    - `device`: where to compute; the model's own by default.
    - `progress`: shows stages and messages; nobody by default.

    Raises AutopruneError (its subclasses say what kind) for bad input, before any long work.
    """
    _check_kinds(
        Mapping,
        "a dict such as {name: value}",
        budget=budget,
        caps=caps,
        criterion_options=criterion_options,
        strategy_options=strategy_options,
        reconstruction_options=reconstruction_options,
        recovery_options=recovery_options,
        training_options=training_options,
    )
    _check_kinds((str, Path), "a path or a URL", storage=storage, artifacts=artifacts)
    _check_kinds(Progress, "an object with stage() and message()", progress=progress)
    options = Options(
        trials=trials,
        budget={name: plain(value) for name, value in (budget or {}).items()},
        objective=objective,
        latency_batch=latency_batch,
        multiple_of=multiple_of,
        min_kept=min_kept,
        seed=seed,
        criterion=criterion,
        criterion_options=criterion_options or {},
        batch_removal=plain(batch_removal),
        strategy=strategy,
        strategy_options=strategy_options or {},
        ignore=ignore,
        caps={pattern: plain(value) for pattern, value in (caps or {}).items()},
        reconstruction=reconstruction,
        reconstruction_options=reconstruction_options or {},
        damping=damping,
        batch_norm=batch_norm,
        recovery=recovery,
        recovery_options=recovery_options or {},
        training=training_settings(training_options or {}),
        history_epochs=history_epochs,
    )
    _check(options)
    options.check_names()
    if training_options and not (options.trains or options.needs_history):
        raise ConfigError(
            "training_options say how to train, and nothing here trains; name a recovery, or leave them out."
        )
    if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
        raise ConfigError(f"timeout must be a number of seconds, got {timeout!r}.")
    if not (isinstance(name, str) and name.strip()):
        raise ConfigError(f"name must be the study's, in at least one letter, got {name!r}.")
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model must be an nn.Module, got {type(model).__name__}.")
    storage = None if storage is None else expanded(storage)
    opened = open_storage(storage)
    where = _device(model, device)
    check_model(model, "the model passed in")
    # The caller's module keeps its own mode and device: the work is done on a copy.
    task = _task(name, _working_copy(model, where), calibration, validation, metric, evaluate, where)
    task = _with_training(task, training, history)
    places = open_artifacts(None if artifacts is None else expanded(artifacts), storage)
    return Engine(task, options, opened, progress, places).search(timeout=timeout)


def _check_kinds(kind: type | tuple[type, ...], wanted: str, **given: object) -> None:
    """ConfigError naming the first argument that is of another kind; None is an argument left out."""
    for name, value in given.items():
        if value is not None and not isinstance(value, kind):
            raise ConfigError(f"{name} must be {wanted}, got {value!r}.")


def _with_training(task: Task, training: Dataset[Any] | None, history: History | str | Path | None) -> Task:
    if training is not None and not isinstance(training, Dataset):
        raise ConfigError(
            f"training must be a dataset of (input, label) pairs, got {type(training).__name__}; pass the "
            "dataset of the loader."
        )
    if history is None:
        return replace(task, training=training)
    _check_kinds((History, str, Path), "a History (a HistoryRecorder gives one) or its file", history=history)
    known = history if isinstance(history, History) else History.load(expanded(history))
    prints = {**task.fingerprints, "history": known.fingerprint}
    return replace(task, training=training, history=known, fingerprints=prints)


def _check(options: Options) -> None:
    """The same rules as for a study file."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    restore = {"method": values.pop("reconstruction"), "options": values.pop("reconstruction_options")}
    restore |= {name: values.pop(name) for name in ("damping", "batch_norm")}
    check_section("model", {"factory": "given:model", "history_epochs": values.pop("history_epochs")})
    values = {name: value for name, value in values.items() if name not in ("training", "recovery_options")}
    check_section("recovery", {"method": values.pop("recovery"), "options": dict(options.recovery_options)})
    check_section("search", {**values, "budget": dict(options.budget), "caps": dict(options.caps)})
    check_section("reconstruction", restore)


def _task(
    name: str,
    model: nn.Module,
    calibration: Any,
    validation: Iterable[Any] | None,
    metric: str | Callable[[Any, Tensor], Any],
    evaluate: Callable[[nn.Module], float] | None,
    device: torch.device,
) -> Task:
    if (validation is None) == (evaluate is None):
        came = "neither" if evaluate is None else "both"
        raise ConfigError(
            f"pass one of validation (a labelled loader) and evaluate(model) -> float, got {came}."
        )
    judged = find_metric(metric)
    if evaluate is not None and metric != "accuracy":
        raise ConfigError("metric judges validation, and evaluate takes the place of both; pass one of them.")
    chunks = [inputs.to(device) for inputs in as_batches(calibration, most=most_inputs(model))]
    # Some of what follows looks at the first images alone, and the caller's may be of one class.
    sample = [mixed(chunks)]
    if evaluate is not None and not callable(evaluate):
        raise ConfigError(f"evaluate must be a function of the model, got {type(evaluate).__name__}.")
    if evaluate is not None and not isinstance(evaluate, LabelledMetric):
        return Task(
            name=name,
            model=model,
            chunks=sample,
            probe=sample,
            metric=_in_eval_mode(evaluate),
            fingerprints={"model": fingerprint(model), **_prints(chunks)},
        )
    found = judged(_loader(validation), device) if evaluate is None else evaluate
    judge = found.mixed()
    return Task(
        name=name,
        model=model,
        chunks=sample,
        probe=judge.inputs,
        metric=judge,
        fingerprints={
            "model": fingerprint(model),
            **_prints([*chunks, *found.inputs]),
            LABELS: hashed(labels for _, labels in found.batches),
        },
    )


def _loader(validation: Any) -> Iterable[Any]:
    if not (isinstance(validation, Iterable) or hasattr(validation, "__getitem__")):
        raise DataError(
            f"validation must be a loader or list of labelled batches, got {type(validation).__name__}; a "
            "function that judges the network goes to evaluate."
        )
    found: Iterable[Any] = validation
    return found


def _prints(batches: Sequence[Inputs]) -> dict[str, str]:
    return {DATA: fingerprint_of(batches), INPUTS: fingerprint_of_samples(batches)}


def _in_eval_mode(evaluate: Callable[[nn.Module], float]) -> Callable[[nn.Module], float]:
    """The user's function, on a copy: what it does to a network (its mode, its statistics, its type) must
    not reach the one that candidates are made of."""

    @wraps(evaluate)
    @torch.no_grad()
    def judge(network: nn.Module) -> float:
        return evaluate(copy.deepcopy(network, _of_passes(network)).eval())

    # A callable object has no name of its own to wrap.
    judge.__name__ = name_of(evaluate)
    return judge


def _of_passes(network: nn.Module) -> dict[int, Tensor]:
    """Tensors that a training pass left in attributes, by identity, as copies that `deepcopy` can use: it
    refuses what belongs to a graph of gradients."""
    kept = [value for module in network.modules() for value in vars(module).values()]
    return {id(x): x.detach().clone() for x in kept if isinstance(x, Tensor) and not x.is_leaf}


def _device(model: nn.Module, device: str | torch.device | None) -> torch.device:
    if device is not None:
        return pick_device(str(device))
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def _working_copy(model: nn.Module, device: torch.device) -> nn.Module:
    try:
        return copy.deepcopy(model).to(device).eval()
    except (TypeError, RuntimeError) as error:
        raise ModelError(
            f"the model must be one that copy.deepcopy can copy, got {type(error).__name__}: {error}; keep "
            "locks, files and generators out of its modules."
        ) from error
