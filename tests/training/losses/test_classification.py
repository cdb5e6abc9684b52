from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from autoprune.errors import DataError
from autoprune.training import cross_entropy, distillation_loss
from autoprune.training.losses.classification import class_scores
from autoprune.training.temperature import temperature_at


def scores(seed: int) -> torch.Tensor:
    return 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))


def test_distillation_is_the_written_out_sum() -> None:
    student, teacher, t = scores(0), scores(1), 3.0
    p, q = (teacher / t).softmax(1), (student / t).softmax(1)
    expected = t**2 * (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(distillation_loss(student, teacher, t), expected)


def test_distillation_vanishes_only_where_the_distributions_agree() -> None:
    # Scores that differ by a constant per image are the same distribution.
    assert distillation_loss(scores(0) + 5, scores(0), 4.0).item() == pytest.approx(0, abs=1e-5)
    assert distillation_loss(scores(0), scores(1), 4.0) > 0.01


def test_hot_gradients_keep_their_size() -> None:
    """T^2 makes up for gradients that fall with 1 / T^2 (Hinton et al., section 2.1)."""
    sizes = []
    for temperature in (50.0, 100.0):
        student = scores(0).requires_grad_()
        distillation_loss(student, scores(1), temperature).backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_cross_entropy_takes_labels_of_any_integer_type() -> None:
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    expected = F.cross_entropy(scores(0), labels, label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(scores(0), labels.to(torch.int32), 0.1), expected)


@pytest.mark.parametrize("labels", [torch.zeros(6), torch.zeros(5, dtype=torch.int64), torch.zeros(6, 4)])
def test_labels_that_do_not_fit_are_refused(labels: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"labels must be integers of shape \(6,\)"):
        cross_entropy(scores(0), labels)


@pytest.mark.parametrize("output", [torch.zeros(2, 3, 4), (torch.zeros(2, 3),), torch.zeros(2, 3).long()])
def test_outputs_that_are_no_class_scores_are_refused(output: object) -> None:
    with pytest.raises(DataError, match=r"shape \(batch, classes\)"):
        class_scores(output)


def test_scores_of_half_precision_become_single() -> None:
    assert class_scores(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.float32
    assert class_scores(torch.zeros(2, 3, dtype=torch.float64)).dtype == torch.float64


def test_temperature_is_constant_or_falls_on_a_cosine() -> None:
    assert {temperature_at(4.0, share) for share in (0, 0.3, 1)} == {4.0}
    falling = [temperature_at((8.0, 1.0), share / 10) for share in range(11)]
    assert falling[0] == 8 and falling[5] == pytest.approx(4.5) and falling[10] == pytest.approx(1)
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("wrong", [-1, 4, -7])
def test_labels_that_no_score_belongs_to_are_named(wrong: int) -> None:
    with pytest.raises(DataError, match=rf"integers of 0 to 3.* got {wrong};"):
        cross_entropy(torch.randn(3, 4), torch.tensor([0, 3, wrong]))


def test_images_that_nobody_asks_about_count_nowhere() -> None:
    labels = torch.tensor([0, -100, 3, 1, -100, 2])
    asked = labels >= 0
    found = cross_entropy(scores(0), labels)
    torch.testing.assert_close(found, cross_entropy(scores(0)[asked], labels[asked]))
    assert cross_entropy(scores(0), torch.full((6,), -100)) == 0, "and nothing is no number"
