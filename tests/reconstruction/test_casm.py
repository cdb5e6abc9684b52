"""CASM: a part of a pass run from a cache equals the whole pass, and its options do what they say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoprune.components import create
from autoprune.errors import ConfigError, ModelError
from autoprune.graph import Slicer
from autoprune.reconstruction import Bench, reconstructions
from autoprune.reconstruction.replaying import fit
from tests.small import NETWORKS, make_bench, random_kept, relative_error

each_network = pytest.mark.parametrize("network", NETWORKS)


def restored(bench: Bench, kept: dict[str, Tensor], method: str = "casm", **options: object) -> nn.Module:
    pruned = Slicer(bench.model, bench.graph).build(kept).eval()
    create(reconstructions, method, options).restore(bench, pruned, kept)
    return pruned


@pytest.mark.parametrize("scope", ["group", "network"])
@pytest.mark.parametrize("network", ["residual", "concat", "flattened", "tokens"])
def test_training_improves_on_the_closed_form(network: str, scope: str) -> None:
    small = NETWORKS[network]
    images = small.images(256)
    bench = make_bench(small.model(), images)
    kept = random_kept(bench.graph, 0.5)
    closed = relative_error(restored(bench, kept, "sequential"), bench.model, images)
    found = restored(bench, kept, scope=scope, steps=60, batch=32, learning_rate=3e-3)
    assert relative_error(found, bench.model, images) < closed


@pytest.mark.parametrize("scope", ["group", "network"])
@pytest.mark.parametrize("network", ["residual", "tokens"])
def test_mixed_precision_fits_as_well_and_leaves_weights_in_their_own(
    network: str, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[Tensor] = []
    backward = fit.backward
    monkeypatch.setattr(fit, "backward", lambda loss: (losses.append(loss.detach()), backward(loss)))
    small = NETWORKS[network]
    images = small.images(256)
    bench = make_bench(small.model(), images)
    kept = random_kept(bench.graph, 0.5)
    options = {"scope": scope, "steps": 60, "batch": 32, "learning_rate": 3e-3}
    full, mixed = (restored(bench, kept, mixed_precision=mixed, **options) for mixed in (False, True))
    errors = [relative_error(found, bench.model, images) for found in (full, mixed)]
    assert errors[1] < 1.1 * errors[0]
    pairs = list(zip(full.state_dict().values(), mixed.state_dict().values(), strict=True))
    assert all(first.dtype == second.dtype for first, second in pairs)
    assert {loss.dtype for loss in losses} == {torch.float32}, "squares too are taken in single precision"
    assert not all(first.equal(second) for first, second in pairs)


@pytest.mark.parametrize("start", ["sequential", "joint"])
def test_it_starts_from_what_it_is_told_to(start: str) -> None:
    small = NETWORKS["residual"]
    bench = make_bench(small.model(), small.images(64))
    kept = random_kept(bench.graph, 0.5)
    views = {"mirror": True, "crops": 1}
    begun = restored(bench, kept, scope="network", start=start, steps=1, learning_rate=1e-12, **views)
    for name, tensor in restored(bench, kept, start, **views).state_dict().items():
        torch.testing.assert_close(begun.state_dict()[name], tensor)


def test_crops_train_too() -> None:
    small = NETWORKS["residual"]
    bench = make_bench(small.model(), small.images(16))
    kept = random_kept(bench.graph, 0.5)
    for images in (None, 8):
        options = {"start": "none", "steps": 4, "batch": 8, "images": images}
        plain, found = (restored(bench, kept, crops=crops, **options) for crops in (0, 3))
        assert not found.state_dict()["a2.0.weight"].equal(plain.state_dict()["a2.0.weight"])


def test_only_the_consumers_are_trained_when_asked() -> None:
    small = NETWORKS["chain"]
    bench = make_bench(small.model(), small.images(64))
    kept = random_kept(bench.graph, 0.5)
    plain = restored(bench, kept, "none")
    both = restored(bench, kept, start="none", steps=5, train="both")
    consumers = restored(bench, kept, start="none", steps=5, train="consumer")
    first = "0.0.weight"
    assert plain.state_dict()[first].equal(consumers.state_dict()[first])
    assert not plain.state_dict()[first].equal(both.state_dict()[first])
    assert not consumers.state_dict()["2.0.weight"].equal(plain.state_dict()["2.0.weight"])


def test_targets_before_and_after_the_activation_differ() -> None:
    small = NETWORKS["residual"]
    bench = make_bench(small.model(), small.images(64))
    kept = random_kept(bench.graph, 0.5)
    after, before = (restored(bench, kept, steps=10, target=target) for target in ("after", "before"))
    assert not after.state_dict()["a2.0.weight"].equal(before.state_dict()["a2.0.weight"])


def test_few_images_may_train_while_all_calibrate() -> None:
    small = NETWORKS["chain"]
    images = small.images(64)
    kept = random_kept(make_bench(small.model(), images).graph, 0.5)
    few = make_bench(small.model(), images)
    altered = make_bench(small.model(), torch.cat([images[:16], images[16:].flip(0)]))
    options = {"images": 16, "steps": 8, "batch": 8, "start": "none"}
    first, second = (restored(bench, kept, **options) for bench in (few, altered))
    for name, tensor in first.state_dict().items():
        assert tensor.equal(second.state_dict()[name]), name


def test_a_fit_that_diverges_changes_nothing() -> None:
    small = NETWORKS["chain"]
    bench = make_bench(small.model(), small.images(32))
    kept = random_kept(bench.graph, 0.5)
    closed = restored(bench, kept, "sequential").state_dict()
    for scope in ("group", "network"):
        wild = restored(bench, kept, scope=scope, steps=3, learning_rate=1e6).state_dict()
        assert all(tensor.equal(closed[name]) for name, tensor in wild.items())


class Framed(nn.Module):
    """Rows that are not one per image along the first dimension: frames in the batch, or tokens first."""

    def __init__(self, tokens_first: bool) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 12), nn.Linear(12, 10), nn.Linear(10, 4)
        self.tokens_first = tokens_first

    def forward(self, x: Tensor) -> Tensor:
        images = len(x)
        x = x.transpose(0, 1) if self.tokens_first else x.flatten(0, 1)
        x = torch.relu(self.b(torch.relu(self.a(x))))
        x = x.mean(0) if self.tokens_first else x.unflatten(0, (images, -1)).mean(1)
        head: Tensor = self.head(x)
        return head


@pytest.mark.parametrize("tokens_first", [True, False])
def test_images_need_not_lie_along_the_first_dimension_one_row_each(tokens_first: bool) -> None:
    torch.manual_seed(0)
    model, images = Framed(tokens_first).eval(), torch.randn(96, 5, 6)
    bench = make_bench(model, images)
    kept = random_kept(bench.graph, 0.5)
    closed = relative_error(restored(bench, kept, "sequential"), model, images)
    # Of another size than the rows of an image, and of the same one.
    for batch in (16, 5):
        found = restored(bench, kept, scope="group", steps=80, batch=batch, learning_rate=3e-3)
        assert relative_error(found, model, images) < closed


class InPlace(nn.Module):
    """Works on the outputs of its layers in place, as far as a training of it allows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 10, 3), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(torch.relu_(self.a(x)))
        y *= 0.5
        head: Tensor = self.head(torch.relu_(y).mean((2, 3)))
        return head


@pytest.mark.parametrize("target", ["before", "after"])
@pytest.mark.parametrize("scope", ["group", "network"])
def test_networks_that_work_in_place_can_be_trained(scope: str, target: str) -> None:
    torch.manual_seed(0)
    model, images = InPlace().eval(), torch.randn(64, 3, 10, 10)
    bench = make_bench(model, images)
    kept = random_kept(bench.graph, 0.5)
    closed = restored(bench, kept, "sequential")
    found = restored(bench, kept, scope=scope, target=target, steps=5, batch=16)
    assert not found.state_dict()["a.weight"].equal(closed.state_dict()["a.weight"])


class Untrainable(InPlace):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.b(torch.relu(self.a(x))))
        y *= 0.5
        head: Tensor = self.head(y.mean((2, 3)))
        return head


def test_a_network_whose_gradients_its_own_forward_destroys_is_an_error() -> None:
    torch.manual_seed(0)
    model, images = Untrainable().eval(), torch.randn(64, 3, 10, 10)
    bench = make_bench(model, images)
    with pytest.raises(ModelError, match="in place"):
        restored(bench, random_kept(bench.graph, 0.5), scope="network", steps=2, batch=16)


@pytest.mark.parametrize("start", ["independent", "none"])
def test_a_start_that_looks_at_no_image_takes_no_number_of_them(start: str) -> None:
    with pytest.raises(ConfigError, match=f"'start_images'.* got start = \"{start}\""):
        create(reconstructions, "casm", {"start": start, "start_images": 4})
