"""Training of the digits network from scratch, in seconds on two cores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

EPOCHS = 16
BATCH_SIZE = 64
PEAK_LEARNING_RATE = 4e-3


def train_digits(model: nn.Module, dataset: Dataset[Any], seed: int) -> None:
    """Train in place on (image, label) pairs; the same seed gives the same weights on the same machine.

    AdamW with one cycle of the learning rate, label smoothing and shifts of one pixel. The caller's random
    state is left as it was.
    """
    threads = torch.get_num_threads()
    # The layers are tiny: on a busy machine two threads, waiting for each other, took twenty times as long.
    torch.set_num_threads(1)
    try:
        _train(model, dataset, torch.Generator().manual_seed(seed))
    finally:
        torch.set_num_threads(threads)
    model.eval()


def _train(model: nn.Module, dataset: Dataset[Any], generator: torch.Generator) -> None:
    device = next(model.parameters()).device
    images, labels = (part.to(device) for part in next(iter(DataLoader(dataset, batch_size=2**30))))
    steps = EPOCHS * -(-len(images) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps)
    model.train()
    for batch in _batches(len(images), generator):
        batch = batch.to(device)
        logits = model(_shifted(images[batch], generator))
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(logits, labels[batch], label_smoothing=0.05))
        optimizer.step()
        schedule.step()


def _batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    for _ in range(EPOCHS):
        yield from torch.split(torch.randperm(count, generator=generator), BATCH_SIZE)


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """The batch (N, C, H, W) moved by -1, 0 or 1 pixel in each direction, one shift for the whole batch."""
    down, right = torch.randint(0, 3, (2,), generator=generator).tolist()
    height, width = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    return padded[:, :, down : down + height, right : right + width]
