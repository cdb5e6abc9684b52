from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import autoprune
from autoprune.config import TrainingConfig
from autoprune.data.inputs import Inputs
from autoprune.layout import layout_for, training_layout
from autoprune.searching.metrics import Accuracy
from autoprune.searching.options import Task
from autoprune.training.augmentation import none
from autoprune.training.losses import CrossEntropy
from autoprune.training.objective import Objective

IMAGES = Inputs((torch.randn(4, 3, 8, 8),))
WIDE, NARROW = (nn.Conv2d(width, 16, 1, stride=2) for width in (16, 8))


@pytest.mark.parametrize(
    ("conv", "safe"),
    [
        (NARROW, False),
        (nn.Conv2d(32, 32, 1, stride=(1, 2), groups=4), False),
        (WIDE, True),
        (nn.Conv2d(8, 16, 1), True),
        (nn.Conv2d(8, 16, 3, stride=2), True),
        (nn.Conv2d(8, 16, 1, stride=2, device="meta"), True),
    ],
)
def test_channels_last_where_gradients_are_right(conv: nn.Conv2d, safe: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), conv)
    layout = training_layout(network, nn.Identity(), IMAGES)
    assert layout is (torch.channels_last if safe else torch.contiguous_format)


class Viewed(nn.Module):
    """Joins channels and pixels by a view."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, width, 3), nn.Linear(36 * width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        return self.head(x.view(x.shape[0], -1))


def test_contiguous_where_a_view_needs_that() -> None:
    assert layout_for(Viewed(), IMAGES) is torch.contiguous_format
    assert layout_for(nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten()), IMAGES) is torch.channels_last
    # With one channel every order is right, and says nothing of the wider ones.
    assert layout_for(Viewed(1), IMAGES) is torch.channels_last
    assert training_layout(Viewed(1), Viewed(), IMAGES) is torch.contiguous_format


def test_a_task_is_laid_out_for_its_dense_network_before_any_candidate_is_judged() -> None:
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 4
    metric = Accuracy([(images, labels)], torch.device("cpu"))
    given = Task(
        name="views",
        model=Viewed().eval(),
        chunks=[Inputs((images,)).channels_last()],
        probe=metric.inputs,
        metric=metric,
        fingerprints={},
    ).laid_out()
    assert given.metric(Viewed(1).eval()) >= 0 and given.metric(given.model) >= 0
    assert isinstance(given.metric, Accuracy)
    for inputs in (*given.chunks, *given.probe, *given.metric.inputs):
        assert inputs.args[0].is_contiguous()


def test_contiguous_where_a_view_joins_images_and_channels() -> None:
    class Folded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(-1, 1, *x.shape[2:])

    assert layout_for(Folded(), IMAGES) is torch.contiguous_format


def test_a_narrow_student_does_not_choose_the_layout_for_its_teacher() -> None:
    settings, teacher = TrainingConfig(distillation=0.5), Viewed().eval()
    objective = Objective(settings, CrossEntropy(), none, torch.device("cpu"), teacher)
    loss, images = objective(Viewed(1), (IMAGES, torch.zeros(4, dtype=torch.long)), 4.0)
    assert images == 4 and bool(loss.isfinite())


def test_trying_a_layout_leaves_the_mode_and_the_statistics_of_a_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)).train()
    layout_for(network, IMAGES)
    assert network.training and network[1].training and int(network[1].num_batches_tracked) == 0


@pytest.mark.parametrize("judged", ["evaluate", "validation"])
@pytest.mark.parametrize("method", ["none", "sequential", "independent", "filters", "joint", "casm"])
def test_a_network_with_views_is_searched(method: str, judged: str) -> None:
    options = {"casm": {"steps": 3, "batch": 16}, "joint": {"steps": 2}}.get(method, {})
    images, labels = torch.randn(48, 3, 8, 8), torch.arange(48) % 4
    judge = {"evaluate": lambda network: -float(network(images).square().mean().detach())}
    how: dict[str, Any] = {"validation": [(images, labels)]} if judged == "validation" else judge
    how |= {"reconstruction": method, "reconstruction_options": options, "trials": 3}
    front = autoprune.search(Viewed().eval(), calibration=images, **how)
    assert len(front.trials) == 3 and all(point.build()(images).shape == (48, 4) for point in front)


def test_a_metric_takes_the_layout_of_the_first_network_or_the_one_it_is_given() -> None:
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 4
    metric, network = Accuracy([(images, labels)], torch.device("cpu")), Viewed().eval()
    right = float((network(images).argmax(1) == labels).double().mean())
    assert metric(network) == metric.first(8)(network) == metric.mixed()(network) == right
    given = Accuracy([(images, labels)], torch.device("cpu")).laid_out(torch.contiguous_format)
    assert given.inputs[0].args[0].is_contiguous()
    assert given(Viewed(1).eval()) >= 0 and given(network) == right


class _Probe(nn.Module):
    """Notes the layout of what it is given."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv, self.contiguous = conv, False

    def forward(self, x: Tensor) -> Any:
        self.contiguous = x.is_contiguous()
        return self.conv(x).mean((2, 3))


@pytest.mark.parametrize("conv", [WIDE, NARROW])
def test_fine_tuning_hands_images_out_in_it(conv: nn.Conv2d) -> None:
    settings = TrainingConfig(distillation=0.0)
    objective = Objective(settings, CrossEntropy(), none, torch.device("cpu"))
    probe = _Probe(conv)
    images = Inputs((torch.rand(4, conv.in_channels, 8, 8),))
    objective(probe, (images, torch.zeros(4, dtype=torch.long)), 1.0)
    assert probe.contiguous == (conv is NARROW)
