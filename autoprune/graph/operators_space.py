"""Rules for operators that work over some dimensions: reductions, pools, norms, softmax.

Over dimensions without labels the channels pass; over the channels they are mixed and stay dense.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from autoprune.graph.call import Call, Rule, names
from autoprune.graph.labels import Labels
from autoprune.graph.operators_elementwise import combine, elementwise
from autoprune.graph.trace import One, Value

Dims = Callable[[Call, One], list[int]]

_MIXES = "mixes channels"


def named_dims(call: Call, labels: One) -> list[int]:
    """The `dim` argument, one dimension or several; all dimensions when there is none."""
    dims = call.arg("dim")
    if dims is None or dims == []:
        return list(range(labels.ndim))
    return [dims] if isinstance(dims, int) else list(dims)


def _normalised_dims(call: Call, labels: One) -> list[int]:
    return list(range(-len(call.arg("normalized_shape")), 0))


def _spatial_dims(call: Call, labels: One) -> list[int]:
    """The last one, two or three dimensions, from the operator's name ('max_pool2d')."""
    found = re.search(r"([123])d", call.operator)
    return list(range(-int(found.group(1)), 0)) if found else list(range(2, labels.ndim))


def _all_but_batch(call: Call, labels: One) -> list[int]:
    return list(range(1, labels.ndim))


def over(dims_of: Dims) -> Rule:
    """Rule of an operator that keeps the rank and mixes along `dims_of` its first input."""

    def rule(call: Call) -> Value:
        first, *_ = call.raw_inputs()
        whole = call.whole(first, dims_of(call, first))
        return call.give_up(_MIXES) if whole is None else call.like(whole)

    return rule


def reduction(call: Call) -> Value:
    """mean, sum, amax, ...: the reduced dimensions go, or stay with size 1."""
    if "other" in call.arguments:
        return elementwise(call)  # max and min of two tensors
    first, *_ = call.raw_inputs()
    dims = sorted({dim % max(first.ndim, 1) for dim in named_dims(call, first)}, reverse=True)
    whole = call.whole(first, dims)
    if whole is None:
        return call.give_up(_MIXES)
    labels = whole.expanded()
    for dim in dims:
        if labels.dim():
            labels = labels.narrow(dim, 0, 1) if call.arg("keepdim", False) else labels.select(dim, 0)
    result = call.spread(labels)
    return result if len(call.shapes) == 1 else [result for _ in call.shapes]


def unpooled(call: Call) -> Value:
    """max_unpool: values go where the pool took them from, in every channel."""
    values, places = call.inputs()
    labels = combine(call, [values, places], values.shape)
    spatial = range(-int(call.operator[-2]), 0)
    return call.give_up(_MIXES) if labels.varies_along(*spatial) else labels.reshaped(call.shape)


def regions(call: Call) -> Value:
    """roi_align, roi_pool: regions of the images (N, C, H, W), channel by channel: (regions, C, h, w)."""
    rows = call.labels("input").vector_along(1)
    if rows is None:
        return call.give_up(_MIXES)
    found = Labels.along(call.shape, 1, rows)
    return found if len(call.shapes) == 1 else [found for _ in call.shapes]


def sampled(call: Call) -> Value:
    """grid_sample: places of (N, C, ...), in every channel; where they are comes from channels that stay."""
    rows = call.labels("input").vector_along(1)
    if rows is None:
        return call.give_up(_MIXES)
    call.freeze(call.raw("grid"), "takes places from it")
    return Labels.along(call.shape, 1, rows)


def mixing(call: Call) -> Value:
    return call.give_up(_MIXES)


_REDUCTIONS = names(
    "mean sum amax amin max min var std var_mean std_mean norm linalg_vector_norm argmax argmin all any "
    "prod logsumexp median nansum nanmean"
)
_ALONG = names("softmax _softmax log_softmax _log_softmax cumsum cumprod sort argsort topk softmin")
_POOLS = [
    f"{name}{size}d"
    for name in (
        "max_pool",
        "avg_pool",
        "adaptive_avg_pool",
        "_adaptive_avg_pool",
        "adaptive_max_pool",
        "lp_pool",
    )
    for size in (1, 2, 3)
] + ["max_pool2d_with_indices", "max_pool3d_with_indices", "fractional_max_pool2d"]
_UPSAMPLES = [
    f"{prefix}upsample_{mode}"
    for prefix in ("", "_")
    for mode in names(
        "nearest1d nearest2d nearest3d nearest_exact1d nearest_exact2d nearest_exact3d linear1d bilinear2d "
        "bicubic2d trilinear3d bilinear2d_aa bicubic2d_aa"
    )
]
_MIXING = names("mv dot bilinear cdist outer multi_head_attention")

FOREIGN: dict[str, Rule] = dict.fromkeys(("torchvision.roi_align", "torchvision.roi_pool"), regions)
"""Operators of other libraries, by their whole names."""

SPACE: dict[str, Rule] = {
    **dict.fromkeys(_REDUCTIONS, reduction),
    **dict.fromkeys(_ALONG, over(named_dims)),
    **dict.fromkeys(_POOLS, over(_spatial_dims)),
    **dict.fromkeys(_UPSAMPLES, over(_spatial_dims)),
    **dict.fromkeys(_MIXING, mixing),
    **dict.fromkeys(names("layer_norm native_layer_norm rms_norm"), over(_normalised_dims)),
    **dict.fromkeys(("max_unpool2d", "max_unpool3d"), unpooled),
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d", "grid_sampler_3d"), sampled),
    "native_group_norm": over(_all_but_batch),
}
