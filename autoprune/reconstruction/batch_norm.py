"""Re-estimate batch-norm statistics on the calibration images (EagleEye, Li et al., ECCV 2020)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from autoprune.data.inputs import Inputs


@torch.no_grad()
def re_estimate(network: nn.Module, batches: Iterable[Inputs]) -> None:
    """Replace running means and variances by averages over the batches; other modules stay in eval mode.

    Helps where nothing was reconstructed. After a sequential reconstruction it hurts (see studies/LOG.md).
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and _tracks(module)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        for batch in batches:
            batch.call(network)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def _tracks(module: _BatchNorm) -> bool:
    return module.running_mean is not None
