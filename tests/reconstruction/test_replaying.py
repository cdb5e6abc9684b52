"""Parts of a pass, run on what was kept from the part before."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from autoprune.data.inputs import Inputs
from autoprune.reconstruction import Bench
from autoprune.reconstruction.replaying.cache import Cache, _room
from autoprune.reconstruction.replaying.fit import batches
from autoprune.reconstruction.replaying.images import flipped
from autoprune.reconstruction.replaying.recording import record_trace
from autoprune.reconstruction.replaying.replay import Calls, advance, replay
from autoprune.reconstruction.replaying.trace import Trace
from tests.small import NETWORKS, make_bench

each_network = pytest.mark.parametrize("network", NETWORKS)


def traced(network: str) -> tuple[Bench, Trace, Inputs]:
    small = NETWORKS[network]
    images = small.images(11)
    bench = make_bench(small.model(), images)
    inputs = Inputs((images,))
    return bench, record_trace(bench.model, bench.graph.layers, inputs), inputs


def output_of(
    model: nn.Module, trace: Trace, part: Calls, inputs: Inputs, known: dict[int, Tensor]
) -> Tensor:
    """The last output of a part of a pass."""
    found: list[Tensor] = []
    replay(model, trace, part, inputs, known, {part.end - 1: lambda call, output: found.append(output)})
    return found[0]


@each_network
def test_a_pass_from_any_cut_equals_the_whole_pass(network: str) -> None:
    bench, trace, inputs = traced(network)
    whole = bench.model(*inputs.args)
    index = torch.tensor([7, 2, 9, 4])
    last = len(trace.calls)
    cache = Cache()
    for cut in range(last):
        # Batches of 4, 4 and 3: no size is the one that was recorded.
        cache = advance(bench.model, trace, cache, inputs, cut, 4)
        assert cache.cut == cut and all(len(kept) == 11 for kept in cache.tensors.values())
        found = output_of(bench.model, trace, Calls(cut, last), inputs.select(index), cache.rows(index))
        torch.testing.assert_close(found, whole[index], rtol=1e-4, atol=1e-5)


def test_kept_activations_stay_in_their_order_in_memory() -> None:
    rows = torch.zeros(4, 1, 6, 5, 3).transpose(2, 4)
    room = _room(rows, 9)
    assert room.shape == (9, *rows.shape[1:]) and room.stride()[1:] == rows.stride()[1:]


@each_network
def test_what_nobody_reads_is_not_computed(network: str) -> None:
    bench, trace, inputs = traced(network)
    cut = max(trace.layers.values())
    cache = advance(bench.model, trace, Cache(), inputs, cut, 11)
    broken = copy.deepcopy(bench.model)
    above = [layer for layer in bench.graph.layers if trace.layers[layer.name] < cut]
    with torch.no_grad():
        for layer in above:
            broken.get_parameter(layer.weight).fill_(float("nan"))
    index = torch.arange(11)
    output = output_of(broken, trace, Calls(cut, len(trace.calls)), inputs, cache.rows(index))
    assert above and bool(output.isfinite().all())


def test_features_lie_behind_norms_sums_and_activations() -> None:
    bench, trace, _ = traced("residual")
    names = {name: trace.calls[feature.after].name for name, feature in trace.features.items()}
    before = {name: trace.calls[feature.before].name for name, feature in trace.features.items()}
    assert set(names) == {layer.name for layer in bench.graph.layers}
    assert names["a2.0"] == "relu" and before["a2.0"] == "add"
    assert names["a1.0"] == "relu" and before["a1.0"] == "batch_norm"
    assert names["b2.0"] == "relu" and "add" in before["b2.0"]
    assert names["down.0"] == "batch_norm" and names["head"] == "linear"


def test_every_image_is_seen_before_one_is_seen_again() -> None:
    drawn = list(batches(10, 3, 7, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in drawn] == [3] * 7
    for start in (0, 3):
        assert len(set(torch.cat(drawn[start : start + 3]).tolist())) == 9


def test_mirrored_images_are_the_images_or_their_mirror() -> None:
    images = torch.arange(64.0).reshape(8, 1, 2, 4)
    found = flipped(Inputs((images,)), torch.Generator().manual_seed(0)).args[0]
    same = [bool(a.equal(b)) for a, b in zip(found, images, strict=True)]
    turned = [bool(a.equal(b.flip(2))) for a, b in zip(found, images, strict=True)]
    assert any(same) and any(turned) and all(a or b for a, b in zip(same, turned, strict=True))
