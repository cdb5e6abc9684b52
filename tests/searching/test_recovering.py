"""Trained candidates: kept with the study, read back exactly, never mistaken for restored ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from autoprune.config import TrainingConfig
from autoprune.errors import ConfigError, DataError, StudyError
from autoprune.graph import count_macs
from autoprune.graph.capture import named_state
from autoprune.searching import attributes as attr
from autoprune.searching.engine import Engine
from autoprune.searching.front import Front
from autoprune.searching.recovering import load_trained
from autoprune.searching.study import finished
from autoprune.storing.artifacts import open_artifacts
from autoprune.storing.marks import BROKEN
from autoprune.storing.queueing import broken
from autoprune.training.history import History, HistoryRecorder
from autoprune.training.recoveries import recoveries
from tests.small import NETWORKS

MakeEngine = Callable[..., Engine]
TRAINING = TrainingConfig(
    epochs=1, batch_size=16, learning_rate=0.01, optimizer="adam", distillation=0.5, augmentation="none"
)
HBFP: dict[str, Any] = {
    "criterion": "history", "strategy": "history", "recovery": "history", "reconstruction": "none",
    "strategy_options": {"share": [30, 20], "tolerance": 1.0}, "batch_removal": (1,), "trials": 3,
}  # fmt: skip
TUNED: dict[str, Any] = {"recovery": "fine-tune", "trials": 3}


def trainable(engine: Engine, network: str, history: History | None = None) -> Engine:
    """The same engine with images to train on."""
    small = NETWORKS[network]
    images = small.images(32, seed=5)
    with torch.no_grad():
        labels = engine.task.model(images).argmax(1)
    task = replace(engine.task, training=TensorDataset(images, labels), history=history)
    return Engine(task, engine.options, engine.storage, artifacts=engine.artifacts)


def make(make_engine: MakeEngine, network: str = "chain", **options: Any) -> Engine:
    return trainable(make_engine(network, training=TRAINING, **options), network)


def record(front: Front) -> list[dict[str, Any]]:
    return [point.to_json() for point in front.trials]


@pytest.mark.parametrize("network", ["residual", "grouped", "flattened"])
@pytest.mark.parametrize("how", [HBFP, TUNED], ids=["hbfp", "fine-tune"])
def test_a_trained_trial_is_built_as_it_was_measured(
    make_engine: MakeEngine, network: str, how: dict[str, Any], tmp_path: Path
) -> None:
    path = str(tmp_path / "study.journal")
    engine = make(make_engine, network, storage=path, **how)
    dense = {name: tensor.clone() for name, tensor in named_state(engine.task.model).items()}
    front = engine.search()
    assert 2 <= len(front.trials) <= 3
    again = make(make_engine, network, storage=path, **how)
    for point in again.front().trials:
        built = point.build()
        assert type(built) is type(engine.task.model) and not built.training
        assert again.task.metric(built) == point.accuracy
        assert again.evaluator.output_error(built) == pytest.approx(point.output_error, rel=1e-6)
        assert count_macs(built, engine.example.args, engine.example.kwargs) == point.macs
        assert {name: len(kept) for name, kept in point.kept.items()} == point.widths
        trained = again.trained(point.trial)
        assert trained is not None and trained.history is not None and trained.history.epochs == 1
        trained.history.check(trained.network, again.graph)
    changed = [n for n, t in named_state(engine.task.model).items() if not torch.equal(t, dense[n])]
    assert changed == [], "the dense network was trained"
    assert {p.name for p in tmp_path.iterdir()} == {"study.journal", "study.journal.artifacts"}


@pytest.mark.parametrize("how", [HBFP, TUNED], ids=["hbfp", "fine-tune"])
def test_a_resumed_search_equals_an_uninterrupted_one(
    make_engine: MakeEngine, how: dict[str, Any], tmp_path: Path
) -> None:
    whole = make(make_engine, **how).search()
    path = str(tmp_path / "study.journal")
    for total in (1, 2, 3):
        front = make(make_engine, storage=path, **{**how, "trials": total}).search()
    assert record(front) == record(whole)
    kept = [{name: channels.tolist() for name, channels in p.kept.items()} for p in front.trials]
    assert kept == [{name: channels.tolist() for name, channels in p.kept.items()} for p in whole.trials]


def test_an_iteration_removes_channels_of_the_one_before(make_engine: MakeEngine) -> None:
    engine = make(make_engine, "residual", **HBFP)
    front = engine.search()
    before = {name: set(range(width)) for name, width in engine.graph.widths.items()}
    for point, percent in zip(front.trials, (30, 20, 20), strict=True):
        for name, channels in point.kept.items():
            assert set(channels.tolist()) <= before[name]
            assert len(channels) == len(before[name]) - len(before[name]) * percent // 100
        before = {name: set(channels.tolist()) for name, channels in point.kept.items()}
    assert attr.STUDY_HISTORY in engine.study.user_attrs


def test_the_search_ends_when_the_accuracy_falls_below_the_tolerance(make_engine: MakeEngine) -> None:
    how = {**HBFP, "strategy_options": {"share": 50, "tolerance": 0.0}, "trials": 20}
    engine = make(make_engine, "residual", **how)
    front = engine.search()
    accuracies = [point.accuracy for point in front.trials]
    assert all(accuracy >= front.dense.accuracy for accuracy in accuracies[:-1])
    floor = [point.widths for point in front.trials][-2:]
    assert accuracies[-1] < front.dense.accuracy or floor[0] == floor[1] or len(accuracies) < 20
    assert engine.strategy.done(finished(engine.study))


def test_a_given_history_is_used_and_another_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    plain = make(make_engine, **HBFP)
    recorder = HistoryRecorder(plain.task.model, plain.graph)
    recorder.record()
    given = trainable(make_engine(training=TRAINING, **HBFP), "chain", recorder.history())
    messages: list[str] = []
    given.progress.message = messages.append  # type: ignore[method-assign]
    given.search(trials=1)
    assert messages == [] and given.learning.history.epochs == 1
    plain.progress.message = messages.append  # type: ignore[method-assign]
    plain.search(trials=1)
    assert len(messages) == 1 and "recording one over 2 epochs" in messages[0]
    assert plain.learning.history.epochs == 2
    other = History({"0.0.weight": torch.ones(1, 3)})
    with pytest.raises(DataError, match=r"history of \[model\]"):
        trainable(make_engine(training=TRAINING, **HBFP), "chain", other).check()


def test_the_criterion_needs_no_recovery(make_engine: MakeEngine) -> None:
    engine = make(make_engine, criterion="history", trials=4)
    front = engine.search()
    assert len(front.trials) == 4 and engine.trained(0) is None
    assert engine.task.metric(front.trials[1].build()) == front.trials[1].accuracy


def test_a_criterion_without_a_history_or_images_to_record_one_is_refused_at_once(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine("chain", criterion="history", trials=1)
    with pytest.raises(DataError, match="criterion 'history': wanted labelled training images, got none"):
        engine.check()


def test_fine_tuning_can_continue_from_the_parent(make_engine: MakeEngine) -> None:
    how = {**HBFP, "recovery": "fine-tune", "criterion": "l1", "reconstruction": "sequential"}
    values = {"learning_rate": 1e-12, "weight_decay": 0.0, "freeze_batch_norm": True}
    still = TRAINING.model_copy(update=values)
    inherited = trainable(
        make_engine("chain", training=still, **how, recovery_options={"start": "parent"}), "chain"
    )
    inherited.search()
    first, second = inherited.trained(0), inherited.trained(1)
    assert first is not None and second is not None
    name = next(iter(inherited.graph.groups)).members[0].tensor
    group = inherited.graph.groups[0].name
    places = torch.searchsorted(first.kept[group], second.kept[group])
    rows = named_state(first.network)[name][places]
    assert torch.allclose(named_state(second.network)[name], rows, atol=1e-6)


@pytest.mark.parametrize("fault", ["absent", "damaged", "other"])
def test_artifacts_that_are_not_intact_are_refused(
    make_engine: MakeEngine, fault: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "study.journal")
    engine = make(make_engine, storage=path, **TUNED)
    point = engine.search(trials=2).trials[0]
    folder = tmp_path / "study.journal.artifacts"
    trials = engine.study.get_trials(deepcopy=False)
    files = [folder / trial.user_attrs[attr.WEIGHTS]["artifact"] for trial in trials[:2]]
    if fault == "absent":
        files[0].unlink()
    elif fault == "damaged":
        content = bytearray(files[0].read_bytes())
        content[-1] ^= 1
        files[0].write_bytes(bytes(content))
    else:
        files[0].write_bytes(files[1].read_bytes())
    with pytest.raises(StudyError, match=r"weights of trial 0.*restore the folder of artifacts"):
        make(make_engine, storage=path, **TUNED).build(point)


def test_a_trained_trial_without_weights_is_not_rebuilt_in_closed_form(make_engine: MakeEngine) -> None:
    engine = make(make_engine, **TUNED)
    point = engine.search(trials=1).trials[0]
    attributes = dict(engine.study.get_trials()[0].user_attrs)
    del attributes[attr.WEIGHTS]
    with pytest.raises(StudyError, match="should be named by artifact and sha256"):
        load_trained(engine.artifacts, engine.task.model, engine.graph, point.trial, attributes)


def test_what_is_missing_is_said_before_long_work(make_engine: MakeEngine) -> None:
    with pytest.raises(DataError, match="wanted labelled training images"):
        make_engine(**TUNED).check()
    server = open_artifacts(None, "postgresql://me:secret@host/base")
    engine = make(make_engine, **TUNED)
    engine.artifacts = server
    with pytest.raises(StudyError, match=r"postgresql://me:\*\*\*@host/base.*set 'artifacts'"):
        engine.check()
    with pytest.raises(ConfigError, match="did you mean 'fine-tune'"):
        make_engine(recovery="finetune")
    with pytest.raises(ConfigError, match="option of recovery 'history'"):
        make_engine(recovery="history", recovery_options={"regularizer": 1.0})


def test_another_training_is_another_study(make_engine: MakeEngine, tmp_path: Path) -> None:
    path = str(tmp_path / "study.journal")
    make(make_engine, storage=path, **TUNED).search(trials=1)
    longer = TRAINING.model_copy(update={"epochs": 2})
    with pytest.raises(StudyError, match=r"recovery\.training\.epochs: stored 1, now 2"):
        trainable(make_engine(storage=path, training=longer, **TUNED), "chain").search(trials=2)


@pytest.mark.parametrize("name", list(recoveries))
def test_recoveries_keep_the_widths_and_leave_the_dense_network_alone(
    make_engine: MakeEngine, name: str
) -> None:
    engine = make(make_engine, "residual", recovery=name, trials=2)
    before = {n: t.clone() for n, t in named_state(engine.task.model).items()}
    front = engine.search()
    for point in front.trials:
        network: nn.Module = point.build()
        assert count_macs(network, engine.example.args, engine.example.kwargs) == point.macs
    assert all(torch.equal(t, before[n]) for n, t in named_state(engine.task.model).items())


def test_a_candidate_whose_training_diverges_is_left_out(make_engine: MakeEngine) -> None:
    engine = make(make_engine, **TUNED)
    metric, count = engine.task.metric, [0]

    def measured(network: Any) -> float:
        # The dense network; before, after and behind the first candidate's training, and as it was sliced;
        # before and after the second one's.
        count[0] += 1
        return float("nan") if count[0] == 7 else metric(network)

    object.__setattr__(engine.task, "metric", measured)
    assert len(engine.search().trials) == 3
    (lost,) = broken(engine.study)
    assert "metric must be a finite number" in lost.user_attrs[BROKEN]


def test_trainings_that_all_diverge_end_the_search(make_engine: MakeEngine) -> None:
    engine = make(make_engine, **{**TUNED, "trials": 8})
    wild = TRAINING.model_copy(update={"learning_rate": 1e30, "optimizer": "sgd"})
    object.__setattr__(engine.options, "training", wild)
    with pytest.raises(DataError, match=r"3 of 3 candidates cannot be measured.*learning_rate"):
        engine.search()


def test_who_continues_from_no_trial_has_no_parent_to_start_from(make_engine: MakeEngine) -> None:
    with pytest.raises(ConfigError, match=r"'knapsack' does not continue; .* history, rate-derivation"):
        make(make_engine, **TUNED, recovery_options={"start": "parent"}).search()


def test_a_study_keeps_its_training_images(make_engine: MakeEngine, tmp_path: Path) -> None:
    path = str(tmp_path / "study.journal")

    def engine(seed: int) -> Engine:
        made = make_engine("chain", training=TRAINING, storage=path, **{**TUNED, "trials": 1})
        images = NETWORKS["chain"].images(32, seed=seed)
        task = replace(made.task, training=TensorDataset(images, torch.zeros(32, dtype=torch.long)))
        return Engine(task, made.options, made.storage, artifacts=made.artifacts)

    engine(5).search()
    engine(5).search(trials=2)
    with pytest.raises(StudyError, match="training_data: stored"):
        engine(6).search(trials=3)
