"""What can be done to a pruned network without training; the same for everybody's choice of channels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from torch import nn

from autoprune.reconstruction import re_estimate, reconstructions
from contestants.ring import Choice, LeftOut, Ring


def as_it_is(ring: Ring, choice: Choice) -> nn.Module:
    return choice.network


def batch_norm(ring: Ring, choice: Choice) -> nn.Module:
    """Statistics re-estimated on the calibration images."""
    network = copy.deepcopy(choice.network)
    re_estimate(network, ring.bench.chunks)
    return network


def reconstructed(method: str) -> Callable[[Ring, Choice], nn.Module]:
    """Sliced anew to the same channels, and restored by one of autoprune's reconstructions."""

    def restore(ring: Ring, choice: Choice) -> nn.Module:
        if choice.kept is None:
            raise LeftOut(choice.why)
        network = ring.sliced(choice.kept)
        reconstructions[method]().restore(ring.bench, network, choice.kept)
        return network

    return restore


RESTORATIONS: Mapping[str, Callable[[Ring, Choice], nn.Module]] = {
    "its own": as_it_is,
    "none": as_it_is,
    "batch norm": batch_norm,
    "independent": reconstructed("independent"),
    "sequential": reconstructed("sequential"),
}
