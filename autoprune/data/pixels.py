"""Images held in memory as bytes and normalised when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from autoprune.errors import DataError

PerChannel = tuple[float, ...]


def check_normalisation(mean: PerChannel, std: PerChannel, *, channels: int) -> None:
    """DataError unless there is one mean and one standard deviation per channel."""
    if len(mean) != channels or len(std) != channels:
        raise DataError(
            f"mean and std in [data] need one number per channel ({channels}), got {len(mean)} and {len(std)}"
        )


class Pixels(Dataset[tuple[Tensor, Tensor]]):
    """(image, label) pairs: float32 (C, H, W), normalised, and int64; a slice gives a batch of both.

    `images` is uint8 (N, C, H, W), where `white` is the largest value; `mean` and `std` hold one number
    per channel for pixels in 0..1. DataError where their number or that of the labels does not fit.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, *, mean: PerChannel, std: PerChannel, white: int = 255
    ) -> None:
        check_normalisation(mean, std, channels=images.shape[1])
        if len(labels) != len(images):
            raise DataError(f"there must be one label per image, got {len(labels)} for {len(images)} images")
        self.images, self.labels = images, labels.long()
        self.mean, self.std, self.white = mean, std, white

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice) -> tuple[Tensor, Tensor]:
        mean = torch.tensor(self.mean).view(-1, 1, 1)
        std = torch.tensor(self.std).view(-1, 1, 1)
        return (self.images[index].float() / self.white - mean) / std, self.labels[index]

    def select(self, indices: Sequence[int]) -> Pixels:
        """The images at `indices`, in that order, as a copy."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        images, labels = self.images[chosen], self.labels[chosen]
        return Pixels(images, labels, mean=self.mean, std=self.std, white=self.white)


class Unlabelled(Dataset[Any]):
    """The inputs of a dataset of (input, label) pairs."""

    def __init__(self, labelled: Dataset[tuple[Any, Any]]) -> None:
        self.labelled = labelled

    def __len__(self) -> int:
        return len(self.labelled)  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> Any:
        return self.labelled[index][0]
