"""Profiles and second moments as safetensors, and back, bit for bit. Nothing is unpickled.

What is read is copied into memory of its own: where numbers lie differently, linear algebra may round
differently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from autoprune.calibration.moments import Moments
from autoprune.errors import StudyError
from autoprune.graph.groups import Layer
from autoprune.searching.profile import Profile
from autoprune.storing.artifacts import read_tensors

FORMAT = 1
"""Raise it when these things are made or written in another way: stored ones are then made again."""

Shapes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]


def pack_profile(profile: Profile) -> bytes:
    """Orders as int64, curves as float64, one tensor per group and batch removal size."""
    tensors: dict[str, Tensor] = {}
    for batch, orders in profile.orders.items():
        for group, order in orders.items():
            tensors[_name("order", batch, group)] = order.contiguous()
            for kind, curves in (("layer", profile.layer_errors), ("output", profile.output_errors)):
                tensors[_name(kind, batch, group)] = torch.tensor(np.ascontiguousarray(curves[batch][group]))
    return bytes(safetensors.torch.save(tensors))


def unpack_profile(content: bytes, widths: Mapping[str, int], batches: Sequence[int]) -> Profile:
    """Read `pack_profile`; StudyError unless it is one of groups of these widths at these batch sizes."""
    what = "the profile of the study"
    tensors = read_tensors(content, what)
    _check(tensors, _profile_shapes(widths, batches), what)
    for batch in batches:
        for group, width in widths.items():
            if not tensors[_name("order", batch, group)].sort().values.equal(torch.arange(width)):
                raise StudyError(f"{what} should order channels of '{group}' once each; it is made again.")

    def orders(batch: int) -> dict[str, Tensor]:
        return {group: tensors[_name("order", batch, group)].clone() for group in widths}

    def curves(kind: str, batch: int) -> dict[str, np.ndarray]:
        return {group: tensors[_name(kind, batch, group)].clone().numpy() for group in widths}

    return Profile(
        {batch: orders(batch) for batch in batches},
        {batch: curves("layer", batch) for batch in batches},
        {batch: curves("output", batch) for batch in batches},
    )


def _profile_shapes(widths: Mapping[str, int], batches: Sequence[int]) -> Shapes:
    orders = {_name("order", b, g): ((width,), torch.int64) for b in batches for g, width in widths.items()}
    curves = {
        _name(kind, b, g): ((width + 1,), torch.float64)
        for kind in ("layer", "output")
        for b in batches
        for g, width in widths.items()
    }
    return {**orders, **curves}


def _name(kind: str, batch: int, group: str) -> str:
    return f"{kind}/{batch}/{group}"


def pack_moments(moments: Mapping[str, Moments]) -> bytes:
    """Moments of inputs alone, as calibration makes them: there are no targets."""
    tensors: dict[str, Tensor] = {}
    for layer, found in moments.items():
        assert found.target.numel() == 0, "calibration looks at inputs"
        tensors[f"second/{layer}"] = found.second.cpu().contiguous()
        tensors[f"first/{layer}"] = found.first.cpu().contiguous()
        tensors[f"count/{layer}"] = torch.tensor(found.count)
    return bytes(safetensors.torch.save(tensors))


def unpack_moments(content: bytes, layers: Sequence[Layer], device: torch.device) -> dict[str, Moments]:
    """Read `pack_moments`; StudyError unless they are finite ones of (some of) these layers' inputs."""
    what = "the second moments of the study"
    tensors = read_tensors(content, what)
    # Calibration sees what runs as a convolution or a linear map: a transposed one is not in it.
    seen = [layer for layer in layers if f"second/{layer.name}" in tensors]
    _check(tensors, {name: shape for layer in seen for name, shape in _moment_shapes(layer).items()}, what)
    found: dict[str, Moments] = {}
    for layer in seen:
        second = tensors[f"second/{layer.name}"].clone().to(device)
        first = tensors[f"first/{layer.name}"].clone().to(device)
        count = int(tensors[f"count/{layer.name}"])
        if count < 1:
            raise StudyError(f"{what} should be sums over columns, got {count} of them; they are made again.")
        found[layer.name] = Moments(
            second=second,
            first=first,
            count=count,
            cross=second.new_zeros(*first.shape, 0),
            target=second.new_zeros(layer.groups, 0),
        )
    return found


def moment_bytes(layers: Sequence[Layer]) -> int:
    """Bytes of the second moments of these layers' inputs."""
    return sum(8 * layer.groups * math.prod(layer.shape[1:]) ** 2 for layer in layers)


def _moment_shapes(layer: Layer) -> Shapes:
    groups, columns = layer.groups, math.prod(layer.shape[1:])
    return {
        f"second/{layer.name}": ((groups, columns, columns), torch.float64),
        f"first/{layer.name}": ((groups, columns), torch.float64),
        f"count/{layer.name}": ((), torch.int64),
    }


def _check(tensors: Mapping[str, Tensor], wanted: Shapes, what: str) -> None:
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    odd = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if odd:
        listed = "; ".join(f"{n}: wanted {wanted.get(n)}, got {found.get(n)}" for n in odd[:3])
        raise StudyError(f"{what} should fit this network's groups, not so {listed}; made again.")
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise StudyError(f"{what} should be finite, but '{name}' is not; it is made again.")
