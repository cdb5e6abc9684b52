from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoprune.calibration.call import LayerCall
from autoprune.calibration.flow import Branch, FlowHandler, FlowTap
from autoprune.calibration.taps import LayerTap
from autoprune.data.inputs import Inputs
from autoprune.graph import find_groups
from autoprune.graph.groups import Layer, LayerKind
from autoprune.reconstruction.targets import DenseTargets, record_targets
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


class Twice(nn.Module):
    """One layer on both sides of a sum, with or without its norm; or read beside and behind it."""

    def __init__(self, join: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.head, self.join = nn.Conv2d(6, 4, 1), join

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        y = self.b(x)
        output: Tensor = self.head(self.join(x, y, self.norm(y)))
        return output


def targets_of(model: nn.Module) -> DenseTargets:
    images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    layers = find_groups(model.eval(), (images[:1],)).layers
    return record_targets(model, layers, [Inputs((images,))], None)


def read_behind(x: Tensor, y: Tensor, normed: Tensor) -> Tensor:
    total = y + x
    gate = torch.sigmoid(y)
    return torch.relu(total) * gate


def read_last(x: Tensor, y: Tensor, normed: Tensor) -> Tensor:
    total = torch.relu(y + x)
    return total * torch.sigmoid(y)


@pytest.mark.parametrize("join", [lambda x, y, n: y + y, lambda x, y, n: n + y, lambda x, y, n: y + n])
def test_a_layer_is_no_shortcut_of_its_own(join: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    assert "b" not in targets_of(Twice(join)).residual


@pytest.mark.parametrize("join", [read_behind, read_last])
def test_what_a_gate_reads_too_is_not_read_by_its_clamp_alone(
    join: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    targets = targets_of(Twice(join))
    assert "b" in targets.residual and "b" not in targets.cuts


class Returned(nn.Module):
    """Gives back its features before the clamp as well, in a dict or in a tuple."""

    def __init__(self, features: bool) -> None:
        super().__init__()
        self.a, self.b, self.features = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1), features

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        y = self.a(x)
        out: Tensor = self.b(torch.relu(y))
        return {"out": out, "features": y} if self.features else out


@pytest.mark.parametrize("features", [False, True])
def test_what_a_network_returns_is_read(features: bool) -> None:
    assert ("a" in targets_of(Returned(features)).cuts) is not features


@torch.no_grad()
def test_what_a_batch_norm_read_is_not_kept_for_what_it_gave() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    layer = Layer("0", LayerKind.CONV, "0.weight", "0.bias", (4, 3, 1, 1), 1, 1, "1")
    read: list[weakref.ref[Tensor]] = []

    class Handler(FlowHandler):
        def on_layer(self, call: LayerCall) -> Tensor:
            output = call.run()
            read.append(weakref.ref(output))
            return output

    with FlowTap(model, [layer], Handler()) as tap:
        output = model(torch.randn(2, 3, 4, 4))
        assert read[0]() is None and tap._find(output) is not None
