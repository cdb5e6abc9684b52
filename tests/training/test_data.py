from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch.utils.data import TensorDataset

from autoprune.config import DataConfig
from autoprune.data import load_splits
from autoprune.data.pixels import Unlabelled
from autoprune.errors import DataError
from autoprune.training import TrainingData
from autoprune.training.data import labelled
from tests.training.conftest import Listed


def numbers(data: TrainingData, batch_size: int = 16, seed: int = 0) -> list[list[int]]:
    return [batch[1].tolist() for batch in data.batches(batch_size, seed)]


def counted(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(count).float()[:, None], torch.arange(count)


def test_an_epoch_sees_every_image_once_in_batches_of_nearly_equal_size() -> None:
    batches = numbers(TrainingData.of(TensorDataset(*counted(49))))
    assert sorted(chain(*batches)) == list(range(49))
    assert [len(batch) for batch in batches] == [13, 12, 12, 12]


def test_the_order_follows_from_the_seed() -> None:
    data = TrainingData.of(TensorDataset(*counted(49)))
    assert numbers(data, seed=1) == numbers(data, seed=1) != numbers(data, seed=2)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_of_items_gives_the_same_batches(workers: int) -> None:
    listed = TrainingData.of(Listed(*counted(20)), images=15, workers=workers)
    whole = TrainingData.of(TensorDataset(*counted(20)), images=15)
    assert numbers(listed) == numbers(whole)


def test_a_limit_takes_the_same_random_images_each_time() -> None:
    dataset = TensorDataset(*counted(50))
    few, more = TrainingData.of(dataset, images=10), TrainingData.of(dataset, images=20)
    chosen = [set(chain(*numbers(data))) for data in (few, more)]
    assert len(few) == len(chosen[0]) == 10 and chosen[0] < chosen[1]
    assert chosen[0] != set(range(10))
    with pytest.raises(DataError, match="51 images, but the split holds 50"):
        TrainingData.of(dataset, images=51)


def test_pixels_are_read_by_index() -> None:
    train = load_splits(DataConfig(dataset="digits")).train
    assert train is not None
    inputs, labels = next(iter(TrainingData.of(train).batches(8, seed=0)))
    assert inputs.shape == (8, 1, 8, 8) and labels.shape == (8,)
    alone = next(iter(TrainingData.of(Unlabelled(train)).batches(8, seed=0)))
    assert torch.equal(alone, inputs)


def test_labels_are_read_only_where_they_are_needed() -> None:
    inputs, labels = counted(4)
    assert labelled((inputs, labels), needed=False)[1] is None
    found, read = labelled([inputs, labels], needed=True)
    assert found.args[0] is inputs and read is labels
    with pytest.raises(DataError, match="pairs"):
        labelled(inputs, needed=True)


def test_batches_may_hold_several_inputs_and_their_labels() -> None:
    a, b, labels = torch.randn(5, 3), torch.randn(5, 2), torch.arange(5)
    inputs, found = labelled([a, b, labels], needed=True)
    assert inputs.args[0] is a and inputs.args[1] is b and found is labels


def test_labels_that_nobody_needs_are_no_inputs() -> None:
    images, masks = torch.randn(5, 3), torch.zeros(5, 4, 4)
    inputs, labels = labelled([images, masks], needed=False, most=1)
    assert inputs.args == (images,) and labels is None
    inputs, labels = labelled([{"x": images}, masks], needed=False)
    assert inputs.kwargs == {"x": images} and labels is None


class _Scaled(TensorDataset):
    """Its transform is one of single samples."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        values, label = super().__getitem__(index)
        return values / values.abs().max(), label


def test_a_users_own_dataset_is_asked_for_single_samples() -> None:
    values, labels = counted(20)
    batches = TrainingData.of(_Scaled(values + 1, labels)).batches(8, seed=0)
    assert all(torch.equal(inputs, torch.ones(len(inputs), 1)) for inputs, _ in batches)


def test_images_in_memory_are_known_again() -> None:
    first, second = TensorDataset(*counted(20)), TensorDataset(counted(20)[0] + 1, counted(20)[1])
    assert TrainingData.of(first).identity() == TrainingData.of(first).identity()
    assert TrainingData.of(first).identity() != TrainingData.of(second).identity()
    some = [TrainingData(dataset=first, indices=indices) for indices in ([0, 1], [2, 3])]
    assert some[0].identity() != some[1].identity()
    assert TrainingData.of(Listed(*counted(20))).identity() == {"images": 20, "data": None}
