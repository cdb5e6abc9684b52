from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score
from torch import nn

from autoprune.errors import DataError
from autoprune.searching.metrics import MeanIoU, PixelAccuracy

CPU = torch.device("cpu")
SCORES = torch.randn(6, 5, 7, 4, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(5, (6, 7, 4), generator=torch.Generator().manual_seed(2))


def test_pixels_count_as_in_scikit_learn() -> None:
    true, found = LABELS.flatten(), SCORES.argmax(1).flatten()
    assert MeanIoU([(SCORES, LABELS)], CPU)(nn.Identity()) == pytest.approx(
        jaccard_score(true, found, average="macro")
    )
    assert PixelAccuracy([(SCORES, LABELS)], CPU)(nn.Identity()) == pytest.approx(accuracy_score(true, found))


@pytest.mark.parametrize("ignored", [255, -100])
@pytest.mark.parametrize("kind", [MeanIoU, PixelAccuracy])
def test_ignored_pixels_count_nowhere(kind: type[MeanIoU], ignored: int) -> None:
    half = LABELS.clone()
    half[:, :, 2:] = ignored
    cropped = kind([(SCORES[..., :2], LABELS[..., :2])], CPU)(nn.Identity())
    assert kind([(SCORES, half)], CPU)(nn.Identity()) == pytest.approx(cropped)
    with pytest.raises(DataError, match="all are 255"):
        kind([(SCORES, torch.full_like(LABELS, 255))], CPU)(nn.Identity())


def test_classes_that_do_not_occur_are_left_out_of_the_mean() -> None:
    scores = nn.functional.one_hot(torch.zeros(1, 2, 2).long(), 5).movedim(-1, 1).float()
    assert MeanIoU([(scores, torch.zeros(1, 2, 2).long())], CPU)(nn.Identity()) == 1.0
    labels = torch.tensor([[[0, 0], [0, 1]]])
    assert MeanIoU([(scores, labels)], CPU)(nn.Identity()) == pytest.approx((3 / 4 + 0) / 2)


def test_the_output_may_be_torchvision_s_dict(answers: Callable[..., nn.Module]) -> None:
    metric = MeanIoU([(SCORES, LABELS)], CPU)
    assert metric(answers("out")) == metric(nn.Identity())


def test_labels_and_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match=r"\(6, height, width\), got torch.float32"):
        MeanIoU([(SCORES, LABELS.float())], CPU)
    with pytest.raises(DataError, match="height and width of their labels"):
        MeanIoU([(SCORES, LABELS[:, :3])], CPU)(nn.Identity())
    with pytest.raises(DataError, match="0 to 4"):
        MeanIoU([(SCORES, LABELS + 1)], CPU)(nn.Identity())
