"""NVIDIA ModelOpt's FastNAS: a sensitivity table, a binary search of a threshold, batch norms calibrated."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from contestants.quiet import silence
from contestants.ring import Choice, Contestant, Ring

BATCHES = 50
"""Its queue of calibration batches; with fewer it judges without calibrating, and only warns."""


def choose(ring: Ring) -> Choice:
    import modelopt.torch.prune as mtp

    images = ring.calibration_images()
    batches = [images[start::BATCHES] for start in range(BATCHES)]
    search = {
        "data_loader": [batch if len(batch) else images[:1] for batch in batches],
        "collect_func": lambda batch: batch,
        "score_func": ring.accuracy,
        "verbose": False,
    }
    with silence():
        network, _ = mtp.prune(
            copy.deepcopy(ring.model),
            mode=[("fastnas", _space(mtp, ring.settings.divisor))],
            # It counts a multiply-accumulate as two.
            constraints={"flops": 2 * ring.limit},
            dummy_input=ring.example,
            config=search,
        )
    assert isinstance(network, nn.Module)
    return Choice(network.eval())


def _space(mtp: Any, divisor: int) -> Any:
    """Its default space, but for the divisor: with 32 a CIFAR network has almost no choice left."""
    config = mtp.fastnas.FastNASConfig()
    config["nn.Conv2d"]["*"]["channel_divisor"] = divisor
    for kind in ("nn.BatchNorm2d", "nn.Linear"):
        config[kind]["*"]["feature_divisor"] = divisor
    return config


CONTESTANTS = [Contestant("ModelOpt FastNAS", choose)]
