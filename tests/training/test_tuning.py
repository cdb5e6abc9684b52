from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from autoprune.errors import ConfigError, DataError, ModelError, TrainingError
from autoprune.training import Epoch, TrainingData, fine_tune
from autoprune.training.objective import autocast
from tests.training.conftest import Listed, images, network, settings

Metric = Callable[[nn.Module], float]


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_training_teaches(train: TrainingData, accuracy: Metric) -> None:
    model = network()
    result = fine_tune(model, data=train, settings=settings(epochs=8), evaluate=accuracy)
    assert result.metric is not None and result.metric_before is not None
    assert result.metric_before < 0.7 < 0.9 < result.metric == accuracy(model)
    assert [epoch.number for epoch in result.history] == list(range(1, 9)) and result.images == 90
    assert result.history[-1].loss < result.history[0].loss
    assert result.history[-1].learning_rate < result.history[0].learning_rate < 0.1
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(train: TrainingData) -> None:
    models = [network() for _ in range(3)]
    for model, state, seed in zip(models, (1, 2, 3), (5, 5, 6), strict=True):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        fine_tune(model, data=train, settings=settings(epochs=2), seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
    assert same(models[0], models[1]) and not same(models[0], models[2])


def test_it_ends_with_the_best_epoch(train: TrainingData) -> None:
    values = iter([0.1, 0.3, 0.9, 0.9, 0.2])
    seen: dict[int, nn.Module] = {}

    def keep(model: nn.Module, epoch: Epoch) -> None:
        assert not model.training
        seen[epoch.number] = copy.deepcopy(model)

    model = network()
    result = fine_tune(
        model, data=train, settings=settings(), evaluate=lambda _: next(values), callbacks=[keep]
    )
    assert (result.metric_before, result.best_epoch, result.metric) == (0.1, 2, 0.9)
    assert [epoch.metric for epoch in result.history] == [0.3, 0.9, 0.9, 0.2]
    assert same(model, seen[2]) and not same(model, seen[3])


def test_it_keeps_the_weights_it_was_given_where_no_epoch_is_better(train: TrainingData) -> None:
    model = network()
    result = fine_tune(model, data=train, settings=settings(epochs=1), evaluate=lambda _: 0.5)
    assert result.best_epoch == 0 and same(model, network())


def test_without_a_metric_the_last_epoch_stays(train: TrainingData) -> None:
    seen = []
    model = network()
    result = fine_tune(
        model, data=train, settings=settings(epochs=2), callbacks=[lambda m, _: seen.append(copy.deepcopy(m))]
    )
    assert result.best_epoch == 2 and result.metric is None and same(model, seen[-1])


def test_a_student_learns_from_its_teacher_without_labels(train: TrainingData, accuracy: Metric) -> None:
    teacher = network(seed=7)
    fine_tune(teacher, data=train, settings=settings(epochs=8))
    before = copy.deepcopy(teacher)
    unlabelled = TrainingData.of(Listed(images(90, seed=1)[0], None))
    student = network()
    fine_tune(
        student, data=unlabelled, teacher=teacher.train(), evaluate=accuracy,
        settings=settings(epochs=8, distillation=1.0, temperature=(4.0, 1.0)),
    )  # fmt: skip
    assert accuracy(student) > 0.85
    assert teacher.training and same(teacher, before), "the teacher is read in eval mode and left as it was"


def test_labels_count_for_nothing_at_full_distillation(train: TrainingData) -> None:
    inputs, labels = images(90, seed=1)
    students = [network(), network()]
    for student, given in zip(students, (labels, labels.flip(0)), strict=True):
        fine_tune(
            student, data=TrainingData.of(TensorDataset(inputs, given)), teacher=network(seed=7),
            settings=settings(epochs=1, distillation=1.0),
        )  # fmt: skip
    assert same(*students)


def test_the_extra_loss_has_gradients(train: TrainingData) -> None:
    def size(model: nn.Module) -> Tensor:
        return sum((p.square().sum() for p in model.parameters()), torch.zeros(()))

    plain, drawn = network(), network()
    fine_tune(plain, data=train, settings=settings())
    fine_tune(drawn, data=train, settings=settings(), extra_loss=size)
    assert size(drawn) < 0.5 * size(plain)


def test_batch_norm_can_be_frozen(train: TrainingData) -> None:
    frozen, free = network(), network()
    fine_tune(frozen, data=train, settings=settings(epochs=1, freeze_batch_norm=True))
    fine_tune(free, data=train, settings=settings(epochs=1))
    assert torch.equal(frozen[1].running_mean, network()[1].running_mean)  # type: ignore[index]
    assert not torch.equal(free[1].running_mean, network()[1].running_mean)  # type: ignore[index]


def test_it_trains_where_gradients_are_off(train: TrainingData) -> None:
    model = network()
    with torch.no_grad():
        fine_tune(model, data=train, settings=settings(epochs=1))
        assert not torch.is_grad_enabled()
    assert not same(model, network())


def test_divergence_is_an_error_that_leaves_the_best_weights(train: TrainingData, accuracy: Metric) -> None:
    model = network()
    with pytest.raises(TrainingError, match=r"diverged; lower learning_rate"):
        fine_tune(model, data=train, settings=settings(learning_rate=1e30), evaluate=accuracy)
    assert same(model, network())
    with pytest.raises(TrainingError, match="metric must be a finite number, got nan; the network was not"):
        fine_tune(model, data=train, settings=settings(), evaluate=lambda _: float("nan"))
    values = iter([0.5, float("nan")])
    with pytest.raises(TrainingError, match="metric must be a finite number, got nan; lower learning_rate"):
        fine_tune(model, data=train, settings=settings(), evaluate=lambda _: next(values))
    with pytest.raises(DataError, match=r"metric must be one number .*, got NoneType"):
        fine_tune(model, data=train, settings=settings(), evaluate=lambda _: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_the_best_weights(train: TrainingData, error: type[BaseException]) -> None:
    seen = []

    def stop(model: nn.Module, epoch: Epoch) -> None:
        seen.append(copy.deepcopy(model))
        if epoch.number == 2:
            raise error

    model, values = network(), iter([0.1, 0.9, 0.2])
    with pytest.raises(error):
        fine_tune(model, data=train, settings=settings(), evaluate=lambda _: next(values), callbacks=[stop])
    assert same(model, seen[0]) and not model.training


def unfit(name: str) -> dict[str, Any]:
    inputs, labels = images(9, seed=0)
    return {
        "no teacher": {"settings": settings(distillation=0.5)},
        "no cuda": {"settings": settings(mixed_precision="on")},
        "augmentation": {"settings": settings(augmentation="blur")},
        "labels": {"data": TrainingData.of(TensorDataset(inputs, labels.float()))},
        "unlabelled": {"data": TrainingData.of(Listed(inputs, None))},
        "scores": {"network": nn.Conv2d(3, 3, 3)},
        "nothing": {"network": network().requires_grad_(False)},
    }[name]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("no teacher", ConfigError, "needs a teacher"),
        ("no cuda", ConfigError, "CUDA device"),
        ("augmentation", ConfigError, "unknown augmentation 'blur'"),
        ("labels", DataError, "labels must be integers"),
        ("unlabelled", DataError, "distillation = 1"),
        ("scores", DataError, r"shape \(batch, classes\)"),
        ("nothing", ModelError, "requires_grad"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(
    train: TrainingData, name: str, error: type[Exception], message: str
) -> None:
    given = {"network": network(), "data": train, "settings": settings(), **unfit(name)}
    with pytest.raises(error, match=message):
        fine_tune(given.pop("network"), **given)


class Bars:
    """Notes what a progress display would show."""

    def __init__(self) -> None:
        self.titles: list[tuple[str, int]] = []
        self.steps, self.notes, self.open = 0, [""], False

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Bars]:
        self.titles.append((title, total))
        self.open = True
        try:
            yield self
        finally:
            self.open = False

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        self.steps += steps
        self.notes.append(note or self.notes[-1])

    def message(self, text: str) -> None:
        raise AssertionError(text)


def test_progress_counts_every_step_and_shows_the_loss(train: TrainingData) -> None:
    bars = Bars()
    result = fine_tune(network(), data=train, settings=settings(epochs=2), progress=bars, title="recover")
    assert bars.titles == [("recover", 6)] and bars.steps == 6 and not bars.open
    assert bars.notes[-1] == f"epoch 2/2, loss {result.history[-1].loss:.4f}"


def test_mixed_precision_is_off_where_there_is_no_use_for_it() -> None:
    with autocast("auto", torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
