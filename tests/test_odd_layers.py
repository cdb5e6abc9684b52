"""Layers that are written, or hidden, in ways that users do: found, sliced, restored and saved."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import autoprune
from autoprune.errors import ModelError
from autoprune.graph import count_macs, find_groups
from autoprune.graph.slicing import Slicer
from autoprune.plan import make_plan, save_plan
from autoprune.reconstruction.replaying.passes import restorable
from autoprune.reconstruction.replaying.recording import record_trace
from autoprune.searching.front import Front
from tests.small import make_bench

torch.manual_seed(0)
torch.set_num_threads(1)
ROWS, STEPS, IMAGES = torch.randn(96, 20), torch.randn(96, 5, 6), torch.randn(64, 3, 8, 8)
WORDS = torch.randint(0, 30, (96, 7))
CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)


class Decoder(nn.Module):
    """Transposed convolutions: with blocks that overlap, behind a norm and in a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm = nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12)
        self.deep = nn.Conv2d(12, 16, 3, 2, 1)
        self.up, self.up_norm = nn.ConvTranspose2d(16, 12, 4, 2, 1), nn.BatchNorm2d(12)
        self.last, self.head = nn.ConvTranspose2d(12, 10, 3, 2, 1, output_padding=1), nn.Conv2d(10, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        down = self.norm(self.down(x)).relu()
        x = self.up_norm(self.up(self.deep(down).relu())).relu() + down
        head: Tensor = self.head(self.last(x).relu())
        return head


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) / shape[0] ** 0.5)


class Products(nn.Module):
    """Weights (I, O) and (O, I), in five spellings."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bias, self.b = parameter(20, 24), parameter(24), parameter(18, 24)
        self.c, self.d, self.e = parameter(18, 16), parameter(14, 16), parameter(14, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addmm(self.bias, x, self.a).relu()
        x = (x @ self.b.t()).relu()
        x = torch.einsum("bi,io->bo", x, self.c).relu()
        x = torch.einsum("oi,bi->bo", self.d, x).relu()
        head: Tensor = self.head(F.linear(x, self.e.T).relu())
        return head


class Tied(nn.Module):
    """An autoencoder whose decoder reads the encoder's weights transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.between = (
            nn.Linear(20, 16),
            nn.Linear(16, 8),
            nn.Parameter(torch.ones(16)),
        )

    def forward(self, x: Tensor) -> Tensor:
        code = self.second(self.first(x).relu()).relu()
        return F.linear(F.linear(code, self.second.weight.t(), self.between).relu(), self.first.weight.t())


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **how: Any) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(6, 16, 1), nn.BatchNorm1d(16)
        self.rnn = kind(16, 8, batch_first=True, **how)
        self.head = nn.Linear(8 * (1 + self.rnn.bidirectional), 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x.mT)).relu().mT
        head: Tensor = self.head(self.rnn(x)[0].mean(1))
        return head


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.head = nn.Linear(6, 16), nn.GRUCell(16, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.new_zeros(x.shape[0], 8)
        for step in range(x.shape[1]):
            hidden = self.cell(self.embed(x[:, step]).relu(), hidden)
        head: Tensor = self.head(hidden)
        return head


class Words(nn.Module):
    def __init__(self, bag: bool) -> None:
        super().__init__()
        self.bag, self.table = bag, (nn.EmbeddingBag if bag else nn.Embedding)(30, 16)
        self.conv, self.head = nn.Conv1d(16, 10, 1), nn.Linear(10, 4)

    def forward(self, words: Tensor) -> Tensor:
        x = self.table(words).unsqueeze(2) if self.bag else self.table(words).mT
        head: Tensor = self.head(self.conv(x).relu().amax(2))
        return head


class Unflattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.unflatten = nn.Linear(20, 64), nn.Unflatten(1, (4, 4, 4))
        self.up, self.head = nn.ConvTranspose2d(4, 6, 2, 2), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        head: Tensor = self.head(self.up(self.unflatten(self.first(x).relu())).relu())
        return head


class Mixed(nn.Module):
    """Mixed precision of the forward's own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            body: Tensor = self.body(x)
        return body.float()


class Graph(nn.Module):
    """Sums over neighbours by index."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 4)
        self.register_buffer("neighbour", torch.tensor([0, 1, 1, 3, 4]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = self.second(torch.zeros_like(x).index_add(1, self.neighbour, x)).relu()
        index = self.neighbour[None, :, None].expand_as(x)
        head: Tensor = self.head(torch.zeros_like(x).scatter_add(1, index, x))
        return head


class Windows(nn.Module):
    """unfold, fold, max_unpool2d and roi_align."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.wide = nn.Conv2d(3, 6, 3, padding=1), nn.Conv1d(54, 36, 1)
        self.folded, self.head = nn.Conv2d(4, 10, 1), nn.Linear(40, 5)

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = F.max_pool2d(self.conv(x).relu(), 2, return_indices=True)
        x = F.unfold(F.max_unpool2d(pooled, places, 2), 3, padding=1)
        x = F.fold(self.wide(x).relu(), (8, 8), 3, padding=1)
        number = torch.arange(x.shape[0], dtype=x.dtype).unsqueeze(1)
        boxes = torch.cat([number, x.new_tensor([[0.0, 0, 6, 6]]).expand(x.shape[0], 4)], 1)
        head: Tensor = self.head(torchvision.ops.roi_align(self.folded(x).relu(), boxes, 2).flatten(1))
        return head


class Masked(nn.Module):
    """Attention behind a mask that is made on the way, or a buffer of infinities."""

    def __init__(self, buffer: bool) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(6, 16), nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, 4)
        mask = torch.zeros(5, 5).masked_fill(CAUSAL, -torch.inf)
        self.register_buffer("mask", mask if buffer else None)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if self.mask is None else self.mask
        head: Tensor = self.head(x + self.attention(x, x, x, attn_mask=mask, need_weights=False)[0])
        return head


class Encoder(nn.Module):
    """torch looks at the mask's numbers."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 24, 0.0, batch_first=True)
        self.embed, self.body, self.head = nn.Linear(6, 16), nn.TransformerEncoder(layer, 1), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        head: Tensor = self.head(self.body(self.embed(x), mask=mask))
        return head


class Conv1D(nn.Module):
    """A product that views its output by the width it remembers, as GPT-2's layers do."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.nf, self.weight, self.bias = outputs, parameter(inputs, outputs), parameter(outputs)

    def forward(self, x: Tensor) -> Tensor:
        size = (*x.size()[:-1], self.nf)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(size)


class Block(nn.Module):
    """Attention of such layers, cut at the size that it remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.split_size, self.num_heads, self.norm = 16, 4, nn.LayerNorm(16)
        self.attention, self.proj = Conv1D(16, 48), Conv1D(16, 16)
        self.wide, self.narrow = Conv1D(16, 24), Conv1D(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.attention(self.norm(x)).split(self.split_size, dim=2)
        q, k, v = (part.view(*part.shape[:2], self.num_heads, 4).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        x = x + self.proj(mixed.reshape(*mixed.shape[:2], -1))
        return x + self.narrow(F.gelu(self.wide(x)))


class Sampled(nn.Module):
    """Places that are computed, a size that is left open, and values of a size of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.open = nn.Linear(20, 32), nn.Unflatten(1, (-1, 2, 2))
        self.places, self.conv, self.head = nn.Linear(20, 8), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        images = self.open(self.first(x).relu())
        moved = F.grid_sample(images, self.places(x).view(-1, 2, 2, 2).tanh(), align_corners=False)
        head: Tensor = self.head(self.conv(moved).relu() + images.new_zeros(1))
        return head


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor, dict[str, int]]] = {
    "decoder": (Decoder, IMAGES, {"down": 12, "deep": 16, "last": 10}),
    "products": (Products, ROWS, {"a": 24, "b": 18, "c": 16, "d": 14, "e": 12}),
    "tied": (Tied, ROWS, {"first": 16, "second": 8}),
    "lstm": (lambda: Recurrent(nn.LSTM, num_layers=2), STEPS, {"conv": 16}),
    "gru": (lambda: Recurrent(nn.GRU, bidirectional=True), STEPS, {"conv": 16}),
    "rnn": (lambda: Recurrent(nn.RNN, bias=False), STEPS, {"conv": 16}),
    "cells": (Cells, STEPS, {"embed": 16}),
    "words": (lambda: Words(False), WORDS, {"table": 16, "conv": 10}),
    "bags": (lambda: Words(True), WORDS, {"table": 16, "conv": 10}),
    "unflatten": (Unflattened, ROWS, {"first": 4, "up": 6}),
    "blocks": (
        lambda: nn.Sequential(nn.Linear(6, 16), Block(), nn.Linear(16, 4)),
        STEPS,
        {"1.attention": 4, "1.wide": 24},
    ),
    "sampled": (Sampled, ROWS, {"first": 8, "conv": 6}),
    "autocast": (Mixed, ROWS, {"body.0": 16}),
    "graph": (Graph, STEPS, {"first": 16, "second": 12}),
    "windows": (Windows, IMAGES, {"conv": 6, "wide": 4, "folded": 10}),
    "mask": (lambda: Masked(False), STEPS, {"embed": 16, "attention": 4}),
    "mask as a buffer": (lambda: Masked(True), STEPS, {"embed": 16, "attention": 4}),
    "encoder": (Encoder, STEPS, {"body.layers.0.self_attn": 4, "body.layers.0.linear1": 24}),
}


def searched(model: nn.Module, inputs: Tensor, **how: Any) -> Front:
    how = {"trials": 3, "evaluate": lambda network: 0.0, "batch_removal": (1,), **how}
    # Integers alone would be taken for labels.
    named = inputs if inputs.is_floating_point() else {"words": inputs}
    return autoprune.search(model, calibration=named, **how)


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_found_counted_restored_and_saved(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, inputs, widths = NETWORKS[name]
    model = make().eval()
    graph = find_groups(model, (inputs[:1],))
    assert graph.widths == widths
    plain, restored = (searched(model, inputs, reconstruction=how).trials for how in ("none", "sequential"))
    for before, after in zip(plain, restored, strict=True):
        built = after.build()
        assert count_macs(built, (inputs[:1],)) == after.macs
        # Of a tied weight nothing is refitted.
        assert after.output_error < before.output_error or name == "tied"
    save_plan(tmp_path, built, make_plan(model, graph, after, study="s"), force=True)
    with torch.no_grad():
        assert autoprune.load(make(), tmp_path)(inputs).equal(built(inputs))
    built.train()(inputs).float().square().mean().backward()
    assert all(value.grad is not None for value in built.parameters() if value.requires_grad)


@pytest.mark.parametrize("method", [("casm", {"steps": 3, "batch": 16}), ("joint", {"steps": 2})])
@pytest.mark.parametrize("name", NETWORKS)
def test_parts_are_trained_by_gradients(name: str, method: tuple[str, dict[str, Any]]) -> None:
    make, inputs, _ = NETWORKS[name]
    model = make().eval()
    front = searched(model, inputs, trials=2, reconstruction=method[0], reconstruction_options=method[1])
    for point in front.trials:
        assert count_macs(point.build(), (inputs[:1],)) == point.macs


class Auxiliary(nn.Module):
    """A head of the training mode alone, with a norm that learns nothing from one image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.Linear(12, 4)
        self.side, self.side_norm, self.side_head = nn.Conv2d(12, 8, 1), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.norm(self.conv(x)).relu()
        head = self.head(x.mean((2, 3)))
        if not self.training:
            return head
        return head, self.side_head(self.side_norm(self.side(x)).relu().mean((2, 3)))


class Both(nn.Module):
    """An auxiliary head beside attention whose bias is a table with a column for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.qkv = nn.Linear(6, 24), nn.LayerNorm(24), nn.Linear(24, 72)
        self.out, self.head, self.num_heads = nn.Linear(24, 12), nn.Linear(12, 4), 4
        self.table = nn.Parameter(torch.randn(9, 4))
        self.register_buffer("places", torch.arange(25).reshape(5, 5) % 9)
        self.side, self.gain, self.side_head = nn.Linear(12, 8), nn.Parameter(torch.ones(12)), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Any:
        x = self.norm(self.embed(x))
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, 6).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.places].permute(2, 0, 1).unsqueeze(0)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
        x = self.out(x).relu().mean(1)
        return (self.head(x), self.side_head(self.side(x * self.gain))) if self.training else self.head(x)


def test_what_training_reads_as_well_ties_nothing() -> None:
    model = Both().eval()
    graph = find_groups(model, (STEPS[:1],))
    assert graph.widths == {"qkv": 4, "out": 12}
    built = Slicer(model, graph).build({"qkv": torch.tensor([1, 2]), "out": torch.tensor([0, 3, 4])})
    assert [tuple(output.shape) for output in built.train()(STEPS)] == [(96, 4), (96, 4)]
    assert built.table.shape == (9, 2) and built.gain.equal(model.gain[[0, 3, 4]])


class Branching(Auxiliary):
    """Its training mode cannot be traced."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) if not self.training or x.sum() > 0 else None


def test_what_only_training_reads_is_sliced_and_neither_pruned_nor_counted() -> None:
    model = Auxiliary().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = find_groups(model, (IMAGES[:1],))
    assert graph.widths == {"conv": 12} and [layer.name for layer in graph.layers] == ["conv", "head"]
    assert ("side", "computed in training mode alone") in {(f.name, f.reason) for f in graph.frozen}
    assert all(value.equal(before[name]) for name, value in model.state_dict().items()) and not model.training
    built = Slicer(model, graph).build({"conv": torch.tensor([0, 5, 7])})
    for output in built.train()(IMAGES):
        assert output.shape == (64, 4)
    assert built.side.in_channels == 3 and built.side.out_channels == 8


def test_a_training_mode_that_cannot_be_traced_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert find_groups(Branching().eval(), (IMAGES[:1],)).widths == {"conv": 12}
    assert "side.weight" in caplog.text and "training mode" in caplog.text


class Statistics(nn.Module):
    """A norm of the training mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(20, 12), nn.BatchNorm1d(12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        head: Tensor = self.head(self.norm(x) if self.training else x)
        return head


def test_a_norm_that_only_training_reads_is_sliced() -> None:
    model = Statistics().eval()
    built = Slicer(model, find_groups(model, (ROWS[:1],))).build({"first": torch.tensor([0, 5, 7])})
    assert built.norm.num_features == 3 and built.train()(ROWS).shape == (96, 4)


def test_a_copy_of_a_pruned_attention_is_the_same() -> None:
    model = Encoder().eval()
    graph = find_groups(model, (STEPS[:1],))
    built = Slicer(model, graph).build({"body.layers.0.self_attn": torch.tensor([0, 2])}).eval()
    with torch.no_grad():
        assert copy.deepcopy(built)(STEPS).equal(built(STEPS))


class Low(nn.Module):
    """All layers run in mixed precision of the forward's own."""

    def __init__(self) -> None:
        super().__init__()
        widths = (20, 12, 8, 10, 4)
        layers = [nn.Linear(before, after) for before, after in pairwise(widths)]
        self.body = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            body: Tensor = self.body[:-1](x)
        return body.float()


@pytest.mark.parametrize("seed", range(3))
def test_fits_do_not_take_the_precision_of_the_forward(seed: int) -> None:
    torch.manual_seed(seed)
    how = {"trials": 1, "strategy_options": {"targets": (0.95,), "draws": 1}}
    # 2e-4 to 1.3e-3, of rounding; 5e-2 to 5e-1 by a fit in bfloat16.
    assert searched(Low().eval(), ROWS, **how).trials[0].output_error < 5e-3


def test_layers_behind_a_recurrent_one_are_trained() -> None:
    model = Recurrent(nn.LSTM).eval()
    bench = make_bench(model, STEPS)
    kept = {"conv": torch.arange(9)}
    trace = record_trace(Slicer(model, bench.graph).build(kept).eval(), bench.graph.layers, bench.chunks[0])
    assert [layer.name for layer in restorable(bench, trace, kept)] == ["head"]


class Singles(nn.Module):
    """Layers that are called for one sample after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 6, 2)
        self.rnn, self.head = nn.GRU(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = [self.up(self.conv(image).relu()).flatten(1).mT for image in x.unbind()]
        return torch.stack([self.head(self.rnn(row)[0][-1]) for row in rows])


def test_layers_without_a_batch_are_sliced_and_not_refitted() -> None:
    model = Singles().eval()
    assert find_groups(model, (IMAGES[:1],)).widths == {"conv": 8, "up": 6}
    for point in searched(model, IMAGES[:8]).trials:
        built = point.build()
        assert count_macs(built, (IMAGES[:1],)) == point.macs
        assert built.up.weight.equal(model.up.weight[point.kept["conv"]][:, point.kept["up"]])


class Locked(Decoder):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Remembering(Decoder):
    def __init__(self, hook: bool) -> None:
        super().__init__()
        if hook:
            self.down.register_forward_hook(lambda module, inputs, output: setattr(self, "seen", output))
        else:
            self.inner = lambda x: self.down(x)


@pytest.mark.parametrize(
    ("model", "said"),
    [(Locked(), "deepcopy"), (Remembering(False), "'inner'"), (Remembering(True), "'down._forward_hooks'")],
)
def test_a_model_whose_copy_would_not_be_one_is_refused(model: nn.Module, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        searched(model.eval(), IMAGES)


class Outputs(nn.Module):
    """Steps before images, and complex numbers, beside rows of images."""

    def __init__(self, complex_numbers: bool) -> None:
        super().__init__()
        self.first, self.second, self.beside = nn.Linear(20, 24), nn.Linear(24, 8), nn.Linear(20, 2)
        self.complex_numbers = complex_numbers

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = self.second(self.first(x).relu()).view(-1, 4, 2)
        steps = torch.view_as_complex(found) if self.complex_numbers else found.transpose(0, 1)
        return {"steps": steps, "beside": self.beside(x)}


@pytest.mark.parametrize("complex_numbers", [True, False])
def test_every_output_counts(complex_numbers: bool) -> None:
    front = searched(Outputs(complex_numbers).eval(), ROWS, reconstruction="none")
    assert all(point.output_error > 0 for point in front.trials)
