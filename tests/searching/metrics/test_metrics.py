"""What holds for every metric of the table, and for a user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune.data.inputs import Inputs
from autoprune.errors import ConfigError, DataError
from autoprune.searching.metric_scale import ACCURACY, MetricScale
from autoprune.searching.metrics import LabelledMetric, OwnMetric, find_metric, metrics, scale_of

CPU = torch.device("cpu")
EXAMPLES: dict[str, tuple[Tensor, Tensor, Tensor]] = {
    "accuracy": (torch.randn(12, 4), torch.randint(4, (12,)), torch.randn(12, 4)),
    "pixel-accuracy": (torch.randn(12, 3, 5, 4), torch.randint(3, (12, 5, 4)), torch.randn(12, 3, 5, 4)),
    "mean-iou": (torch.randn(12, 3, 5, 4), torch.randint(3, (12, 5, 4)), torch.randn(12, 3, 5, 4)),
    "r2": (torch.randn(12, 2), torch.randn(12, 2), torch.randn(12, 2)),
}
each = pytest.mark.parametrize("name", list(metrics))


def perfect(name: str) -> Tensor:
    labels = EXAMPLES[name][1]
    if name == "r2":
        return labels
    return nn.functional.one_hot(labels, 4).float().movedim(-1, 1)


def test_every_metric_has_an_example() -> None:
    assert set(EXAMPLES) == set(metrics)


@each
def test_the_value_does_not_depend_on_batches(name: str) -> None:
    outputs, labels, _ = EXAMPLES[name]
    whole = metrics[name]([(outputs, labels)], CPU)
    parts = metrics[name](list(zip(outputs.split([5, 1, 6]), labels.split([5, 1, 6]), strict=True)), CPU)
    assert whole(nn.Identity()) == pytest.approx(parts(nn.Identity()), abs=1e-12)
    assert whole.images == parts.images == 12


@each
def test_the_first_images_are_the_metric_on_them(name: str) -> None:
    outputs, labels, _ = EXAMPLES[name]
    batches = list(zip(outputs.split(5), labels.split(5), strict=True))
    first = metrics[name](batches, CPU).first(7)
    assert first.images == 7 and sum(part.size for part in first.inputs) == 7
    expected = metrics[name]([(outputs[:7], labels[:7])], CPU)(nn.Identity())
    assert first(nn.Identity()) == pytest.approx(expected, abs=1e-12)


@each
def test_a_perfect_network_has_one_and_no_other_has_more(name: str) -> None:
    _, labels, noise = EXAMPLES[name]
    best = metrics[name]([(perfect(name), labels)], CPU)(nn.Identity())
    assert best == 1.0
    assert metrics[name]([(noise[:, : perfect(name).shape[1]], labels)], CPU)(nn.Identity()) < best


@each
def test_outputs_are_seen_on_the_way(name: str) -> None:
    outputs, labels, _ = EXAMPLES[name]
    seen: list[tuple[int, Tensor]] = []
    metric = metrics[name](list(zip(outputs.split(6), labels.split(6), strict=True)), CPU)
    assert metric.observed(nn.Identity(), lambda i, output: seen.append((i, output))) == metric(nn.Identity())
    assert [i for i, _ in seen] == [0, 1] and torch.cat([output for _, output in seen]).equal(outputs)


@each
@pytest.mark.parametrize("bad", ["empty", "unlabelled", "short", "no tensor", "not finite"])
def test_data_that_does_not_fit_is_refused(name: str, bad: str) -> None:
    outputs, labels, _ = EXAMPLES[name]
    loader: dict[str, list[Any]] = {
        "empty": [],
        "unlabelled": [outputs],
        "short": [(outputs, labels[:3])],
        "no tensor": [(outputs, labels.tolist())],
        "not finite": [(outputs / 0, labels)],
    }
    with pytest.raises(DataError):
        metrics[name](loader[bad], CPU)


@each
def test_outputs_that_do_not_fit_are_refused(name: str, answers: Callable[..., nn.Module]) -> None:
    outputs, labels, _ = EXAMPLES[name]
    metric = metrics[name]([(outputs, labels)], CPU)
    for network in (answers("scores"), nn.Flatten(0), nn.Unflatten(0, (2, 6))):
        with pytest.raises(DataError):
            metric(network)


def test_several_inputs_and_their_labels() -> None:
    a, b, labels = torch.randn(6, 3), torch.arange(6), torch.randint(3, (6,))

    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b[:, None]

    ways: list[Any] = [((a, b), labels), ([a, b], labels), ({"b": b, "a": a}, labels), (a, b, labels)]
    values = {metrics["accuracy"]([way], CPU)(Sum()) for way in ways}
    assert values == {int((a.argmax(1) == labels).sum()) / 6}


def hinge(outputs: Tensor, labels: Tensor) -> Tensor:
    return -(outputs.squeeze(1) - labels).abs().mean()


def test_a_function_of_the_users_counts_batches_by_their_size() -> None:
    outputs, labels = torch.randn(7, 1), torch.randn(7)
    whole = find_metric(hinge)([(outputs, labels)], CPU)
    parts = find_metric(hinge)([(outputs[:2], labels[:2]), (outputs[2:], labels[2:])], CPU)
    assert isinstance(whole, OwnMetric) and scale_of(whole) == MetricScale(name="hinge")
    assert whole(nn.Identity()) == pytest.approx(parts(nn.Identity()), rel=1e-6)
    assert parts.first(2).scale == whole.scale


def test_names_paths_and_classes_are_found() -> None:
    path = f"{__name__}:hinge"
    outputs = torch.randn(3, 1)
    assert find_metric("r2") is metrics["r2"]
    assert scale_of(find_metric("torch.nn.functional:mse_loss")([(outputs, outputs)], CPU)).name == "mse_loss"
    assert find_metric("autoprune.searching.metrics:MeanIoU") is metrics["mean-iou"], path
    assert scale_of(lambda network: 1.0).name == "metric" and scale_of(find_metric("accuracy")) != ACCURACY


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("mean-uoi", "did you mean 'mean-iou'"),
        ("nowhere:gone", "nowhere"),
        ("math:gone", "no 'gone'"),
        (7, "got int"),
    ],
)
def test_what_is_no_metric_is_refused(metric: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_metric(metric)


def test_a_function_that_gives_no_number_is_refused() -> None:
    metric = find_metric(lambda outputs, labels: outputs)([(torch.randn(4, 3), torch.randn(4))], CPU)
    with pytest.raises(DataError, match="one number"):
        metric(nn.Identity())


def test_whatever_a_function_of_the_users_raises_is_one_error() -> None:
    def insists(outputs: Tensor, labels: Tensor) -> float:
        assert len(outputs) == 0, "no outputs are wanted"
        return 0.0

    metric = find_metric(insists)([(torch.randn(4, 3), torch.randn(4))], CPU)
    with pytest.raises(DataError, match="AssertionError: no outputs are wanted"):
        metric(nn.Identity())


def test_scales_print_what_they_are() -> None:
    assert ACCURACY.shown(0.9125) == "91.25 %" and ACCURACY.change(-0.013) == "-1.30 points"
    plain = MetricScale(name="r2")
    assert [plain.shown(v) for v in (-0.48712, 0.995, 1234.0)] == ["-0.4871", "0.9950", "1234"]
    assert plain.change(0.013) == "+0.013"
    assert all(issubclass(metrics[name], LabelledMetric) and metrics[name].summary() for name in metrics)


def test_batches_that_are_merged_hold_the_same_images() -> None:
    from autoprune.searching.metrics.base import _merged

    parts = [(Inputs((torch.randn(size, 3, 4),)), torch.arange(size)) for size in (5, 2, 4)]
    ((inputs, labels),) = _merged(parts)
    assert torch.equal(inputs.tensors[0], torch.cat([given.tensors[0] for given, _ in parts]))
    assert torch.equal(labels, torch.cat([given for _, given in parts]))
    other = (Inputs((torch.randn(2, 3, 5),)), torch.arange(2))
    assert _merged([*parts, other]) == [*parts, other], "images of two sizes do not go together"


def test_an_empty_batch_counts_nothing() -> None:
    images, labels = torch.eye(3), torch.tensor([0, 1, 1])
    batches = [(images[:0], labels[:0]), (images, labels)]
    assert metrics["accuracy"](batches, torch.device("cpu"))(nn.Identity()) == pytest.approx(2 / 3)
