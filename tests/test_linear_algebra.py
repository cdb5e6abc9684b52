from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from autoprune.linear_algebra import Factored, damped, for_images, inverse_of, rounded_products

GPU = torch.device("cuda")


def test_few_images_per_unknown_are_damped_more() -> None:
    by_images = [for_images(1e-3, 576, images) for images in (16, 128, 2048, 10**9)]
    by_columns = [for_images(1e-3, columns, 1000) for columns in (9, 64, 576, 4608)]
    assert by_images == sorted(by_images, reverse=True) and by_columns == sorted(by_columns)
    assert by_images[-1] == pytest.approx(1e-3, rel=1e-3), "with images without end nothing is added"
    assert for_images(0.0, 4608, 10) == 0.0


def test_more_damping_helps_on_unseen_data_where_images_are_few() -> None:
    generator = torch.Generator().manual_seed(0)
    prior = torch.randn(1, 1, 40, generator=generator, dtype=torch.float64)

    def unseen_error(images: int, damping: float) -> float:
        inputs = torch.randn(40, images, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        noise = torch.randn(1, images, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        matrix, amount = damped((inputs @ inputs.T / images).unsqueeze(0), damping)
        wanted = prior[0] @ inputs + noise
        cross = (wanted @ inputs.T / images).unsqueeze(0) + amount * prior
        found = torch.linalg.solve(matrix, cross.mT).mT
        return float((found - prior).square().sum())

    few, many = 50, 20_000
    assert unseen_error(few, for_images(1e-3, 40, few)) < unseen_error(few, 1e-3)
    assert for_images(1e-3, 40, many) < 1.1e-3 and unseen_error(many, for_images(1e-3, 40, many)) < 0.01


def test_a_matrix_of_zeros_can_be_solved() -> None:
    matrix, amount = damped(torch.zeros(2, 3, 3, dtype=torch.float64), 1e-3)
    assert bool((amount > 0).all()) and bool((torch.linalg.cholesky_ex(matrix).info == 0).all())


@pytest.fixture
def precision() -> Iterator[None]:
    """Puts torch's settings back, whatever a test leaves."""
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = "none"  # type: ignore[attr-defined]
    torch.backends.mkldnn.matmul.fp32_precision = "none"  # type: ignore[attr-defined]


def settings() -> list[str]:
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    return [torch.get_float32_matmul_precision(), *(one.fp32_precision for one in backends)]  # type: ignore


@pytest.mark.parametrize("theirs", ["highest", "high", "medium"])
def test_products_are_rounded_on_a_gpu_alone_and_settings_come_back(precision: None, theirs: str) -> None:
    torch.set_float32_matmul_precision(theirs)
    before = settings()
    with rounded_products(torch.device("cpu")):
        assert settings() == before
    with pytest.raises(ZeroDivisionError), rounded_products(GPU):
        assert torch.get_float32_matmul_precision() == ("high" if theirs == "highest" else theirs)
        raise ZeroDivisionError
    assert settings() == before


def test_settings_that_contradict_each_other_are_left_alone(precision: None) -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"  # type: ignore[attr-defined]
    with rounded_products(GPU):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"  # type: ignore[attr-defined]
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"  # type: ignore[attr-defined]


def test_the_inverse_of_a_factor_solves_as_the_factor_does() -> None:
    columns = torch.randn(3, 6, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    right = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    system = Factored.of(columns @ columns.mT, 1e-3)
    assert not system.inverted
    inverted = Factored(inverse_of(system.factor), system.damping, inverted=True)
    torch.testing.assert_close(inverted.solve(right), system.solve(right))


@pytest.mark.parametrize("negative", [-1e-18, -1e-3])
def test_an_indefinite_matrix_is_solved_without_the_directions_below_the_noise(negative: float) -> None:
    # What rounding leaves of a direction that is not there may be large below zero, too.
    matrix = torch.diag(torch.tensor([2.0, 1.0, negative], dtype=torch.float64)).unsqueeze(0)
    system = Factored.of(matrix, 0.0)
    found = system.solve(torch.ones(1, 3, 1, dtype=torch.float64))
    assert system.inverted
    torch.testing.assert_close(found.flatten(), torch.tensor([0.5, 1.0, 0.0], dtype=torch.float64))
