from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.errors import DataError
from autoprune.training.losses import PixelCrossEntropy, cross_entropy, distillation_loss

LOSS = PixelCrossEntropy()
LABELS = torch.randint(0, 4, (2, 5, 6), generator=torch.Generator().manual_seed(9))


def scores(seed: int) -> Tensor:
    return 3 * torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


def pixels(seed: int) -> Tensor:
    return torch.stack([scores(seed)[i, :, y, x] for i in range(2) for y in range(5) for x in range(6)])


def test_every_pixel_is_an_image_of_a_classifier() -> None:
    found = LOSS.to_labels(scores(0), LABELS, 0.1)
    torch.testing.assert_close(found, F.cross_entropy(scores(0), LABELS, label_smoothing=0.1))
    torch.testing.assert_close(found, cross_entropy(pixels(0), LABELS.flatten(), 0.1))
    taught = LOSS.to_teacher(scores(0), scores(1), 3.0)
    torch.testing.assert_close(taught, distillation_loss(pixels(0), pixels(1), 3.0))


@pytest.mark.parametrize("entry", ["out", "logits"])
def test_the_scores_may_stand_in_a_dict_beside_others(entry: str) -> None:
    output = {"aux": scores(5), entry: scores(0)}
    assert torch.equal(LOSS.to_labels(output, LABELS), LOSS.to_labels(scores(0), LABELS))


@pytest.mark.parametrize("ignored", [255, -100])
def test_unlabelled_pixels_count_nowhere(ignored: int) -> None:
    labels = LABELS.clone()
    labels[0, :, :3] = ignored
    asked = labels.flatten() != ignored
    expected = cross_entropy(pixels(0)[asked], labels.flatten()[asked])
    torch.testing.assert_close(LOSS.to_labels(scores(0), labels), expected)
    assert LOSS.to_labels(scores(0), torch.full_like(LABELS, ignored)) == 0, "and nothing is no number"


def test_masks_of_bytes_are_labels() -> None:
    torch.testing.assert_close(LOSS.to_labels(scores(0), LABELS.byte()), LOSS.to_labels(scores(0), LABELS))


@pytest.mark.parametrize("labels", [LABELS[:, :4], LABELS.float(), LABELS[:, None], LABELS[:1]])
def test_labels_that_do_not_fit_are_refused(labels: Tensor) -> None:
    with pytest.raises(DataError, match=r"integers of shape \(2, 5, 6\)"):
        LOSS.to_labels(scores(0), labels)


@pytest.mark.parametrize("output", [torch.zeros(2, 4), {"aux": torch.zeros(2, 4, 5, 6)}, [torch.zeros(1)]])
def test_outputs_that_are_no_pixels_are_refused(output: object) -> None:
    with pytest.raises(DataError, match=r"shape \(batch, classes, height, width\) from the network"):
        LOSS.to_labels(output, LABELS)
    with pytest.raises(DataError, match="from the teacher"):
        LOSS.to_teacher(scores(0), output)
