from __future__ import annotations

import pytest
import torch

from autoprune.linear_algebra import damped, for_images


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
    assert float(amount) > 0 and bool((torch.linalg.cholesky_ex(matrix).info == 0).all())
