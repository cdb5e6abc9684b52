from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autoprune import session as session_module
from autoprune.config import ModelConfig, StudyConfig
from autoprune.errors import ConfigError, StudyError
from autoprune.evaluation import evaluate_saved
from autoprune.searching.engine import Options
from autoprune.session import Session, options_of, pick_device
from autoprune.storing.storages import open_storage

torch.set_num_threads(1)


class Digits(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Flatten(), nn.Linear(5, 10)
        )


Make = Callable[..., StudyConfig]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    def load(model: ModelConfig, *, train: object, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return Digits()

    monkeypatch.setattr(session_module, "load_model", load)

    def make(**search: Any) -> StudyConfig:
        return StudyConfig.model_validate(
            {
                "name": "s",
                "storage": str(tmp_path / "s.journal"),
                "model": {"factory": "a:b"},
                "data": {"dataset": "digits", "calibration_images": 32, "validation_images": 50},
                "search": {"trials": 3, **search},
            }
        )

    return make


def test_a_session_searches_builds_and_measures(config: Make) -> None:
    session = Session.open(config())
    front = session.search()
    assert len(front.trials) == 3 and [p.trial for p in session.front().trials] == [0, 1, 2]
    point = front.trials[0]
    network = session.build(point)
    assert type(network) is Digits
    assert session.evaluate(network, "validation") == (point.accuracy, 50)
    accuracy, images = session.evaluate(network, "test")
    assert 0 <= accuracy <= 1 and images > 50
    with pytest.raises(ConfigError, match="'validation' or 'test', got 'train'"):
        session.evaluate(network, "train")
    assert session.example().size == 1 and session.graph.groups
    assert len(session.search(trials=4).trials) == 4


def test_opening_is_quick_and_measuring_the_dense_needs_no_storage(config: Make, tmp_path: Path) -> None:
    session = Session.open(config(), storage=open_storage(None))
    assert not {"bench", "profile", "study"} & set(vars(session.engine))
    dense = evaluate_saved(session, None, "validation")
    assert dense.images == 50 and dense.macs == session.engine.cost.dense_macs
    assert not (tmp_path / "s.journal").exists()


def test_a_bad_storage_is_found_before_data_and_model(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("long work began")

    monkeypatch.setattr(session_module, "load_splits", never)
    (tmp_path / "s.journal").mkdir()
    with pytest.raises(StudyError, match="folder"):
        Session.open(config())
    with pytest.raises(ConfigError, match="unknown criterion"):
        Session.open(config(criterion="moment"))
    with pytest.raises(ConfigError, match="device 'abacus'"):
        Session.open(config(), device="abacus")


def test_another_seed_is_another_model(config: Make) -> None:
    Session.open(config()).search()
    with pytest.raises(StudyError, match="model: stored"):
        Session.open(config(seed=1)).search()


def test_every_option_comes_from_the_study_file(config: Make) -> None:
    chosen = config(budget={"macs": 0.7}, multiple_of=2, ignore=["0"], batch_removal=[3], strategy="tpe")
    options = options_of(chosen)
    assert options.budget == {"macs": 0.7} and options.multiple_of == 2 and options.strategy == "tpe"
    assert tuple(options.ignore) == ("0",) and tuple(options.batch_removal) == (3,)
    plain = options_of(config(trials=100))
    for field in dataclasses.fields(Options):
        assert getattr(plain, field.name) == getattr(Options(), field.name), field.name


def test_devices() -> None:
    assert pick_device(None) == torch.device("cpu") == pick_device("cpu")
    for name in ("abacus", "cuda:99"):
        with pytest.raises(ConfigError, match=f"device '{name}' cannot be used"):
            pick_device(name)
