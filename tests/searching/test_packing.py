"""Profile and second moments come back bit for bit, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from autoprune.criteria import criteria
from autoprune.errors import StudyError
from autoprune.graph.groups import Layer
from autoprune.reconstruction import Bench
from autoprune.searching.packing import (
    moment_bytes,
    pack_moments,
    pack_profile,
    unpack_moments,
    unpack_profile,
)
from autoprune.searching.profile import Profile, make_profile
from tests.small import NETWORKS, make_bench

CPU = torch.device("cpu")
BATCHES = (1, 3)


def bench_of(network: str) -> Bench:
    small = NETWORKS[network]
    return make_bench(small.model(), small.images(32))


def profile_of(bench: Bench) -> Profile:
    return make_profile(bench, criteria["second-moment"](), BATCHES, lambda kept: 0.1)


def consumers(bench: Bench) -> list[Layer]:
    return [layer for group in bench.graph.groups for layer in bench.graph.consumers(group)]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_profile_comes_back_bit_for_bit(network: str) -> None:
    bench = bench_of(network)
    profile = profile_of(bench)
    again = unpack_profile(pack_profile(profile), bench.graph.widths, BATCHES)
    assert list(again.orders) == list(BATCHES)
    for batch in BATCHES:
        assert list(again.orders[batch]) == list(profile.orders[batch])
        for name, order in profile.orders[batch].items():
            assert again.orders[batch][name].equal(order) and again.orders[batch][name].dtype == torch.int64
            for mine, theirs in (
                (profile.layer_errors, again.layer_errors),
                (profile.output_errors, again.output_errors),
            ):
                wanted, found = mine[batch][name], theirs[batch][name]
                assert found.tobytes() == wanted.tobytes() and found.dtype == np.float64
                assert found.strides == wanted.strides, "sums depend on it"
    assert pack_profile(again) == pack_profile(profile)


@pytest.mark.parametrize("network", NETWORKS)
def test_second_moments_come_back_bit_for_bit(network: str) -> None:
    bench = bench_of(network)
    moments = bench.statistics.moments
    again = unpack_moments(pack_moments(moments), consumers(bench), CPU)
    assert set(again) == set(moments)
    for name, found in again.items():
        for field, value in vars(moments[name]).items():
            if isinstance(value, Tensor):
                other = getattr(found, field)
                assert other.equal(value) and other.dtype == value.dtype and other.shape == value.shape
        assert found.count == moments[name].count
        assert found.second.data_ptr() % 64 == moments[name].second.data_ptr() % 64
    layers = {layer.name: layer for layer in consumers(bench)}
    assert moment_bytes(list(layers.values())) == sum(8 * m.second.numel() for m in moments.values())


Change = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
PROFILE_CHANGES: dict[str, tuple[Change, str]] = {
    "a group is missing": (lambda t: {n: v for n, v in t.items() if n != next(iter(t))}, "got None"),
    "a group too many": (lambda t: {**t, "layer/1/other": torch.zeros(3)}, "wanted None"),
    "a batch size too many": (lambda t: {**t, "order/7/x": torch.zeros(3)}, "wanted None"),
    "a curve too short": (lambda t: {n: v[:-1] if n[0] == "l" else v for n, v in t.items()}, "wanted"),
    "a curve in float32": (lambda t: {n: v.float() if n[0] == "l" else v for n, v in t.items()}, "float32"),
    "not finite": (lambda t: {n: v * float("nan") if n[0] == "l" else v for n, v in t.items()}, "finite"),
    "no permutation": (lambda t: {n: v * 0 if n[:2] == "or" else v for n, v in t.items()}, "once each"),
    "channels below zero": (lambda t: {n: v - 1 if n[:2] == "or" else v for n, v in t.items()}, "once each"),
}


@pytest.mark.parametrize("change", PROFILE_CHANGES.values(), ids=PROFILE_CHANGES)
def test_another_profile_is_refused(change: tuple[Change, str]) -> None:
    bench = bench_of("chain")
    tensors = safetensors.torch.load(pack_profile(profile_of(bench)))
    content = safetensors.torch.save(dict(change[0](tensors)))
    with pytest.raises(StudyError, match=change[1]):
        unpack_profile(content, bench.graph.widths, BATCHES)


MOMENT_CHANGES: dict[str, tuple[Change, str]] = {
    "another layer": (lambda t: {**t, "second/other": torch.zeros(1, 2, 2)}, "wanted None"),
    "no count": (lambda t: {n: v for n, v in t.items() if n[0] != "c"}, "got None"),
    "no columns": (lambda t: {n: v * 0 if n[0] == "c" else v for n, v in t.items()}, "got 0 of them"),
    "not square": (lambda t: {n: v[:, 1:] if n[0] == "s" else v for n, v in t.items()}, "wanted"),
    "infinite": (lambda t: {n: v / 0 if n[0] == "f" else v for n, v in t.items()}, "finite"),
}


@pytest.mark.parametrize("change", MOMENT_CHANGES.values(), ids=MOMENT_CHANGES)
def test_other_second_moments_are_refused(change: tuple[Change, str]) -> None:
    bench = bench_of("chain")
    tensors = safetensors.torch.load(pack_moments(bench.statistics.moments))
    content = safetensors.torch.save({name: t.contiguous() for name, t in change[0](tensors).items()})
    with pytest.raises(StudyError, match=change[1]):
        unpack_moments(content, consumers(bench), CPU)


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x80\x04N."])
def test_other_bytes_are_refused(content: bytes) -> None:
    bench = bench_of("chain")
    with pytest.raises(StudyError, match="safetensors"):
        unpack_profile(content, bench.graph.widths, BATCHES)
    with pytest.raises(StudyError, match="safetensors"):
        unpack_moments(content, consumers(bench), CPU)
