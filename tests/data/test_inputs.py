from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from autoprune.data import Inputs, as_batches, check_images, concatenate, loader
from autoprune.data.inputs import mixed, most_inputs
from autoprune.errors import DataError

X = torch.arange(20.0, dtype=torch.float64).reshape(10, 2)
LABELS = torch.arange(10)


class Pairs(Dataset[Any]):
    """Map-style, and not sliceable: goes through a DataLoader."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return X[index], int(LABELS[index])


class TwoInputs(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b


SOURCES: dict[str, Callable[[], Any]] = {
    "tensor": lambda: X,
    "mapping": lambda: {"x": X},
    "inputs": lambda: Inputs((X,)),
    "dataset": Pairs,
    "tensor dataset": lambda: TensorDataset(X, LABELS),
    "loader of pairs": lambda: DataLoader(TensorDataset(X, LABELS), batch_size=4),
    "loader of inputs": lambda: loader(TensorDataset(X), 4),
    "list": lambda: list(X.split(4)),
    "generator": lambda: (part for part in X.split(4)),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_samples_twice(source: str) -> None:
    batches = as_batches(SOURCES[source](), 4)
    for _ in range(2):
        parts = list(batches)
        assert [part.size for part in parts] == [4, 4, 2]
        (whole,) = concatenate(parts).tensors
        assert whole.dtype == torch.float64 and torch.equal(whole, X)
    assert check_images(SOURCES[source]()) == 10


@pytest.mark.parametrize(
    ("batch", "args", "kwargs"),
    [
        (X, 1, 0),
        ((X, LABELS), 1, 0),
        ([X, LABELS], 1, 0),
        (({"a": X, "b": X}, LABELS), 0, 2),
        (((X, X), LABELS), 2, 0),
        ((X, X), 2, 0),
        ((X, LABELS.float()), 2, 0),
        ((X, LABELS.unsqueeze(1)), 2, 0),
        ((X, X, LABELS), 3, 0),
        ({"x": X, "ids": LABELS}, 0, 2),
    ],
)
def test_what_is_dropped_as_labels(batch: object, args: int, kwargs: int) -> None:
    inputs = Inputs.of(batch)
    assert (len(inputs.args), len(inputs.kwargs)) == (args, kwargs)


def test_call_slice_and_take() -> None:
    positional, keyword = Inputs((X, 2 * X)), Inputs((X,), {"b": 2 * X})
    assert torch.equal(positional.call(TwoInputs()), -X) and torch.equal(keyword.call(TwoInputs()), -X)
    assert torch.equal(keyword.slice(2, 5).call(TwoInputs()), -X[2:5])
    assert keyword.take(3).size == 3 and keyword.take(99).size == 10
    assert keyword.to("meta").tensors[0].is_meta
    assert torch.equal(concatenate([keyword.take(4), keyword.slice(4, 10)]).call(TwoInputs()), -X)


@pytest.mark.parametrize(
    "source",
    [
        torch.zeros(0, 3),
        [],
        iter(()),
        TensorDataset(X[:0]),
        [X[:0]],
        torch.tensor([[1.0], [float("nan")]]),
        {"x": torch.tensor([1.0, float("inf")])},
        [X, torch.full((2, 2), float("-inf"))],
        ["text"],
        [torch.tensor(3.0)],
        [(X, X[:3])],
        [{}],
        3,
    ],
)
def test_bad_images_are_refused(source: Any) -> None:
    with pytest.raises(DataError):
        check_images(source)


def test_other_bad_calls() -> None:
    with pytest.raises(DataError, match="batch_size"):
        as_batches(X, 0)
    with pytest.raises(DataError, match="batch_size"):
        loader(TensorDataset(X), 0)
    with pytest.raises(DataError, match="empty dataset"):
        loader(TensorDataset(X[:0]))
    with pytest.raises(DataError, match="none"):
        concatenate([])
    with pytest.raises(DataError, match="same positional"):
        concatenate([Inputs((X,)), Inputs((), {"x": X})])


@pytest.mark.parametrize("dataset", [TensorDataset(X, LABELS), Pairs()], ids=["sliced", "collated"])
def test_loader_yields_pairs_on_the_device(dataset: Dataset[Any]) -> None:
    batches = loader(dataset, 4)
    assert len(batches) == 3 and sum(len(labels) for _, labels in batches) == 10
    assert torch.equal(torch.cat([images for images, _ in batches]), X)
    images, labels = next(iter(loader(dataset, 4, "meta")))
    assert images.is_meta and labels.is_meta


def test_inputs_by_name_are_compared_by_name() -> None:
    x, y = torch.zeros(2, 3), torch.zeros(2, 5, 4)
    whole = concatenate([Inputs.of({"x": x, "y": y}), Inputs.of({"y": y, "x": x})])
    assert whole.kwargs["x"].shape == (4, 3) and whole.kwargs["y"].shape == (4, 5, 4)
    with pytest.raises(DataError, match="got 3, 5x4 and 3, 4x5"):
        concatenate([Inputs.of({"x": x, "y": y}), Inputs.of({"x": x, "y": y.mT})])


def test_volumes_and_masks_are_mirrored_with_their_images() -> None:
    images, mask, numbers = torch.randn(2, 3, 4, 6), torch.rand(2, 4, 6), torch.randn(2, 6, 4)
    found = Inputs((images,), {"mask": mask, "numbers": numbers}).mirrored()
    assert found.args[0].equal(images.flip(3)) and found.kwargs["mask"].equal(mask.flip(2))
    assert found.kwargs["numbers"].equal(numbers)
    volumes = torch.randn(2, 3, 5, 4, 6)
    assert Inputs((volumes,)).mirrored().args[0].equal(volumes.flip(4))


def test_sequences_have_no_mirror() -> None:
    tokens = Inputs((torch.randn(2, 7, 4),))
    assert not tokens.has_images and tokens.mirrored().args[0].equal(tokens.args[0])


def test_samples_of_two_batches_mix() -> None:
    one, other = (
        Inputs((torch.zeros(3, 2),), {"k": torch.zeros(3)}),
        Inputs((torch.ones(3, 2),), {"k": torch.ones(3)}),
    )
    found = one.where(torch.tensor([True, False, True]), other)
    assert found.args[0].tolist() == [[1, 1], [0, 0], [1, 1]] and found.kwargs["k"].tolist() == [1, 0, 1]


def test_mixed_samples_are_all_of_them_in_a_fixed_random_order() -> None:
    whole = torch.arange(100.0)[:, None]
    found = mixed([Inputs((part,), {"again": part}) for part in whole.split([7, 50, 43])])
    assert torch.equal(found.args[0], found.kwargs["again"])
    assert torch.equal(found.args[0], mixed([Inputs((whole,))]).args[0])
    values = found.args[0][:, 0]
    assert values.sort().values.tolist() == whole[:, 0].tolist()
    assert 20 < float(values[:20].mean()) < 80, "its beginning is a sample"


class Segmenter(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image


class Variadic(nn.Module):
    def forward(self, *images: Tensor) -> Tensor:
        return images[0]


MASKS = torch.zeros(10, 4, 4, dtype=torch.long)


@pytest.mark.parametrize(
    ("model", "batch", "count"),
    [
        (Segmenter(), [X, MASKS], 1),
        (Segmenter(), [X, X[:, :1]], 1),
        (TwoInputs(), [X, X], 2),
        (TwoInputs(), [X, X, MASKS], 2),
        (TwoInputs(), [[X, X], X], 2),
        (TwoInputs(), [{"a": X, "b": X}, X[:, :1]], 2),
        (Variadic(), [X, X, MASKS], 3),
    ],
)
def test_labels_are_what_a_network_does_not_take(model: nn.Module, batch: Any, count: int) -> None:
    assert len(Inputs.of(batch, most_inputs(model)).tensors) == count
    (read,) = as_batches([batch], 4, most_inputs(model))
    assert len(read.tensors) == count


def test_a_forward_without_a_signature_takes_what_is_given() -> None:
    model = nn.Identity()
    model.forward = dict  # type: ignore[assignment]
    assert len(Inputs.of([X, MASKS], most_inputs(model)).tensors) == 2


def test_what_a_hook_makes_of_the_inputs_nobody_knows() -> None:
    model = Segmenter()
    model.register_forward_pre_hook(lambda module, given: (sum(given),))
    assert len(Inputs.of([X, X], most_inputs(model)).tensors) == 2


@pytest.mark.parametrize("batch", [([X], [X]), ({"a": X}, {"b": X}), ((X, X), (X, X))])
def test_inputs_within_inputs_are_no_labels(batch: Any) -> None:
    with pytest.raises(DataError, match="must be tensors"):
        Inputs.of(batch)
