"""Rules for what cuts images into blocks and puts them together again: padding, windows, shuffles."""

from __future__ import annotations

from torch.nn import functional

from autoprune.graph.call import Call, Rule, names
from autoprune.graph.labels import Labels
from autoprune.graph.trace import Value


def padded(call: Call) -> Value:
    """Padding across the channels adds the constant; padding space adds places to each channel."""
    labels, pad = call.labels("self"), list(call.arg("pad", call.arg("padding")))
    amounts = {labels.ndim - 1 - i // 2: (pad[i], pad[i + 1]) for i in range(0, len(pad), 2)}
    dim = _padded_channel(labels, amounts)
    if dim is None:
        return labels.reshaped(call.shape)
    if (
        call.arg("mode", "constant") != "constant"
        or min(amounts[dim]) < 0
        or "constant" not in _pad_mode(call)
    ):
        return call.give_up("pads or crops across channels")
    vector = labels.vector_along(dim)
    assert vector is not None
    return Labels.along(call.shape, dim, functional.pad(vector, amounts[dim], value=0))


def _padded_channel(labels: Labels, amounts: dict[int, tuple[int, int]]) -> int | None:
    """The dimension along which labels vary, or may (size 1, one channel), if it is padded."""
    changed = [dim for dim, amount in amounts.items() if amount != (0, 0)]
    if labels.dim is not None:
        return labels.dim if labels.dim in changed else None
    single = [dim for dim in changed if labels.shape[dim] == 1]
    return min(single) if single and int(labels.vector[0]) else None


def _pad_mode(call: Call) -> str:
    return "constant" if call.operator in ("aten.pad", "aten.constant_pad_nd") else "other"


def patches(call: Call) -> Value:
    """im2col: (N, C, H, W) -> (N, C k k, places); the k k rows of a channel follow each other."""
    rows = call.labels("self").vector_along(-3)
    if rows is None:
        return call.give_up("takes windows of channels")
    return Labels.along(call.shape, -2, rows.repeat_interleave(call.shape[-2] // rows.numel()))


def from_patches(call: Call) -> Value:
    """col2im: (N, C k k, places) -> (N, C, H, W)."""
    rows = call.labels("self").vector_along(-2)
    if rows is None:
        return call.give_up("takes windows of channels")
    by_channel = rows.reshape(call.shape[-3], -1)
    call.unite(by_channel[:, :1], by_channel[:, 1:])
    return Labels.along(call.shape, -3, by_channel[:, 0])


def pixel_shuffle(call: Call) -> Value:
    """(..., C r r, H, W) -> (..., C, H r, W r): the r r channels that make one image are tied."""
    labels, r = call.labels("self"), call.arg("upscale_factor")
    channels, height, width = labels.shape[-3:]
    blocks = labels.expanded().reshape(-1, channels // r**2, r, r, height, width)
    blocks = call.settle(blocks, prefer=1).expanded()
    return call.settle(blocks.permute(0, 1, 4, 2, 5, 3).reshape(call.shape))


def pixel_unshuffle(call: Call) -> Value:
    """(..., C, H r, W r) -> (..., C r r, H, W)."""
    labels, r = call.labels("self"), call.arg("downscale_factor")
    channels, height, width = labels.shape[-3:]
    blocks = labels.expanded().reshape(-1, channels, height // r, r, width // r, r)
    return call.settle(blocks.permute(0, 1, 3, 5, 2, 4).reshape(call.shape))


def channel_shuffle(call: Call) -> Value:
    labels, groups = call.labels("self"), call.arg("groups")
    split_channels = labels.expanded().reshape(labels.shape[0], groups, -1, *labels.shape[2:])
    # One channel dimension at a time: the tie between the groups is made before they are folded back.
    call.settle(split_channels)
    return call.settle(split_channels.transpose(1, 2).reshape(call.shape))


_PADDED = names(
    "pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d"
)

BLOCKS: dict[str, Rule] = {
    **dict.fromkeys(_PADDED, padded),
    "im2col": patches,
    "col2im": from_patches,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), channel_shuffle),
}
