"""Checkpoints of others: checked before any of it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune.config import TrainingConfig
from autoprune.errors import TrainingError
from autoprune.training import TrainingData, fine_tune
from autoprune.training.checkpoint import read_checkpoint, write_checkpoint
from tests.trust.traps import KINDS, Change, write_trap


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of a training that was interrupted after its first epoch."""

    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        if (tmp_path / "c").exists():
            raise Interrupted

    with pytest.raises(Interrupted):
        train(tmp_path / "c", callbacks=[interrupt])
    return tmp_path / "c"


def train(checkpoint: Path, callbacks: Any = ()) -> tuple[nn.Module, dict[str, Tensor]]:
    """The network after training, and its weights before."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    data = TrainingData.of(torch.utils.data.TensorDataset(images, torch.arange(8) % 3))
    settings = TrainingConfig(epochs=2, batch_size=4, distillation=0.0)
    try:
        fine_tune(network, data=data, settings=settings, checkpoint=checkpoint, callbacks=callbacks)
    except TrainingError:
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        raise
    return network, before


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_hold_no_code(tmp_path: Path, flag: Path, kind: str) -> None:
    write_trap(tmp_path / "c", flag, kind)
    with pytest.raises(TrainingError, match="damaged"):
        read_checkpoint(tmp_path / "c", {})
    assert not flag.exists()


@pytest.mark.parametrize("content", [[], {"schema": 1}, {"schema": 1, "identity": 3, "state": {}}])
def test_files_that_are_no_checkpoint(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "c")
    with pytest.raises(TrainingError, match="damaged"):
        read_checkpoint(tmp_path / "c", {})


def test_an_untouched_checkpoint_is_continued(checkpoint: Path) -> None:
    epochs: list[int] = []
    train(checkpoint, callbacks=[lambda _, epoch: epochs.append(epoch.number)])
    assert epochs == [2]


def _optimizer(change: Change) -> Change:
    return lambda state: change(state["optimizer"]["param_groups"][0])


def _memory(value: object) -> Change:
    return lambda state: state["optimizer"]["state"][0].update(momentum_buffer=value)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("best"),
        lambda state: state["weights"].pop("0.weight"),
        lambda state: state["weights"].update({"0.weight": torch.zeros(1)}),
        lambda state: state["weights"].update({"0.weight": "text"}),
        lambda state: state["best"].update({"0.bias": torch.zeros(4, dtype=torch.float64)}),
        lambda state: state["best"].update(more=torch.zeros(4)),
        lambda state: state.update(weights=[1]),
        lambda state: state.update(best_epoch=7),
        lambda state: state.update(best_metric="high"),
        lambda state: state.update(metric_before=float("nan")),
        lambda state: state.update(history=[{"number": 1}]),
        lambda state: state.update(history=state["history"] * 2),
        lambda state: state["history"][0].update(more=1),
        lambda state: state["optimizer"]["param_groups"].clear(),
        _optimizer(lambda group: group.update(lr="fast")),
        _optimizer(lambda group: group.update(momentum=0.5)),
        _optimizer(lambda group: group.update(params=[0])),
        _memory(torch.zeros(2)),
        _memory("text"),
        lambda state: state["optimizer"]["state"].update({99: {"momentum_buffer": None}}),
    ],
)
def test_states_that_are_not_of_this_training(checkpoint: Path, change: Change) -> None:
    content = torch.load(checkpoint, weights_only=True)
    change(content["state"])
    write_checkpoint(checkpoint, content["state"], content["identity"])
    with pytest.raises(TrainingError, match=r"checkpoint '.*' is damaged"):
        train(checkpoint)
