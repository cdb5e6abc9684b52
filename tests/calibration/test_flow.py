from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoprune.calibration.flow import Branch, FlowHandler, FlowTap
from autoprune.calibration.taps import LayerCall, LayerTap
from autoprune.graph import find_groups
from tests.small import NETWORKS


class Watcher(FlowHandler):
    def __init__(self, replace: bool = False) -> None:
        self.calls: list[str] = []
        self.sums: list[tuple[str, bool]] = []
        self.replace = replace

    def on_layer(self, call: LayerCall) -> Tensor:
        self.calls.append(call.layer.name)
        return call.run()

    def on_sum(self, branch: Branch, other: Tensor, total: Callable[[], Tensor]) -> Tensor | None:
        output = branch.call.run()
        if branch.affine is not None:
            output = branch.affine.apply(output)
        torch.testing.assert_close(output + other, total())
        self.sums.append((branch.call.layer.name, branch.affine is not None))
        return other * 1 if self.replace else None


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_watching_changes_nothing_and_sees_each_layer_in_order(name: str) -> None:
    small = NETWORKS[name]
    model, images = small.model(), small.images(4)
    layers = find_groups(model, (images[:1],)).layers
    watcher, dense = Watcher(), model(images)
    # The fused attention, which hides its linear maps, rounds differently from its parts.
    rounding = 1e-6 if name == "heads" else 0
    with FlowTap(model, layers, watcher) as tap:
        torch.testing.assert_close(model(images), dense, rtol=rounding, atol=rounding)
    assert watcher.calls == [layer.name for layer in layers]
    assert not tap._open, "a branch holds activations: nothing may stay behind"
    seen: list[str] = []
    with LayerTap(model, layers, lambda call: seen.append(call.layer.name)):
        torch.testing.assert_close(model(images), dense, rtol=rounding, atol=rounding)
    assert seen == watcher.calls


@torch.no_grad()
def test_residual_sums_are_found_behind_their_batch_norm_also_in_place() -> None:
    small = NETWORKS["residual"]
    model, images = small.model(), small.images(4)
    layers = find_groups(model, (images[:1],)).layers
    watcher = Watcher()
    with FlowTap(model, layers, watcher):
        model(images)
    assert watcher.sums == [("a2.0", True), ("b2.0", True)]
    watcher, plain = Watcher(replace=True), small.model()
    nn.init.zeros_(plain.a2[1].weight), nn.init.zeros_(plain.a2[1].bias)  # type: ignore[index,union-attr]
    nn.init.zeros_(plain.b2[1].weight), nn.init.zeros_(plain.b2[1].bias)  # type: ignore[index,union-attr]
    with FlowTap(model, layers, watcher):
        torch.testing.assert_close(model(images), plain(images))
