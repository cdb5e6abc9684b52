"""Sony's Model Compression Toolkit: label-free Hessian scores, channels in groups of a SIMD width.

Its only bound is the memory of the weights, so memory is bisected until the MACs fit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn

from contestants.quiet import silence
from contestants.ring import Choice, Contestant, LeftOut, Ring

RUNS = 4
BATCH = 32
SCORES = 8
"""Approximations of each Hessian score."""


def choose(ring: Ring) -> Choice:
    import model_compression_toolkit  # noqa: F401  # absent: reported before the bisection hides it

    low, high, best = 0.0, 1.0, None
    reasons = ["no memory bound that was tried brings the MACs within the budget"]
    for _ in range(RUNS):
        middle = (low + high) / 2
        try:
            network = pruned(ring, middle)
        except Exception as error:  # its logger raises bare exceptions for a bound that it cannot meet
            low = middle
            reasons.append(f"at {middle:.1%} of the memory: {str(error).strip().splitlines()[0]}")
            continue
        if ring.fits(network):
            best, low = network, middle
        else:
            high = middle
            share = ring.macs(network) / ring.session.engine.cost.dense_macs
            reasons.append(f"at {middle:.1%} of the memory it keeps {share:.1%} of the MACs")
    if best is None:
        raise LeftOut("; ".join(reasons))
    return Choice(best)


def pruned(ring: Ring, share: float) -> nn.Module:
    """With at most this share of the weights' memory."""
    import model_compression_toolkit as mct

    images = ring.calibration_images()

    def batches() -> Iterator[list[torch.Tensor]]:
        for start in range(0, len(images), BATCH):
            yield [images[start : start + BATCH]]

    memory = 4 * share * sum(tensor.numel() for tensor in ring.model.state_dict().values())
    with silence():
        network, _ = mct.pruning.pytorch_pruning_experimental(
            model=copy.deepcopy(ring.model),
            target_resource_utilization=mct.core.ResourceUtilization(weights_memory=memory),
            representative_data_gen=batches,
            pruning_config=mct.pruning.PruningConfig(num_score_approximations=SCORES),
        )
    assert isinstance(network, nn.Module)
    return network.eval()


CONTESTANTS = [Contestant("MCT", choose, ("none", "batch norm"))]
