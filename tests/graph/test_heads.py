"""Attention heads as channel groups: a head goes with its rows of q, k, v and its columns of the output."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from autoprune.calibration.call import LayerCall
from autoprune.calibration.taps import LayerTap
from autoprune.errors import ModelError, PlanError
from autoprune.graph import ChannelGraph, LayerKind, Role, Slicer, verified_graph
from autoprune.graph.attention import PrunedAttention
from autoprune.plan import load, make_plan, save_plan
from autoprune.searching.front import Point

from .helpers import assert_exact, graph_of, image, random_kept, reasons

IMAGE = (1, 3, 16, 16)
HEADS, HEAD_WIDTH = 4, 6
WIDTH = HEADS * HEAD_WIDTH


def vit() -> nn.Module:
    model = torchvision.models.VisionTransformer(16, 4, 2, HEADS, WIDTH, 20, num_classes=5)
    nn.init.normal_(model.heads.head.weight)
    return model.eval()


class Attention(nn.Module):
    """Tokens of an image, one attention with a residual sum; `mix` makes its output of q, k and v."""

    def __init__(self, mix: Callable[[Any, Tensor, Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.num_heads, self.head_dim = HEADS, HEAD_WIDTH
        self.embed, self.qkv = nn.Conv2d(3, WIDTH, 4, 4), nn.Linear(WIDTH, 3 * WIDTH)
        self.norm, self.proj, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 5)
        self.table = nn.Parameter(torch.randn(31, HEADS))
        self.talk = nn.Linear(HEADS, HEADS)
        self.register_buffer("places", torch.arange(256).reshape(16, 16) % 31)
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT
        y = self.norm(x)
        qkv = self.qkv(y).reshape(*y.shape[:2], 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv) if self.mix is None else self.mix(self, *qkv.unbind(0))
        head: Tensor = self.head((x + self.proj(mixed.transpose(1, 2).flatten(2))).mean(1))
        return head


def by_hand(model: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q * model.head_dim**-0.5 @ k.mT).softmax(-1) @ v


def normalised(model: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (F.normalize(q, dim=-1) @ F.layer_norm(k, (HEAD_WIDTH,)).mT).softmax(-1) @ v


def by_einsum(model: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("b h i d, b h j d -> b h i j", q, k)
    return torch.einsum("b h i j, b h j d -> b h i d", scores.softmax(-1), v)


def biased(model: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A relative position bias: the heads run along a parameter."""
    bias = model.table[model.places].permute(2, 0, 1).unsqueeze(0)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def turned(model: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A rotation of the channels of each head by a table that all heads share."""
    table = torch.linspace(0, 1, 16 * HEAD_WIDTH).reshape(16, HEAD_WIDTH)
    return F.scaled_dot_product_attention(q * table + q.roll(1, -1), k * table, v)


def heads_of(graph: ChannelGraph) -> list[int]:
    return [group.width for group in graph.groups if group.macs_per_unit]


def test_heads_of_a_vision_transformer() -> None:
    model = vit()
    graph = graph_of(model, image(*IMAGE))
    assert heads_of(graph) == [HEADS, HEADS]
    group = next(group for group in graph.groups if group.macs_per_unit)
    shapes = {(member.tensor.rpartition(".")[2], member.role): member.positions for member in group.members}
    assert shapes["in_proj_weight", Role.PRODUCER].shape == (HEADS, 3 * HEAD_WIDTH)
    assert shapes["weight", Role.CONSUMER].tolist()[1] == list(range(HEAD_WIDTH, 2 * HEAD_WIDTH))
    assert all(layer.kind is LayerKind.LINEAR for layer in graph.consumers(group))
    assert_exact(model, graph, (image(*IMAGE),), {})


@pytest.mark.parametrize("mix", [None, by_hand, normalised, by_einsum, biased, turned])
def test_heads_are_found_in_whatever_way_they_are_computed(mix: Any) -> None:
    model = Attention(mix).eval()
    graph = graph_of(model, image(*IMAGE))
    assert heads_of(graph) == [HEADS]
    assert_exact(model, graph, (image(*IMAGE),), {})


def test_a_table_of_heads_loses_the_columns_of_the_heads() -> None:
    model = Attention(biased).eval()
    graph = graph_of(model, image(*IMAGE))
    sliced = Slicer(model, graph).build({"qkv": torch.tensor([0, 2])})
    assert torch.equal(sliced.table, model.table[:, [0, 2]])
    assert sliced.num_heads == 2 and model.num_heads == HEADS


def test_values_alone_are_pruned_where_queries_and_keys_are_not_split_into_heads() -> None:
    class OneHead(Attention):
        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x).flatten(2).mT
            q, k = self.norm(x), self.norm(x) * 2
            head: Tensor = self.head((q @ k.mT).softmax(-1) @ self.proj(q))
            return head

    model = OneHead().eval()
    graph = graph_of(model, image(*IMAGE))
    assert [(group.name, group.width) for group in graph.groups] == [("proj", WIDTH)]
    assert_exact(model, graph, (image(*IMAGE),), {})


def test_what_needs_all_heads_is_frozen_with_its_reason() -> None:
    def averaged(model: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q @ k.mT).softmax(-1)
        return weights.mean(1, keepdim=True) @ v

    class Fixed(Attention):
        """The number of channels of the output comes from the input."""

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x).flatten(2).mT
            qkv = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(x.shape)
            head: Tensor = self.head((x + self.proj(mixed)).mean(1))
            return head

    fixed = verified_graph(Fixed().eval(), (image(*IMAGE),))
    assert "rule 1: the sliced network fails" in reasons(fixed)["qkv"]
    mean = verified_graph(Attention(averaged).eval(), (image(*IMAGE),))
    assert "aten.mean in the model's forward mixes channels" in reasons(mean)["qkv"]
    assert not heads_of(fixed) and not heads_of(mean)
    assert not fixed.attributes


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bias": False}, {"kdim": 10, "vdim": 7}])
@pytest.mark.parametrize("need_weights", [False, True])
def test_pruned_attention_with_all_heads_is_the_dense_one(options: Any, need_weights: bool) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(WIDTH, HEADS, **options).eval()
    pruned = PrunedAttention.of(attention)
    assert list(pruned.state_dict()) == list(attention.state_dict())
    shape = (2, 9) if options.get("batch_first") else (9, 2)
    widths = (WIDTH, options.get("kdim", WIDTH), options.get("vdim", WIDTH))
    query, key, value = (torch.randn(*shape, width) for width in widths)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[1, 6:] = True
    causal = nn.Transformer.generate_square_subsequent_mask(9)
    by_head = torch.randn(2 * HEADS, 9, 9)
    for masks in (
        {},
        {"key_padding_mask": padding},
        {"attn_mask": causal, "is_causal": True},
        {"attn_mask": by_head},
        {"attn_mask": causal < 0, "key_padding_mask": padding},
    ):
        for average in (True, False):
            given: Any = {**masks, "need_weights": need_weights, "average_attn_weights": average}
            expected, found = attention(query, key, value, **given), pruned(query, key, value, **given)
            torch.testing.assert_close(found, expected)


def test_pruned_attention_takes_input_without_a_batch() -> None:
    attention = nn.MultiheadAttention(WIDTH, HEADS).eval()
    x = torch.randn(9, WIDTH)
    torch.testing.assert_close(PrunedAttention.of(attention)(x, x, x), attention(x, x, x))


def test_attention_with_added_keys_is_frozen() -> None:
    class Added(Attention):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(WIDTH, HEADS, add_zero_attn=True, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.embed(x).flatten(2).mT)
            head: Tensor = self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))
            return head

    graph = verified_graph(Added().eval(), (image(*IMAGE),))
    assert not heads_of(graph) and "attention" in reasons(graph)
    with pytest.raises(ModelError, match="add_zero_attn"):
        PrunedAttention.of(Added().attention)


def test_the_fused_encoder_of_torch_leaves_pruned_attention_alone() -> None:
    class Encoder(Attention):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 20, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)

        def forward(self, x: Tensor) -> Tensor:
            head: Tensor = self.head(self.encoder(self.embed(x).flatten(2).mT).mean(1))
            return head

    model = Encoder().eval()
    graph = graph_of(model, image(*IMAGE))
    assert heads_of(graph) == [HEADS, HEADS]
    assert_exact(model, graph, (image(*IMAGE),), {})


def test_the_input_of_the_output_projection_is_seen_dense_and_pruned() -> None:
    model = vit()
    graph = graph_of(model, image(*IMAGE))
    kept = random_kept(graph)
    names = {layer.name for layer in graph.layers}
    for network, share in ((model, 1.0), (Slicer(model, graph).build(kept), 0.5)):
        seen: dict[str, int] = {}

        def note(call: LayerCall, seen: dict[str, int] = seen) -> None:
            seen[call.layer.name] = call.input.shape[-1]

        with torch.no_grad(), LayerTap(network, graph.layers, note):
            network(image(*IMAGE))
        assert set(seen) == names
        assert seen["encoder.layers.encoder_layer_0.self_attention.out_proj"] == WIDTH * share


def point(kept: dict[str, Tensor]) -> Point:
    costs = {"macs": 1, "macs_ratio": 0.5, "params": 1, "params_ratio": 0.5, "bytes": 4}
    return Point(
        trial=0,
        **costs,  # type: ignore[arg-type]
        accuracy=0.5,
        accuracy_before_reconstruction=None,
        output_error=0.0,
        widths={},
        rates={},
        batch_removal=1,
        criterion="l1",
        kept=kept,
    )


def test_a_saved_network_with_fewer_heads_loads_onto_a_fresh_instance(tmp_path: Path) -> None:
    model = vit()
    graph = graph_of(model, image(*IMAGE))
    kept = random_kept(graph)
    sliced = Slicer(model, graph).build(kept)
    plan = save_plan(tmp_path / "plan", sliced, make_plan(model, graph, point(kept), study="s"))
    assert plan.attributes["encoder.layers.encoder_layer_0.self_attention"] == {"num_heads": 2}
    found = load(vit(), tmp_path / "plan")
    x = image(2, *IMAGE[1:])
    with torch.no_grad():
        assert torch.equal(found(x), sliced(x))


@pytest.mark.parametrize(
    "attributes", [{"embed_dim": 3}, {"num_heads": HEADS + 1}, {"__class__": 1}, {"training": 1}]
)
def test_a_plan_sets_nothing_but_fewer_heads(tmp_path: Path, attributes: dict[str, int]) -> None:
    model = vit()
    graph = graph_of(model, image(*IMAGE))
    kept = random_kept(graph)
    plan = make_plan(model, graph, point(kept), study="s")
    path = "encoder.layers.encoder_layer_0.self_attention"
    plan = plan.model_copy(update={"attributes": {path: attributes}})
    save_plan(tmp_path / "plan", Slicer(model, graph).build(kept), plan)
    fresh = vit()
    before = copy.deepcopy(fresh.state_dict())
    with pytest.raises(PlanError, match="that counts heads"):
        load(fresh, tmp_path / "plan")
    assert all(torch.equal(fresh.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("fused", [False, True])
def test_heads_of_timm(request: pytest.FixtureRequest, fused: bool) -> None:
    timm = pytest.importorskip("timm")
    used = timm.layers.config._USE_FUSED_ATTN
    request.addfinalizer(lambda: setattr(timm.layers.config, "_USE_FUSED_ATTN", used))
    timm.layers.set_fused_attn(fused)
    make = timm.models.vision_transformer.VisionTransformer
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": WIDTH, "depth": 1, "num_heads": HEADS}
    model = make(**sizes, qk_norm=True, num_classes=5)
    graph = graph_of(model.eval(), image(*IMAGE))
    assert heads_of(graph) == [HEADS]
    assert_exact(model, graph, (image(*IMAGE),), {})
