from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

import autoprune.data as data
from autoprune.config import DataConfig
from autoprune.data import Splits, data_fingerprint, load_splits, register
from autoprune.data.pixels import Pixels
from autoprune.data.registry import datasets
from autoprune.data.splits import held_out_indices, random_order, stratified_order
from autoprune.errors import ConfigError, DataError

DATA = Path(__file__).parents[2] / "data"
EMPTY = TensorDataset(torch.zeros(0, 1))
FULL = TensorDataset(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
needs_cifar = pytest.mark.skipif(not (DATA / "cifar-10-batches-py").is_dir(), reason="no CIFAR-10 in data/")
needs_mnist = pytest.mark.skipif(not (DATA / "MNIST" / "raw").is_dir(), reason="no MNIST in data/")
needs_imagenet = pytest.mark.skipif(not (DATA / "imagenet").is_dir(), reason="no imagenet in data/")


def triple(config: DataConfig) -> tuple[Dataset[Any], ...]:
    return FULL, FULL, FULL


def whole(config: DataConfig) -> Splits:
    return Splits(calibration=FULL, validation=FULL, test=FULL, num_classes=config.batch_size)


def no_splits(config: DataConfig) -> int:
    return 3


def empty(config: DataConfig) -> tuple[Dataset[Any], ...]:
    return FULL, EMPTY, FULL


def failing(config: DataConfig) -> Splits:
    raise KeyError("images")


def images_of(dataset: Any) -> Tensor:
    return torch.stack([dataset[index][0] for index in range(len(dataset))])


def rows(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_exported_names() -> None:
    functions = {"as_batches", "check_images", "concatenate", "data_fingerprint", "load_splits", "loader"}
    assert set(data.__all__) == functions | {"Inputs", "Splits", "register"}
    assert set(datasets) == {"digits", "mnist", "cifar10", "cifar100", "imagefolder"}


def test_digits_are_divided_without_overlap_and_stratified() -> None:
    splits = load_splits(DataConfig(dataset="digits"))
    assert splits.train is not None and splits.num_classes == 10
    train, validation, test = (images_of(part) for part in (splits.train, splits.validation, splits.test))
    assert (len(train), len(validation), len(test)) == (1078, 359, 360)
    assert len(rows(train) | rows(validation) | rows(test)) == 1797
    for dataset in (splits.train, splits.validation, splits.test):
        counts = torch.bincount(dataset[:][1])
        assert counts.min() >= 0.92 * counts.max()
    assert abs(train.mean()) < 0.02 and abs(train.std() - 1) < 0.02
    calibration = splits.calibration[:]
    assert len(calibration) == 1024 and rows(calibration) <= rows(train)


def test_the_same_configuration_gives_the_same_images() -> None:
    config = DataConfig(dataset="digits")
    first = data_fingerprint(load_splits(config))
    assert first == data_fingerprint(load_splits(config))
    assert first != data_fingerprint(load_splits(DataConfig(dataset="digits", calibration_images=100)))
    assert first != data_fingerprint(load_splits(DataConfig(dataset="digits", mean=(0.5,))))


def test_fingerprint_sees_labels() -> None:
    splits = whole(DataConfig(dataset="-"))
    other = TensorDataset(torch.zeros(3, 1), torch.tensor([0, 1, 0]))
    assert data_fingerprint(splits) != data_fingerprint(dataclasses.replace(splits, validation=other))


@pytest.mark.parametrize(
    "options",
    [{"calibration_images": 1079}, {"validation_images": 719}, {"mean": (0.1, 0.2)}, {"std": (0.1, 0.2)}],
)
def test_options_that_do_not_fit_the_data(options: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        load_splits(DataConfig(dataset="digits", **options))


def test_options_a_dataset_would_ignore_are_refused() -> None:
    with pytest.raises(ConfigError, match="'digits' does not read 'image_size'"):
        load_splits(DataConfig(dataset="digits", image_size=32))


def test_the_table_refuses_duplicates_and_unknown_names() -> None:
    with pytest.raises(ConfigError, match="registered twice"):
        register("digits", reads=())(whole)
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        load_splits(DataConfig(dataset="cifar-10"))


def test_orders_are_permutations_and_prefixes_are_stratified() -> None:
    labels = [0] * 60 + [1] * 30 + [2] * 10
    order = stratified_order(labels)
    assert sorted(order) == sorted(random_order(100)) == list(range(100))
    assert torch.bincount(torch.tensor([labels[index] for index in order[:50]])).tolist() == [30, 15, 5]
    # Recorded: the division of a dataset must never move between versions.
    assert random_order(8) == RECORDED


RECORDED = [1, 3, 7, 5, 6, 2, 4, 0]


def test_held_out_halves_by_default_and_leaves_a_test() -> None:
    validation, test = held_out_indices([0] * 1300, None)
    assert len(validation) == len(test) == 650 and not set(validation) & set(test)
    assert [len(part) for part in held_out_indices([0] * 10_000, None)] == [2000, 8000]
    with pytest.raises(DataError, match="some remain for the test"):
        held_out_indices([0] * 10, 10)


@pytest.mark.parametrize(("function", "classes"), [(triple, None), (whole, 7)])
def test_a_users_own_function(function: Callable[..., Any], classes: int | None) -> None:
    splits = load_splits(DataConfig(dataset=f"{__name__}:{function.__name__}", batch_size=7))
    assert splits.calibration is FULL and splits.num_classes == classes


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (f"{__name__}:no_splits", "must return Splits"),
        (f"{__name__}:empty", "validation split .* is empty"),
        (f"{__name__}:failing", "failed: KeyError"),
        (f"{__name__}:absent", "has no 'absent'"),
        ("no_such_package:f", "does not import"),
    ],
)
def test_a_users_bad_function(path: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_splits(DataConfig(dataset=path))


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_absent_data_says_how_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="download=True"):
        load_splits(DataConfig(dataset=name, root=str(tmp_path)))


def test_pixels_need_one_label_each() -> None:
    with pytest.raises(DataError, match="one label per image"):
        Pixels(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(3), mean=(0.0,), std=(1.0,))


def picture(path: Path, shade: int, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for number in range(4):
        picture(tmp_path / "train" / "ab"[number % 2] / f"{number}.png", 255)
        picture(tmp_path / "val" / "ab"[number % 2] / f"{number}.png", 0)
    return tmp_path


def test_image_folder(folders: Path) -> None:
    options: dict[str, Any] = {"image_size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    splits = load_splits(DataConfig(dataset="imagefolder", root=str(folders), **options))
    assert [len(part) for part in (splits.calibration, splits.validation, splits.test)] == [4, 2, 2]  # type: ignore[arg-type]
    assert torch.equal(splits.calibration[0], torch.ones(3, 16, 16))
    assert torch.equal(splits.validation[0][0], -torch.ones(3, 16, 16))
    assert {splits.validation[0][1], splits.validation[1][1]} == {0, 1} and splits.num_classes == 2


def test_bad_image_folders(folders: Path) -> None:
    def load(**options: Any) -> Splits:
        return load_splits(DataConfig(dataset="imagefolder", root=str(folders), **options))

    with pytest.raises(DataError, match="one sub-folder"):
        load(train_root=str(folders / "absent"))
    with pytest.raises(DataError, match="at least image_size"):
        load(image_size=16, resize=8)
    with pytest.raises(DataError, match="per channel"):
        load(mean=(0.5,))
    (folders / "none" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no images"):
        load(train_root=str(folders / "none"))
    picture(folders / "val" / "c" / "1.png", 0)
    with pytest.raises(DataError, match="same classes, but only one has c"):
        load()


@needs_cifar
def test_cifar10_holds_out_the_official_test_images() -> None:
    splits = load_splits(DataConfig(dataset="cifar10", root=str(DATA), calibration_images=32))
    assert splits.train is not None
    sizes = [len(part) for part in (splits.calibration, splits.validation, splits.test, splits.train)]  # type: ignore[arg-type]
    assert sizes == [32, 2000, 8000, 50_000]
    assert torch.bincount(splits.validation[:][1]).tolist() == [200] * 10
    assert splits.calibration[0].shape == (3, 32, 32) and splits.calibration[0].dtype == torch.float32


@needs_mnist
def test_mnist() -> None:
    splits = load_splits(DataConfig(dataset="mnist", root=str(DATA), validation_images=1000))
    images, _ = splits.validation[:]
    assert images.shape == (1000, 1, 28, 28) and abs(images.mean()) < 0.05 and abs(images.std() - 1) < 0.05


@needs_imagenet
def test_imagenet_folders() -> None:
    train, validation = str(DATA / "imagenet" / "calibration1000"), str(DATA / "imagenet" / "val1300")
    options: dict[str, Any] = {"train_root": train, "validation_root": validation, "resize": 224}
    splits = load_splits(DataConfig(dataset="imagefolder", **options))
    sizes = [len(part) for part in (splits.calibration, splits.validation, splits.test)]  # type: ignore[arg-type]
    assert sizes == [1000, 650, 650] and splits.num_classes == 1000
    assert splits.calibration[0].shape == (3, 224, 224)
