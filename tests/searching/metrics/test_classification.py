"""The smooth form of accuracy: what ranks candidates on few images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import DataError
from autoprune.searching.metrics import Accuracy, LabelledMetric, metrics

CPU = torch.device("cpu")


class Fixed(nn.Module):
    """The input times a factor, as logits."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def accuracy(images: int = 200, classes: int = 5, batch: int = 200) -> Accuracy:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, generator=generator)
    labels = torch.randint(classes, (images,), generator=generator)
    return Accuracy(list(zip(logits.split(batch), labels.split(batch), strict=True)), CPU)


def test_of_sure_answers_it_is_the_accuracy() -> None:
    metric = accuracy()
    assert metric.smooth()(Fixed(1e4)) == pytest.approx(metric(Fixed(1e4)), abs=2e-3)
    assert metric.smooth()(Fixed(0.0)) == 0.5, "nobody is on either side"


def test_it_tells_networks_of_equal_accuracy_apart_by_their_margins() -> None:
    labels = torch.zeros(4, dtype=torch.long)
    near = Accuracy([(torch.tensor([[0.1, 0.0]] * 4), labels)], CPU)
    far = Accuracy([(torch.tensor([[3.0, 0.0]] * 4), labels)], CPU)
    assert near(Fixed(1.0)) == far(Fixed(1.0)) == 1.0
    assert near.smooth()(Fixed(1.0)) == pytest.approx(torch.tensor(0.1).sigmoid().item())
    assert far.smooth()(Fixed(1.0)) == pytest.approx(torch.tensor(3.0).sigmoid().item())


def test_batches_and_first_images_are_as_of_the_accuracy() -> None:
    whole, parts = accuracy().smooth(), accuracy(batch=7).smooth()
    assert whole(Fixed(1.0)) == pytest.approx(parts(Fixed(1.0)), rel=1e-12)
    assert parts.first(50)(Fixed(1.0)) == pytest.approx(accuracy().first(50).smooth()(Fixed(1.0)), rel=1e-6)
    assert accuracy()(Fixed(1.0)) != whole(Fixed(1.0)), "the accuracy itself stays as it was"


def test_what_is_not_a_number_counts_nothing() -> None:
    metric = Accuracy(
        [(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.zeros(2, dtype=torch.long))], CPU
    ).smooth()
    broken = Fixed(1.0)
    broken.forward = lambda x: x / x[:, :1]  # type: ignore[method-assign]
    assert metric(broken) == pytest.approx(torch.tensor(1.0).sigmoid().item() / 2)


def test_labels_beyond_the_outputs_are_refused_as_ever() -> None:
    metric = Accuracy([(torch.zeros(3, 2), torch.tensor([0, 1, 2]))], CPU)
    with pytest.raises(DataError, match="labels must be below 2"):
        metric.smooth()(Fixed(1.0))


def test_a_metric_without_a_smooth_form_is_its_own() -> None:
    class Mine(Accuracy):
        """Counts in a way of its own."""

    mine = Mine([(torch.randn(4, 2), torch.zeros(4, dtype=torch.long))], CPU)
    assert mine.smooth() is mine
    assert metrics["r2"].smooth is LabelledMetric.smooth
