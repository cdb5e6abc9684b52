"""Where all images do not fit, late ones join behind the large layers, and what is fitted there uses them."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from torch import Tensor

from autoprune.calibration.statistics import centred
from autoprune.graph import Slicer
from autoprune.memory import Limit
from autoprune.reconstruction import Bench, Sequential, joining
from autoprune.reconstruction.sequential import disturbed
from tests.small import NETWORKS, make_bench, random_kept

from .test_least_squares import Record, centre

F64 = torch.float64


def test_chunks_join_where_there_is_room_for_them_and_those_before() -> None:
    sizes, live = [10, 10, 20], [8, 9, 4, 5, 1]
    assert joining._joins(sizes, live, 10**9) == [0, 0, 0]
    assert joining._joins(sizes, live, 9 * 20) == [0, 0, 4]
    assert joining._joins(sizes, live, 5 * 20) == [0, 2, 4]
    assert joining._joins(sizes, live, 39) == [0, 4, 5], "the last never"
    assert joining._joins(sizes, live, 0) == [0, 5, 5], "the first always"


def restored(bench: Bench, kept: dict[str, Tensor]) -> torch.nn.Module:
    pruned = Slicer(bench.model, bench.graph).build(kept).eval()
    Sequential(target="before").restore(bench, pruned, kept)
    return pruned


@pytest.mark.parametrize("network", NETWORKS)
def test_a_pass_without_room_uses_the_first_images(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = NETWORKS[network]
    images = small.images(48, dtype=F64)
    bench = make_bench(small.model(dtype=F64), images, damping=1e-4, chunks=3)
    kept = random_kept(bench.graph, 0.6)
    few = restored(bench.first(bench.chunks[0].size), kept)
    monkeypatch.setattr(joining, "LIVE", Limit(cpu=0, gpu=0, parts=1))
    torch.testing.assert_close(restored(bench, kept).state_dict(), few.state_dict())


@pytest.mark.parametrize("chunks", [2, 4])
@pytest.mark.parametrize("network", NETWORKS)
def test_late_images_count_from_where_they_join(
    network: str, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = NETWORKS[network]
    images = small.images(80, dtype=F64)
    bench = make_bench(small.model(dtype=F64), images, damping=1e-12, chunks=chunks)
    kept = random_kept(bench.graph, 0.6)
    watch = joining._Order()
    with torch.no_grad(), joining.FlowTap(bench.model, bench.graph.layers, watch):
        bench.chunks[0].take(1).call(bench.model)
    needed = list(accumulate(reversed(watch.live.values()), max))[::-1]
    # The least room in which all images fit at some layer: at the last ones.
    monkeypatch.setattr(joining, "LIVE", Limit(cpu=needed[-1] * len(images), gpu=0, parts=1))
    pruned, joined = restored(bench, kept), bench.targets.joining
    assert joined.chunks(list(joined.order)[-1]) == chunks
    whole = make_bench(bench.model, images)
    dense, found = Record(bench.model, whole), Record(pruned, whole)
    full = [layer for layer in disturbed(bench, kept) if joined.chunks(layer.name) == chunks]
    assert full
    for layer in full:
        rows, inputs = bench.rows(layer, kept), found.inputs[layer.name]
        left = dense.aims[layer.name][rows] - found.aims[layer.name]
        inputs = centre(inputs) if centred(layer) else inputs
        product = left.unflatten(0, (len(inputs), -1)) @ inputs.mT
        assert float(product.norm() / dense.aims[layer.name][rows].norm() / inputs.norm()) < 1e-6
    early = [layer for layer in disturbed(bench, kept) if joined.chunks(layer.name) < chunks]
    assert early or network not in ("chain", "residual")
    for layer in early:
        assert joined.images(layer.name) < len(images)
        assert (layer.name, chunks - 1) not in bench.targets.outputs
