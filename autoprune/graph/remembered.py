"""Integers about channels and heads that modules remember beside their tensors: which, and how they are set.

Only these are ever read or written, and a plan of others can only lower them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm

from autoprune.graph.attention import exchange

HEAD_SIZES = frozenset(
    (
        # How many heads there are.
        *("num_heads", "n_heads", "n_head", "nhead", "heads", "num_attention_heads"),
        *("num_kv_heads", "num_key_value_heads", "kv_num_heads", "n_kv_heads", "n_kv_head"),
        # What a layer gives in all, and how much of it goes to queries, keys and values each.
        *("nf", "split_size"),
        # How many channels all heads have together.
        *("attn_dim", "inner_dim", "all_head_dim", "all_head_size", "dim_attn", "attention_head_dim"),
        *("val_attn_dim", "out_dim_attn"),
    )
)


def head_sizes(model: nn.Module) -> dict[str, dict[str, int]]:
    """Module -> attribute -> value, for the modules that remember any."""
    found = {path: remembered(module) for path, module in model.named_modules()}
    return {path: sizes for path, sizes in found.items() if sizes}


UNFLATTENED = "unflattened_size."
"""What comes before the place of a size of `nn.Unflatten`."""


def part_sizes(model: nn.Module) -> dict[str, dict[str, int]]:
    """Module -> attribute -> value, for the modules that hold any number that may be the size of a part."""
    found = {path: lengths(module) for path, module in model.named_modules()}
    return {path: sizes for path, sizes in found.items() if sizes}


def lengths(module: nn.Module) -> dict[str, int]:
    """Integers above one that a module of the user's own holds, alone or at a place of a list or tuple
    ("splits.0"): it may cut, view or filter channels by them. Torch's own modules do not."""
    if isinstance(module, _InstanceNorm) and not module.state_dict():
        # Its forward compares this with the channels that come; elsewhere the tensors tell.
        return {"num_features": module.num_features}
    if type(module).__module__.partition(".")[0] == "torch":
        return {}
    found: dict[str, int] = {}
    for name, value in vars(module).items():
        if type(value) in (list, tuple):
            found |= {f"{name}.{place}": each for place, each in enumerate(value) if _is_length(each)}
        elif _is_length(value):
            found[name] = value
    return found


def _is_length(value: object) -> bool:
    return type(value) is int and value > 1


def remembered(module: nn.Module) -> dict[str, int]:
    """Integers about heads, by their well-known names, and those of views and norms without tensors."""
    own = vars(module)
    if type(module) is nn.Unflatten and all(type(size) is int for size in module.unflattened_size):
        return {f"{UNFLATTENED}{place}": int(size) for place, size in enumerate(module.unflattened_size)}
    if isinstance(module, nn.GroupNorm) and not module.affine:
        return {"num_channels": module.num_channels, "num_groups": module.num_groups}
    return {name: own[name] for name in sorted(HEAD_SIZES & own.keys()) if type(own[name]) is int}


def set_sizes(model: nn.Module, sizes: Mapping[str, Mapping[str, int]]) -> None:
    """Set integers of modules, by the names of `remembered` and `lengths`.

    An `nn.MultiheadAttention` is exchanged for one that can lose heads. Also where it keeps all: the fused
    one rounds differently, and what a candidate computes must not depend on those that the network held
    before.
    """
    for path, values in sizes.items():
        module = model.get_submodule(path)
        if type(module) is nn.MultiheadAttention:
            module = exchange(model, path, module)
        for name, value in values.items():
            name, _, place = name.partition(".")
            setattr(module, name, _with(getattr(module, name), int(place), value) if place else value)


def _with(sizes: Sequence[int], place: int, value: int) -> Sequence[int]:
    """The same list or tuple, a new one, with another value at its place."""
    changed = [*sizes[:place], value, *sizes[place + 1 :]]
    return tuple(changed) if isinstance(sizes, tuple) else changed
