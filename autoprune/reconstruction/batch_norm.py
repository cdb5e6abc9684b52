"""Re-estimate batch-norm statistics on the calibration images (EagleEye, Li et al., ECCV 2020)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from autoprune.data.inputs import Inputs
from autoprune.errors import DataError


@torch.no_grad()
def re_estimate(network: nn.Module, batches: Iterable[Inputs]) -> None:
    """Replace running means and variances by averages over the images; other modules stay in eval mode.

    Raises DataError without images, and for a batch of one image where a norm has one value of each channel
    in it. Helps where nothing was reconstructed. After a sequential reconstruction it hurts
    (see studies/LOG.md).
    """
    batches = list(batches)
    if not batches:
        raise DataError("batch norms are estimated again on images, got none; pass calibration images.")
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and _tracks(module)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    images = 0
    try:
        for batch in batches:
            images += batch.size
            for norm in norms:
                norm.momentum = batch.size / images
            _call(network, batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def _call(network: nn.Module, batch: Inputs) -> None:
    try:
        batch.call(network)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise DataError(
            f"batch norms can be estimated again on at least two images at a time, got {batch.size}; pass "
            "more calibration images, or leave out batch_norm."
        ) from error


def _tracks(module: _BatchNorm) -> bool:
    return module.running_mean is not None
