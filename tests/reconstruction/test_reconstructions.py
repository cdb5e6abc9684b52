"""What every registered reconstruction must do, on every small network."""

from __future__ import annotations

import copy
import gc
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from autoprune.components import create
from autoprune.errors import ConfigError
from autoprune.graph import Slicer
from autoprune.reconstruction import Bench, Sequential, reconstructions
from autoprune.reconstruction.sequential import disturbed
from tests.small import NETWORKS, duplicate_channel, make_bench, random_kept, relative_error

METHODS = list(reconstructions)
# A few steps show the same as many.
OPTIONS = {"casm": {"steps": 6, "batch": 16}}
RESTORING = sorted(set(METHODS) - {"none"})
# Weights alone cannot promise that outputs come nearer; tests/reconstruction/test_filters.py says how often.
WITH_IMAGES = [name for name in RESTORING if reconstructions[name].needs_images]
each_network = pytest.mark.parametrize("network", NETWORKS)
each_method = pytest.mark.parametrize("method", METHODS)


def prepared(network: str, dtype: torch.dtype = torch.float64, chunks: int = 1) -> tuple[Bench, Tensor]:
    small = NETWORKS[network]
    images = small.images(48, dtype=dtype)
    return make_bench(small.model(dtype=dtype), images, chunks=chunks), images


def restored(bench: Bench, method: str, kept: dict[str, Tensor]) -> nn.Module:
    pruned = Slicer(bench.model, bench.graph).build(kept).eval()
    create(reconstructions, method, OPTIONS.get(method, {})).restore(bench, pruned, kept)
    return pruned


def test_the_promised_methods_are_there() -> None:
    assert set(METHODS) >= {"none", "independent", "sequential", "filters"}


@each_network
@each_method
def test_keeping_all_is_the_identity(network: str, method: str) -> None:
    bench, images = prepared(network, torch.float32)
    for kept in ({}, bench.graph.all_kept()):
        found = restored(bench, method, kept)
        torch.testing.assert_close(found(images), bench.model(images), rtol=0, atol=0)


@each_network
@each_method
def test_the_dense_network_is_untouched_and_the_result_repeats(network: str, method: str) -> None:
    bench, _ = prepared(network, torch.float32, chunks=2)
    before = copy.deepcopy(bench.model.state_dict())
    kept = random_kept(bench.graph)
    first, second = restored(bench, method, kept), restored(bench, method, kept)
    for name, tensor in bench.model.state_dict().items():
        assert tensor.equal(before[name]), name
    assert not bench.model.training and not first.training
    for name, tensor in first.state_dict().items():
        assert tensor.equal(second.state_dict()[name]), name
        assert tensor.dtype == before[name].dtype and bool(tensor.isfinite().all())
    assert type(first) is type(bench.model)
    assert all(parameter.requires_grad for parameter in first.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.3, 0.7])
@each_network
@pytest.mark.parametrize("method", WITH_IMAGES)
def test_outputs_are_nearer_to_the_dense_ones_than_without(
    network: str, method: str, share: float, dtype: torch.dtype
) -> None:
    bench, images = prepared(network, dtype)
    kept = random_kept(bench.graph, share)
    plain = relative_error(restored(bench, "none", kept), bench.model, images)
    found = restored(bench, method, kept)
    assert found(images).dtype == dtype
    assert relative_error(found, bench.model, images) <= plain * (1 + 1e-6)


@pytest.mark.parametrize("method", RESTORING)
@each_network
def test_one_channel_per_group_still_works(network: str, method: str) -> None:
    bench, images = prepared(network, torch.float32)
    assert bool(restored(bench, method, random_kept(bench.graph, 0.0))(images).isfinite().all())


@pytest.mark.parametrize("method", RESTORING)
@each_network
def test_a_channel_computed_twice_is_not_missed(network: str, method: str) -> None:
    small = NETWORKS[network]
    model, images = small.model(dtype=torch.float64), small.images(64, dtype=torch.float64)
    groups = make_bench(model, images[:1]).graph.groups
    for group in groups:
        duplicate_channel(model, group, 0, group.width - 1)
    bench = make_bench(model, images, damping=1e-11, chunks=2)
    unseen = small.images(16, seed=5, dtype=torch.float64)
    for gone in (slice(0, -1), slice(1, None)):
        kept = {group.name: torch.arange(group.width)[gone] for group in groups}
        assert relative_error(restored(bench, method, kept), model, unseen) < 1e-6
        assert relative_error(restored(bench, "none", kept), model, unseen) > 1e-6


@pytest.mark.parametrize("method", RESTORING)
def test_dead_channels_do_no_harm(method: str) -> None:
    small = NETWORKS["chain"]
    model = small.model()
    with torch.no_grad():
        for norm in (model[0][1], model[2][1]):  # type: ignore[index]
            norm.weight[:3], norm.bias[:3] = 0, -1
    bench = make_bench(model, small.images(32))
    images = small.images(32)
    kept = {group.name: torch.arange(2, group.width) for group in bench.graph.groups[:2]}
    found = restored(bench, method, kept)
    assert relative_error(found, model, images) < 1e-8
    everything_dead = {group.name: torch.arange(2) for group in bench.graph.groups[:2]}
    assert bool(restored(bench, method, everything_dead)(images).isfinite().all())


@each_network
def test_a_few_positions_per_image_are_nearly_as_good(network: str) -> None:
    small = NETWORKS[network]
    model, images = small.model(), small.images(128)
    bench = make_bench(model, images, chunks=4, positions=9, damping=1e-4)
    kept = random_kept(bench.graph, 0.7)
    plain = relative_error(restored(bench, "none", kept), model, images)
    assert relative_error(restored(bench, "sequential", kept), model, images) < plain


@pytest.mark.parametrize("network", NETWORKS)
def test_a_restored_candidate_leaves_no_tensors_behind(network: str) -> None:
    small = NETWORKS[network]
    model = small.model()
    bench = make_bench(model, small.images(16), chunks=2)
    slicer, kept = Slicer(model, bench.graph), random_kept(bench.graph)
    Sequential().restore(bench, slicer.build(kept), kept)
    gc.collect()
    gc.disable()
    try:
        before = tensors()
        Sequential().restore(bench, slicer.build(kept), kept)
        assert tensors() <= before, "a cycle holds the candidate until Python looks for cycles"
    finally:
        gc.enable()


def tensors() -> int:
    return sum(type(found) in (Tensor, nn.Parameter) for found in gc.get_objects())


@pytest.mark.parametrize("network", ["chain", "residual"])
def test_positions_are_an_option(network: str) -> None:
    """As many positions as there are equal all of them; few look at less of each image."""
    small = NETWORKS[network]
    model, images = small.model(dtype=torch.float64), small.images(300, dtype=torch.float64)
    whole = make_bench(model, images)
    few = replace(whole, positions_per_image=2)
    kept = random_kept(few.graph)

    assert few.with_positions(10**6).targets.positions_per_image == 10**6
    everything = restored_by(Sequential(positions=10**6), few, kept)
    expected = restored_by(Sequential(), whole, kept)
    for name, tensor in expected.items():
        torch.testing.assert_close(everything[name], tensor)
    first = next(layer for layer in whole.graph.layers if whole.loses_columns(layer, kept)).weight
    assert not torch.allclose(restored_by(Sequential(), few, kept)[first], expected[first])


@pytest.mark.parametrize("network", ["chain", "residual"])
def test_mirrors_are_more_images(network: str) -> None:
    small = NETWORKS[network]
    model, images = small.model(dtype=torch.float64), small.images(64, dtype=torch.float64)
    bench, twice = make_bench(model, images), make_bench(model, torch.cat([images, images.flip(3)]), chunks=2)
    # Statistics are those of the plain images: the option asks the fit alone to look at the mirrors.
    twice = replace(twice, statistics=bench.statistics)
    kept = random_kept(bench.graph)
    found, expected, plain = (
        restored_by(Sequential(mirror=mirror), on, kept)
        for mirror, on in ((True, bench), (False, twice), (False, bench))
    )
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor)
    first = next(layer for layer in bench.graph.layers if bench.loses_columns(layer, kept)).weight
    assert not torch.allclose(plain[first], expected[first])


@pytest.mark.parametrize("mirror", [False, True])
def test_crops_are_more_images(mirror: bool) -> None:
    small = NETWORKS["residual"]
    bench = make_bench(small.model(), small.images(64))
    views = bench.with_views(mirror=mirror, crops=2)
    assert sum(chunk.size for chunk in views.chunks) == 64 * (3 + mirror)
    assert views is bench.with_views(mirror=mirror, crops=2)
    other = bench.with_views(mirror=not mirror, crops=2)
    assert sum(chunk.size for chunk in other.chunks) == 64 * (4 - mirror)
    assert bench.with_views(mirror=False, crops=0) is bench
    kept = random_kept(bench.graph)
    found = restored_by(Sequential(mirror=mirror, crops=2), bench, kept)
    expected = restored_by(Sequential(), views, kept)
    assert all(tensor.equal(expected[name]) for name, tensor in found.items())
    plain = restored_by(Sequential(mirror=mirror), bench, kept)
    assert not all(tensor.allclose(plain[name]) for name, tensor in found.items())


def restored_by(method: Sequential, bench: Bench, kept: dict[str, Tensor]) -> dict[str, Tensor]:
    sliced = Slicer(bench.model, bench.graph).build(kept)
    method.restore(bench, sliced, kept)
    return sliced.state_dict()


class Twice(nn.Module):
    """Its first group is read by a convolution that runs twice, which is not refitted."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(12, 12, 3), nn.Linear(12, 5)
        self.b = nn.Conv2d(16, 12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        y = torch.relu(self.b(x)) + torch.relu(self.b(x.flip(2)))
        head: Tensor = self.head(torch.relu(self.c(y)).mean((2, 3)))
        return head


@pytest.mark.parametrize(("reach", "names"), [(None, ["c", "head"]), (1, ["c"]), (0, [])])
@torch.no_grad()
def test_layers_behind_one_that_cannot_be_refitted_are(reach: int | None, names: list[str]) -> None:
    torch.manual_seed(0)
    model, images = Twice().double(), torch.randn(64, 3, 8, 8, dtype=torch.float64)
    bench = make_bench(model, images)
    kept = {**bench.graph.all_kept(), "a": torch.arange(8)}
    assert [layer.name for layer in disturbed(bench, kept, reach)] == names
    errors = []
    for within in (0, reach):
        sliced = Slicer(model, bench.graph).build(kept)
        Sequential(reach=within).restore(bench, sliced, kept)
        errors.append(relative_error(sliced, model, images))
    assert errors[1] < errors[0] if names else errors[1] == errors[0]


def test_however_closely_a_trial_looks_a_quick_judgement_does_not() -> None:
    quick = Sequential(positions=512, mirror=True, crops=2, rounds=4).quick()
    assert (quick.positions, quick.mirror, quick.crops, quick.rounds) == (None, False, 0, 1)


def test_rounds_behind_a_clamp_are_not_asked_for_in_front_of_it() -> None:
    with pytest.raises(ConfigError, match=r"'rounds'.* got 9 with target"):
        Sequential(target="before", rounds=9)
