"""A training that was interrupted and resumed equals one that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from autoprune.config import TrainingConfig
from autoprune.errors import TrainingError
from autoprune.training import Epoch, TrainingData, TrainingResult, fine_tune
from autoprune.training.checkpoint import read_checkpoint, write_checkpoint
from tests.training.conftest import images, network, settings
from tests.training.test_tuning import same

Metric = Callable[[nn.Module], float]


def stop_in(number: int) -> Callable[[nn.Module], float]:
    """A regulariser of nothing that interrupts in the middle of epoch `number` (three steps each)."""
    steps = iter(range(100))

    def stop(model: nn.Module) -> torch.Tensor:
        if next(steps) == 3 * number - 2:
            raise KeyboardInterrupt
        return torch.zeros(())

    return stop  # type: ignore[return-value]


@pytest.mark.parametrize(
    "values",
    [
        {"nesterov": True, "warmup_epochs": 1.5, "distillation": 0.5, "temperature": (8.0, 1.0)},
        {"optimizer": "adam", "learning_rate": 0.01, "schedule": "step"},
    ],
)
@pytest.mark.parametrize("interrupted", [1, 3])
def test_resumed_equals_uninterrupted(
    train: TrainingData, accuracy: Metric, tmp_path: Path, values: dict[str, Any], interrupted: int
) -> None:
    chosen, teacher = settings(**values), network(seed=7)
    file = tmp_path / "new" / "checkpoint"

    def run(model: nn.Module, **given: Any) -> TrainingResult:
        return fine_tune(model, data=train, settings=chosen, teacher=teacher, evaluate=accuracy, **given)

    whole, resumed = network(), network()
    expected = run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(network(), checkpoint=file, extra_loss=stop_in(interrupted))
    assert file.exists() == (interrupted > 1)
    numbers: list[int] = []
    found = run(resumed, checkpoint=file, callbacks=[lambda _, epoch: numbers.append(epoch.number)])
    assert numbers == list(range(interrupted, 5))
    assert same(whole, resumed)
    assert without_times(found) == without_times(expected)


def without_times(result: TrainingResult) -> tuple[object, ...]:
    history = [(e.number, e.loss, e.metric, e.learning_rate) for e in result.history]
    return history, result.best_epoch, result.metric_before, result.metric


def test_a_finished_training_gives_its_best_weights_again(train: TrainingData, tmp_path: Path) -> None:
    values = iter([0.0, 0.1, 0.9, 0.3, 0.2])
    file, first, second = tmp_path / "checkpoint", network(), network()
    expected = fine_tune(
        first, data=train, settings=settings(), evaluate=lambda _: next(values), checkpoint=file
    )
    assert fine_tune(second, data=train, settings=settings(), checkpoint=file) == expected
    assert same(first, second) and expected.best_epoch == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": settings(learning_rate=0.2)}, r"settings.learning_rate: stored 0.1, now 0.2"),
        ({"seed": 1}, "seed: stored 0, now 1"),
        ({"network": network(seed=3)}, "network: stored"),
        ({"data": TrainingData.of(TensorDataset(*images(90, seed=7)))}, "data: stored"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    train: TrainingData, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"network": network(), "data": train, "settings": settings(epochs=1)}
    fine_tune(
        given["network"], **{k: v for k, v in given.items() if k != "network"}, checkpoint=tmp_path / "c"
    )
    again = {**given, "network": network(), **change}
    if "settings" in change:
        again["settings"] = TrainingConfig(**{**change["settings"].model_dump(), "epochs": 1})
    before = network(seed=3) if "network" in change else network()
    with pytest.raises(TrainingError, match=f"another training.*{message}"):
        fine_tune(again.pop("network"), **again, checkpoint=tmp_path / "c")
    assert same(before, change.get("network", network()))


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"schema": 1, "identity": {}, "state": Trap()}, tmp_path / "checkpoint")
    with pytest.raises(TrainingError, match="is damaged"):
        read_checkpoint(tmp_path / "checkpoint", {})
    assert not (tmp_path / "sprung").exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    write_checkpoint(file, {"a": torch.ones(100)}, {"seed": 0})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    content = file.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(TrainingError, match="is damaged"):
            read_checkpoint(file, {"seed": 0})


def test_the_checkpoint_before_stays_while_the_next_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "checkpoint"
    write_checkpoint(file, {"epoch": 1}, {})

    for error in (OSError(28, "No space left"), RuntimeError("No space left: unexpected pos 768 vs 662")):

        def full(*args: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(torch, "save", full)
        with pytest.raises(TrainingError, match="cannot be written: No space left"):
            write_checkpoint(file, {"epoch": 2}, {})
    assert read_checkpoint(file, {}) == {"epoch": 1}


def test_what_is_no_file_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read: Is a directory"):
        read_checkpoint(tmp_path, {})


def test_the_number_of_workers_is_no_part_of_a_training(train: TrainingData, tmp_path: Path) -> None:
    for workers in (0, 2):
        fine_tune(
            network(), data=train, settings=settings(epochs=1, workers=workers), checkpoint=tmp_path / "c"
        )


def test_epochs_are_counted_from_one(train: TrainingData) -> None:
    seen: list[Epoch] = []
    fine_tune(network(), data=train, settings=settings(epochs=1), callbacks=[lambda _, e: seen.append(e)])
    assert seen[0].number == 1 and seen[0].metric is None and seen[0].seconds > 0
    assert set(seen[0].to_json()) == {"number", "loss", "metric", "learning_rate", "seconds"}
