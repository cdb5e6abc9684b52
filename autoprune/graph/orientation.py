"""Weights as a convolution or a linear map reads them: outputs first.

A transposed convolution and a product with a matrix hold their inputs first. Turned, the same numbers are
the weight of a convolution (over the input with zeros in between) and of a linear map.
"""

from __future__ import annotations

from torch import Tensor

from autoprune.graph.groups import Layer


def outputs_first(layer: Layer, weight: Tensor) -> Tensor:
    """A weight of the layer, perhaps of a candidate, as (outputs, inputs per group, *kernel).

    Its own inverse: what is outputs first comes back as the layer holds it.
    """
    if not layer.kind.inputs_first:
        return weight
    # A depthwise candidate has as many groups as channels.
    groups = 1 if layer.groups == 1 else weight.shape[0]
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    turned = by_group.transpose(1, 2).flatten(0, 1)
    return turned.flip(list(range(2, turned.ndim)))
