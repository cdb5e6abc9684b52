"""The 1,797 handwritten digits (8x8, grey) bundled with scikit-learn: nothing to download."""

from __future__ import annotations

import torch

from autoprune.config import DataConfig
from autoprune.data.pixels import Pixels, Unlabelled
from autoprune.data.registry import register
from autoprune.data.splits import Splits, calibration_indices, held_out_indices, stratified_order

WHITE = 16
MEAN, STD = (0.305,), (0.376,)
TRAIN_SHARE = 0.6


@register("digits", reads=("mean", "std"))
def digits(config: DataConfig) -> Splits:
    """60 % for training and calibration, 20 % for validation and 20 % for the test, stratified."""
    # Imported here: a second or more, which other datasets do without.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target)
    everything = Pixels(images, labels, mean=config.mean or MEAN, std=config.std or STD, white=WHITE)
    order = stratified_order(labels.tolist())
    cut = round(TRAIN_SHARE * len(order))
    train, held_out = everything.select(order[:cut]), everything.select(order[cut:])
    validation, test = held_out_indices(held_out.labels.tolist(), config.validation_images)
    return Splits(
        calibration=Unlabelled(train.select(calibration_indices(len(train), config.calibration_images))),
        validation=held_out.select(validation),
        test=held_out.select(test),
        train=train,
        num_classes=10,
    )
