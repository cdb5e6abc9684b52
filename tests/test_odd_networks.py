"""Networks and inputs that are put together in ways that users do: searched whole, or refused in words."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint
from torch.utils.data import TensorDataset

import autoprune
from autoprune.data.inputs import Inputs
from autoprune.data.outputs import flat_outputs
from autoprune.errors import DataError, ModelError
from autoprune.graph import Slicer, count_macs, find_groups
from autoprune.plan import make_plan, save_plan
from autoprune.progress import Silent

torch.manual_seed(0)
IMAGES = torch.randn(48, 3, 8, 8)


class Upsampler(nn.Module):
    """All that reads `narrow` is a transposed convolution, as in a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(10, 12, 3, stride=2, padding=1)
        self.up, self.head = nn.ConvTranspose2d(12, 8, 2, stride=2), nn.Conv2d(18, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.wide(x).relu()
        return self.head(torch.cat([self.up(self.narrow(wide).relu()).relu(), wide], 1)).mean((2, 3))


class Filters(nn.Module):
    """Fixed filters, which are buffers: at the input, between two layers, and a blur of each channel."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("bank", torch.randn(8, 3, 3, 3, generator=generator), persistent=False)
        self.register_buffer("mixed", torch.randn(6, 10, 1, 1, generator=generator), persistent=False)
        self.register_buffer("blur", torch.full((6, 1, 3, 3), 1 / 9))
        self.conv, self.head = nn.Conv2d(8, 10, 3, padding=1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.conv(F.conv2d(x, self.bank, padding=1).relu()).relu(), self.mixed).relu()
        return self.head(F.conv2d(x, self.blur, padding=1, groups=x.shape[1]).mean((2, 3)))


class Backbone(nn.Module):
    """Gradients are switched off, or on again, within the forward."""

    def __init__(self, gradients: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3)
        self.head, self.gradients = nn.Linear(10, 4), gradients

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.gradients):
            x = self.second(self.first(x).relu()).relu()
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Asks for the attention's weights, and does not read them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(3, 12), nn.Linear(12, 4)
        self.attention = nn.MultiheadAttention(12, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(2).mT)
        x, _ = self.attention(x, x, x)
        return self.head(x.mean(1))


class Unread(nn.Module):
    """Computes what nobody reads: the last step of a residual stream, and a head for training."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3)
        self.back, self.aux = nn.Conv2d(10, 8, 3, padding=1), nn.Linear(10, 6)
        self.aux_head, self.head = nn.Linear(6, 4), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        y = self.deep(x).relu()
        x = x[..., 1:-1, 1:-1] + self.back(y)
        y = y.mean((2, 3))
        self.aux_head(self.aux(y).relu()).softmax(1)
        return self.head(y)


class Penalties(nn.Module):
    """Computes losses in its forward and drops them: of activations, of weights, of pairs of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        y = self.deep(x).relu()
        flat, weight = y.flatten(2), self.deep.weight.flatten(1)
        torch.stack([x.square().mean(), y.abs().mean(), (flat @ flat.mT).square().mean()]).sum()
        (weight @ weight.mT - torch.eye(len(weight))).norm() + sum(
            p.square().sum() for p in self.parameters()
        )
        (x.mean((2, 3))[:, :, None] * y.mean((2, 3))[:, None]).sum(1)
        (x.square().mean(1)[:, 1:-1, 1:-1] - y.square().mean(1)).abs().sum()
        return self.head(y.mean((2, 3)))


class Maps(Attention):
    """Combines the maps of two attentions, and does not read that."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(2).mT)
        y, first = self.attention(x, x, x)
        y, second = self.attention(y, y, y)
        (second @ first).mean()
        return self.head(y.mean(1))


class GroupNorms(nn.Module):
    """As in a diffusion model: a residual stream of groups of channels, and a concatenation of two."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(4, 12)
        self.inner, self.inner_norm = nn.Conv2d(12, 9, 3, padding=1, bias=False), nn.GroupNorm(9, 9)
        self.back, self.both = nn.Conv2d(9, 12, 3, padding=1), nn.GroupNorm(7, 21)
        self.head = nn.Conv2d(21, 4, 1)
        for norm in (self.norm, self.inner_norm, self.both):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.inner_norm(self.inner(F.silu(self.norm(x)))).relu()
        x = x + self.back(y)
        return self.head(self.both(torch.cat([x, y], 1)).relu()).mean((2, 3))


class Products(nn.Module):
    """A graph network and a low-rank adapter: products with parameters, and with a fixed matrix."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def weight(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator) / 2

        self.register_buffer("nodes", weight(64, 64).softmax(1))
        self.first, self.bias = nn.Parameter(weight(3, 10)), nn.Parameter(weight(10))
        self.down, self.up = nn.Parameter(weight(10, 4)), nn.Parameter(weight(4, 12))
        self.linear, self.last = nn.Linear(10, 12), nn.Parameter(weight(12, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = (self.nodes @ (x.flatten(2).mT @ self.first) + self.bias).relu().mean(1)
        return torch.mm((self.linear(x) + x @ self.down @ self.up).relu(), self.last)


class Tied(nn.Module):
    """The last layer's weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 12), nn.Linear(12, 20, bias=False)
        self.up, self.down = nn.Linear(12, 24), nn.Linear(24, 12)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding((x.flatten(1) * 4).long() % 20)
        return self.head(x + self.down(self.up(x).relu())).mean(1)


class Decoding(nn.Module):
    """Weights that are read once as they are and once transposed, in either order."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.inner = nn.Parameter(torch.randn(8, 6) / 2), nn.Linear(8, 6)
        self.first, self.middle, self.last = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(2)).relu()
        x = F.linear((x @ self.matrix).tanh(), self.matrix)
        x = self.middle(x).relu()
        return self.last(self.inner(x).tanh() @ self.inner.weight).mean(1)


class Recurrent(nn.Module):
    """torch asks more of an RNN's weights in the first pass after a copy than in later ones."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Linear(3, 20), nn.GRU(20, 16, batch_first=True)
        self.hidden, self.head = nn.Linear(16, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.rnn(F.gelu(self.embed(x.flatten(2).mT[:, :12])))
        return self.head(self.hidden(last[-1]).tanh())


class Caching(nn.Module):
    """Fills a cache in its first pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.scale: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = torch.ones(()).mul(2).add(1)
        return self.head(self.conv(x).relu().mean((2, 3)) * self.scale)


class Rows(nn.Module):
    """Goes over its images one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(64, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.head(self.hidden(row.flatten(1)).relu()).mean(0) for row in x])


class Squeezed(nn.Module):
    """Squeezes its output, of one image to a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu()).squeeze()


class Optional(nn.Module):
    """A second image, where there is one, goes through a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        features = self.conv(x) if other is None else self.conv(x) + self.other(other)
        return self.head(features.relu().mean((2, 3)))


class Noisy(Optional):
    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        return super().forward(x + torch.randn_like(x))


def answer(network: nn.Module) -> Tensor:
    """The first thing that a network returns."""
    output = network(IMAGES)
    first: Tensor = output[0] if isinstance(output, tuple) else output
    return first


def search(model: nn.Module, calibration: Any = IMAGES, **how: Any) -> autoprune.Front:
    with torch.no_grad():
        wanted = answer(model) if not isinstance(model, Noisy) else IMAGES

    def quality(network: nn.Module) -> float:
        return -float((answer(network) - wanted).detach().square().mean())

    how = {"evaluate": quality, "trials": 3, **how}
    return autoprune.search(model, calibration=calibration, **how)


@pytest.mark.parametrize(
    ("model", "groups"),
    [
        (Upsampler(), {"wide": 10, "narrow": 12, "up": 8}),
        (Filters(), {"bank": 8, "conv": 10, "mixed": 6}),
        (Backbone(False), {"first": 8, "second": 10}),
        (Attention(), {"embed": 12, "attention": 4, "attention.out_proj": 12}),
        (Maps(), {"embed": 12, "attention": 4}),
        (Unread(), {"stem": 8, "deep": 10, "aux": 6}),
        (Squeezed(), {"conv": 8}),
        (GroupNorms(), {"stem": 4, "inner": 3}),
        (Products(), {"first": 10, "linear": 12, "down": 4}),
    ],
)
def test_every_group_is_found_and_searched(model: nn.Module, groups: dict[str, int]) -> None:
    model.eval()
    assert find_groups(model, (IMAGES[:1],)).widths == groups
    front = search(model)
    assert len(front.trials) == 3
    point = min(front.trials, key=lambda point: point.macs)
    assert count_macs(point.build(), (IMAGES[:1],)) == point.macs < front.dense.macs


def test_losses_that_are_dropped_restrict_nothing() -> None:
    model = Penalties().eval()
    assert find_groups(model, (IMAGES[:1],)).widths == {"stem": 8, "deep": 10}
    for point in search(model).trials:
        assert point.build()(IMAGES).shape == (48, 4)


def test_layers_with_gradients_of_their_own_are_found() -> None:
    assert find_groups(Backbone(True), (IMAGES[:1],)).widths == {"first": 8, "second": 10}


RESTORED: dict[str, dict[str, Any]] = {
    "sequential": {},
    "independent": {},
    "filters": {},
    "casm": {"steps": 3, "batch": 16},
    "joint": {"steps": 2},
}


@pytest.mark.parametrize("method", RESTORED)
def test_channels_that_a_group_norm_joins_go_together(method: str, tmp_path: Path) -> None:
    model = GroupNorms().eval()
    how = {"reconstruction": method, "reconstruction_options": RESTORED[method], "batch_removal": (1,)}
    points = search(model, trials=6, **how).trials
    graph = find_groups(model, (IMAGES[:1],))
    for number, point in enumerate(points):
        built = point.build()
        for norm in (built.norm, built.inner_norm, built.both):
            assert norm.num_channels == len(norm.weight)
        assert built.norm.num_groups * 3 == built.norm.num_channels
        save_plan(tmp_path / str(number), built, make_plan(model, graph, point, study="s"))
        assert autoprune.load(GroupNorms(), tmp_path / str(number))(IMAGES).equal(built(IMAGES))
    assert len({point.macs for point in points}) > 1


@pytest.mark.parametrize("method", RESTORED)
def test_products_with_parameters_are_sliced_and_layers_beside_them_restored(
    method: str, tmp_path: Path
) -> None:
    model = Products().eval()
    how = {"reconstruction": method, "reconstruction_options": RESTORED[method], "batch_removal": (1,)}
    point = min(search(model, **how).trials, key=lambda point: point.macs)
    built = point.build()
    assert built.nodes.equal(model.nodes) and built.up.shape[0] == built.down.shape[1]
    assert built.first.shape[1] == built.linear.in_features < 10
    assert built.last.shape[0] == built.up.shape[1] == built.linear.out_features < 12
    graph = find_groups(model, (IMAGES[:1],))
    save_plan(tmp_path, built, make_plan(model, graph, point, study="s"), force=True)
    assert autoprune.load(Products(), tmp_path)(IMAGES).equal(built(IMAGES))


@pytest.mark.parametrize("method", RESTORED)
def test_a_weight_that_an_embedding_shares_stays_as_it_was(method: str) -> None:
    model = Tied().eval()
    how = {"reconstruction": method, "reconstruction_options": RESTORED[method]}
    for point in search(model, **how).trials:
        built, kept = point.build(), point.kept
        assert built.head.weight is built.embedding.weight
        assert built.embedding.weight.equal(model.embedding.weight[:, kept["embedding"]])
        assert not built.down.weight.equal(model.down.weight[kept["embedding"]][:, kept["up"]])


@pytest.mark.parametrize("method", RESTORED)
def test_a_bias_that_a_norm_shares_stays_as_it_was(method: str) -> None:
    first, second, norm = nn.Linear(192, 12), nn.Linear(12, 8), nn.BatchNorm1d(8)
    norm.bias = second.bias
    model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), norm, nn.Linear(8, 4)).eval()
    for point in search(model, reconstruction=method, reconstruction_options=RESTORED[method]).trials:
        built, kept = point.build(), point.kept["3"]
        assert built[3].bias is built[5].bias and built[3].bias.equal(model[3].bias[kept])


@pytest.mark.parametrize("method", RESTORED)
def test_weights_of_two_kinds_of_layers_are_sliced_and_not_refitted(method: str) -> None:
    model = Decoding().eval()
    how = {"reconstruction": method, "reconstruction_options": RESTORED[method], "batch_removal": (1,)}
    for point in search(model, **how).trials:
        built, kept = point.build(), point.kept
        assert built.matrix.equal(model.matrix[kept["first"]][:, kept["matrix"]])
        assert built.inner.weight.equal(model.inner.weight[kept["inner"]][:, kept["middle"]])
        assert count_macs(built, (IMAGES[:1],)) == point.macs


def test_a_matrix_on_the_left_keeps_what_it_is_added_to() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(3, 64), nn.Linear(64, 4)
            self.matrix = nn.Parameter(torch.randn(64, 64))

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x.flatten(2).mT) + self.matrix
            return self.head((self.matrix @ x).mean(1))

    graph = find_groups(Mixing().eval(), (IMAGES[:1],))
    reasons = {frozen.name: frozen.reason for frozen in graph.frozen}
    assert not graph.groups and "mixes channels" in reasons["first"]


def test_a_group_norm_without_weights_loses_whole_groups(tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8, affine=False), nn.Conv2d(8, 4, 3), nn.Flatten()
        )

    model = network().eval()
    graph = find_groups(model, (IMAGES[:1],))
    assert graph.widths == {"0": 4}
    built = Slicer(model, graph).build({"0": torch.tensor([1, 3])})
    assert built[1].num_groups == 2 and built(IMAGES).shape == model(IMAGES).shape
    point = min(search(model, batch_removal=(1,)).trials, key=lambda point: point.macs)
    save_plan(tmp_path, point.build(), make_plan(model, graph, point, study="s"))
    loaded = autoprune.load(network(), tmp_path)
    torch.testing.assert_close(loaded(IMAGES), point.build()(IMAGES))


def test_a_number_of_norm_groups_in_the_forward_keeps_the_channels() -> None:
    class Fixed(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[1](F.group_norm(self[0](x), 4))

    model = Fixed(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)).eval()
    assert find_groups(model, (IMAGES[:1],)).widths == {}


@pytest.mark.parametrize("method", RESTORED)
def test_fixed_filters_stay_as_they_were(method: str, tmp_path: Path) -> None:
    """Whether a buffer is stored or not, what is loaded is what was built."""
    model = Filters().eval()
    how = {"reconstruction": method, "reconstruction_options": RESTORED[method], "batch_removal": (1,)}
    point = min(search(model, **how).trials, key=lambda point: point.macs)
    built = point.build()
    channels = {group: point.kept[group] for group in point.kept}
    assert built.mixed.equal(model.mixed[channels["mixed"]][:, channels["conv"]])
    graph = find_groups(model, (IMAGES[:1],))
    save_plan(tmp_path, built, make_plan(model, graph, point, study="s"), force=True)
    found = autoprune.load(Filters(), tmp_path)
    assert found(IMAGES).equal(built(IMAGES))


@pytest.mark.parametrize("method", ["casm", "joint"])
@pytest.mark.parametrize("model", [Recurrent, Caching])
def test_a_first_pass_may_differ_from_the_others(model: type[nn.Module], method: str) -> None:
    how = {"reconstruction": method, "reconstruction_options": RESTORED[method]}
    assert len(search(model().eval(), **how).trials) == 3


@pytest.mark.parametrize("method", ["casm", "joint"])
def test_passes_that_all_differ_are_refused_in_words(method: str) -> None:
    how = {"reconstruction": method, "reconstruction_options": RESTORED[method]}
    with pytest.raises(ModelError, match=r"does not run the same functions each time.*'sequential'"):
        search(Rows().eval(), **how)
    assert len(search(Rows().eval()).trials) == 3


@pytest.mark.parametrize("method", ["casm", "joint"])
def test_a_checkpointed_forward_is_refused_in_words(method: str) -> None:
    class Checkpointed(Filters):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(super().forward, x, use_reentrant=False)

    how = {"reconstruction": method, "reconstruction_options": RESTORED[method]}
    with pytest.raises(ModelError, match=r"checkpointed.*'sequential'"):
        search(Checkpointed().eval(), **how)


def test_an_output_without_rows_is_refused_with_a_hint() -> None:
    with pytest.raises(ModelError, match=r"output for 1 image\(s\).*name the dimension"):
        flat_outputs(Squeezed().eval(), Inputs((IMAGES[:1],)))


@pytest.mark.parametrize("criterion", ["history", "similarity"])
def test_other_criteria_order_fixed_filters_too(criterion: str) -> None:
    labels = torch.arange(48) % 4
    how = {"criterion": criterion, "training": TensorDataset(IMAGES, labels), "history_epochs": 1}
    assert len(search(Filters().eval(), trials=2, **how).trials) == 2


def test_a_tuple_of_tensors_is_one_call() -> None:
    both = search(Optional().eval(), (IMAGES, IMAGES.flip(0)), batch_removal=(1,))
    plain = search(Optional().eval(), (IMAGES, torch.arange(48)), batch_removal=(1,))
    head = 8 * 4
    assert both.dense.macs - head == 2 * (plain.dense.macs - head)
    with pytest.raises(DataError, match="share one batch size; pass batches as a list"):
        search(Optional().eval(), (IMAGES, IMAGES[:7]))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.LazyConv2d(8, 3), nn.Flatten(), nn.LazyLinear(4)), "run one batch first"),
        (torch.compile(Optional(), backend="eager"), "before torch.compile"),
        (Noisy(), "another output each time"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_words(model: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        autoprune.search(model.eval(), calibration=IMAGES, evaluate=lambda network: 0.0, trials=1)


def test_a_tensor_computed_from_parameters_is_named() -> None:
    model = Optional()
    prune.l1_unstructured(model.conv, "weight", 0.5)
    with pytest.raises(ModelError, match=r"'conv\.weight' is no parameter.*prune\.remove"):
        autoprune.search(model, calibration=IMAGES, evaluate=lambda network: 0.0, trials=1)


def test_an_input_taken_for_labels_is_hinted_at() -> None:
    class Timed(Optional):
        def forward(self, x: Tensor, other: Tensor) -> Tensor:
            return super().forward(x * other[:, None, None, None])

    with pytest.raises(ModelError, match="taken for labels and left out: name the inputs, in a dict"):
        autoprune.search(Timed(), calibration=(IMAGES, torch.arange(48)), evaluate=lambda n: 0.0, trials=1)


def test_images_of_two_sizes_are_refused_with_both() -> None:
    with pytest.raises(DataError, match="one shape in all batches, got 3x8x8 and 3x6x6"):
        search(Optional().eval(), [IMAGES, IMAGES[..., 1:7, 1:7]])


class Remembering(nn.Module):
    """Its forward keeps what it computes, in a container of some kind."""

    def __init__(self, store: Any) -> None:
        super().__init__()
        self.conv, self.head, self.store = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), store

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        if isinstance(self.store, dict):
            self.store.get("f", []).append(x) if "f" in self.store else self.store.update(g=x)
        else:
            self.store.append(x)
        return self.head(x.mean((2, 3)))


STORES: list[Any] = [OrderedDict(), defaultdict(list, f=[]), deque(maxlen=2), {"f": []}, []]


@pytest.mark.parametrize("store", STORES, ids=lambda store: type(store).__name__)
def test_what_a_forward_keeps_is_no_leftover_of_the_trace(store: Any) -> None:
    model = Remembering(store).eval()
    before = copy.deepcopy(store)
    assert len(find_groups(model, (IMAGES[:1],)).groups) == 1
    assert model.store == before and len(search(model).trials) > 1


class Gates(nn.Module):
    """Products that torch takes element by element, in Einstein's spelling."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1)
        self.scale = nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = torch.einsum("bchw,bc->bchw", x, x.mean((2, 3)).sigmoid())
        return self.last(torch.einsum("bchw,c->bchw", x, self.scale)).mean((2, 3))


class Named(nn.Module):
    """Calls functions with names, repeats by a tensor, and returns a constant beside its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(8, 4)
        self.register_buffer("times", torch.ones(8, dtype=torch.long))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(input=self.second(torch.relu(input=self.first(x))))
        x = torch.repeat_interleave(x, self.times, 1, output_size=8)
        return self.last(x.mean((2, 3))), x.new_zeros(len(x), 2)


class BothWays(nn.Module):
    """One weight is read by its own convolution and, by a function, the other way round."""

    def __init__(self, kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], back: Any) -> None:
        super().__init__()
        self.first, self.tied, self.back = nn.Conv2d(3, 6, 3), kind(6, 10, 3, bias=False), back
        self.last = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tied(self.first(x).relu()).relu()
        return self.last(self.back(x, self.tied.weight).relu()).mean((2, 3))


class Alone(nn.Module):
    """Single samples, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        answers = [self.last(self.second(self.first(image).relu()).relu().mean((1, 2))) for image in x]
        return torch.stack(answers)


TIED = [BothWays(nn.Conv2d, F.conv_transpose2d), BothWays(nn.ConvTranspose2d, F.conv2d)]
ODD: list[nn.Module] = [Gates(), Named(), *TIED, Alone()]


@pytest.mark.parametrize("model", ODD, ids=lambda model: type(model).__name__)
def test_a_front_counts_what_a_counter_does(model: nn.Module) -> None:
    front = search(model.eval(), IMAGES[:8] if isinstance(model, Alone) else IMAGES)
    assert len(front.trials) > 1
    for point in front.trials:
        assert point.macs == count_macs(point.build(), (IMAGES[:1],))


def test_layers_that_nobody_can_watch_are_named() -> None:
    class Listening(Silent):
        def message(self, text: str) -> None:
            told.append(text)

    told: list[str] = []
    search(Alone().eval(), IMAGES[:8], progress=Listening())
    assert any("not watched and stay as sliced: " in text and "second" in text for text in told)


def test_labels_in_a_dict_are_hinted_at() -> None:
    batch = {"x": IMAGES, "labels": torch.arange(48)}
    with pytest.raises(ModelError, match="holds what the forward takes, and no labels"):
        autoprune.search(Optional().eval(), calibration=batch, evaluate=lambda network: 0.0, trials=1)
