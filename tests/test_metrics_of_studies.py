"""A study that is judged by something else than accuracy: stored, continued, shown as what it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from typer.testing import CliRunner

import autoprune
from autoprune.cli import app
from autoprune.cli.tables import front_table, studies_table
from autoprune.config import TrainingConfig, load_study
from autoprune.dashboard.note import note_of
from autoprune.data.splits import Splits
from autoprune.errors import ConfigError, DataError, StudyError
from autoprune.finetuning import fine_tune_saved
from autoprune.report import write_report
from autoprune.report.content import read_content
from autoprune.report.further_figures import volume_by_trial
from autoprune.searching import attributes as attr
from autoprune.searching.judged_by import trained_so
from autoprune.searching.metric_scale import ACCURACY
from autoprune.searching.metrics import metrics
from autoprune.searching.overview import overview
from autoprune.searching.study import read_front, stored_study
from autoprune.session import Session
from autoprune.training.losses import find_loss, task_losses

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 1), nn.Flatten(0)
    )


def targets() -> Tensor:
    with torch.no_grad():
        return model()(X)


def search(storage: Path, **changes: Any) -> autoprune.Front:
    options: dict[str, Any] = {"validation": [(X, targets())], "metric": "r2", "trials": 6, **changes}
    return autoprune.search(model(), calibration=X, storage=str(storage), **options)


def test_r2_is_found_stored_and_shown_as_a_number(tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    front = search(path)
    assert front.dense.accuracy == 1.0 and front.metric.name == "r2" and len({p.macs for p in front}) > 2
    stored = read_front(str(path), "autoprune")
    assert stored.metric == front.metric and stored.to_json()["metric"] == "r2"
    study = stored_study(str(path), "autoprune")
    assert study.metric_names == ["r2", "macs_ratio"] and overview(study).to_json()["metric"] == "r2"
    point = front.points[0]
    content = write_report(str(path), "autoprune", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text().partition("<script")[0]
    assert content.front.metric.shown(point.accuracy) in page and "r2" in page and "accuracy" not in page
    note = note_of(stored, study.user_attrs[attr.IDENTITY])
    assert f"| {stored.metric.shown(point.accuracy)} |" in note and "accuracy" not in note
    for table in (front_table(stored), studies_table("s", [overview(study)])):
        cells = [str(cell) for column in table.columns for cell in column._cells]
        assert "1.000" in cells
    assert all("accuracy" not in str(column.header) for column in front_table(stored).columns)


def test_a_study_keeps_its_metric(tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    front = search(path, trials=2)
    assert [p.to_json() for p in search(path, trials=3).trials[:2]] == [p.to_json() for p in front.trials]
    with pytest.raises(StudyError, match="metric: stored 'r2', now 'absolute'"):
        search(path, metric=absolute)
    assert stored_study(str(path), "autoprune").metric_names == ["r2", "macs_ratio"]


def absolute(outputs: Tensor, labels: Tensor) -> Tensor:
    return -(outputs - labels).abs().mean()


def test_a_function_of_batches_or_of_the_network_is_named(tmp_path: Path) -> None:
    def closeness(network: nn.Module) -> float:
        return float(absolute(network(X), targets()).detach())

    # Of several draws a function of the network judges by other means: let there be one.
    alone: dict[str, Any] = {"trials": 3, "strategy_options": {"draws": 1}}
    batches = search(tmp_path / "a.journal", metric=absolute, **alone)
    whole = search(tmp_path / "b.journal", validation=None, metric="accuracy", evaluate=closeness, **alone)
    assert (batches.metric.name, whole.metric.name) == ("absolute", "closeness")
    assert batches.trials[0].accuracy == pytest.approx(whole.trials[0].accuracy, rel=1e-5)
    content = read_content(str(tmp_path / "a.journal"), "autoprune")
    volumes = volume_by_trial(content)["data"][0]["y"]
    assert volumes == sorted(volumes) and volumes[-1] > 0, "all values are negative, and the front counts"
    with pytest.raises(ConfigError, match="metric judges validation"):
        search(tmp_path / "c.journal", validation=None, evaluate=closeness)


def test_a_study_of_accuracy_is_stored_as_it_always_was(tmp_path: Path) -> None:
    labels = torch.randint(3, (64,))
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    path = str(tmp_path / "s.journal")
    front = autoprune.search(network, calibration=X, validation=[(X, labels)], storage=path, trials=2)
    attributes = stored_study(path, "autoprune").user_attrs
    assert front.metric == ACCURACY and attr.METRIC not in attributes
    assert not {"metric", "caps"} & set(attributes[attr.IDENTITY])
    assert re.search("[0-9] %", front.metric.shown(front.dense.accuracy))


@pytest.mark.parametrize("stored", [7, {"name": "r2"}, {"name": "", "share": True, "floor": 0.0}])
def test_a_damaged_metric_is_one_error(tmp_path: Path, stored: Any) -> None:
    path = tmp_path / "s.journal"
    search(path, trials=1)
    optuna_study: optuna.Study = stored_study(str(path), "autoprune")
    optuna_study.set_user_attr(attr.METRIC, stored)
    with pytest.raises(StudyError, match="damaged"):
        read_front(str(path), "autoprune")


def test_what_does_not_fit_is_refused_before_long_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'mean-iou'"):
        search(tmp_path / "s.journal", metric="mean-uoi")
    with pytest.raises(DataError, match="labels must be integers"):
        search(tmp_path / "s.journal", metric="accuracy")
    with pytest.raises(ConfigError, match="the metric is 'r2'"):
        search(tmp_path / "s.journal", strategy="rate-derivation")


TRAINED: list[dict[str, Any]] = [{"recovery": "fine-tune"}, {"criterion": "history", "history_epochs": 2}]


@pytest.mark.parametrize("changes", TRAINED)
def test_networks_are_trained_as_they_are_judged(tmp_path: Path, changes: dict[str, Any]) -> None:
    training = TensorDataset(X, targets())
    # A rate that training towards the targets survives and towards anything else would not help.
    how: dict[str, Any] = {"epochs": 4, "batch_size": 16, "learning_rate": 0.02, "distillation": 0.25}
    common: dict[str, Any] = {"trials": 3, "reconstruction": "none"}
    plain = search(tmp_path / "p.journal", **common)
    found = search(tmp_path / "s.journal", training=training, training_options=how, **common, **changes)
    assert len(found.trials) == 3
    if "recovery" in changes:
        pairs = zip(found.trials, plain.trials, strict=True)
        gains = sorted(trained.accuracy - pruned.accuracy for trained, pruned in pairs)
        assert gains[0] >= 0 and gains[1] > 0.01, "the best epoch counts, and two have much to gain"
    with pytest.raises(ConfigError, match="does not read label_smoothing"):
        wrong = {**how, "label_smoothing": 0.1}
        search(tmp_path / "w.journal", training=training, training_options=wrong, **common, **changes)


@pytest.mark.parametrize("name", list(metrics))
def test_every_metric_names_a_loss(name: str) -> None:
    metric = metrics[name].__new__(metrics[name])
    found = trained_so(TrainingConfig(), metric)
    assert metric.loss in task_losses and find_loss(found).__class__ is task_losses[metric.loss]
    assert (found == TrainingConfig()) == (name == "accuracy"), "and such trainings continue"
    assert trained_so(TrainingConfig(loss="squared-error"), metric).loss == "squared-error"
    assert trained_so(TrainingConfig(), lambda network: 1.0) == TrainingConfig()


def test_a_loss_that_is_left_open_is_in_no_identity() -> None:
    assert "loss" not in TrainingConfig().identity()
    assert TrainingConfig(loss="squared-error").identity()["loss"] == "squared-error"


def splits(data: object) -> Splits:
    whole = TensorDataset(X, targets())
    return Splits(calibration=whole, validation=whole, test=whole, train=whole)


STUDY = f"""
name = "angles"
storage = "STORAGE"
[model]
factory = "{__name__}:model"
[data]
dataset = "{__name__}:splits"
calibration_images = 64
validation_images = 64
metric = "r2"
[search]
trials = 3
[training]
epochs = 3
batch_size = 16
learning_rate = 0.02
"""


def test_a_saved_network_is_tuned_as_it_is_judged(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(STUDY.replace("STORAGE", str(tmp_path / "s.journal")))
    session = Session.open(load_study(file))
    session.search()
    arguments = ["build", str(file), "--macs", "0.6", "--out", str(tmp_path / "pruned"), "-q"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    tuned = fine_tune_saved(session, tmp_path / "pruned", tmp_path / "tuned")
    assert tuned.to_json()["settings"]["loss"] == "squared-error"
    assert tuned.to_json()["accuracy"] > tuned.to_json()["accuracy_before"]


def test_an_augmentation_that_is_none_is_refused_before_long_work(tmp_path: Path) -> None:
    training = TensorDataset(X, targets())
    how: dict[str, Any] = {"training": training, "recovery": "fine-tune"}
    path = tmp_path / "s.journal"
    with pytest.raises(ConfigError, match="unknown augmentation 'crop-flop'"):
        search(path, training_options={"augmentation": "crop-flop"}, **how)
    with pytest.raises(StudyError):
        stored_study(str(path), "autoprune")
