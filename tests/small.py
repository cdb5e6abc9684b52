"""Small random networks, one per way of moving channels, and calibrated benches of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.calibration.statistics import calibrate
from autoprune.data.inputs import Inputs
from autoprune.graph import ChannelGraph, ChannelGroup, Role, find_groups
from autoprune.reconstruction import Bench

torch.set_num_threads(1)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """A block on the identity, then one with a convolution in its shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.a1, self.a2 = conv(8, 6), conv(6, 8)
        self.b1, self.b2, self.down = conv(8, 10, stride=2), conv(10, 12), conv(8, 12, 1, stride=2)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.a2(F.relu(self.a1(x))))
        out = self.b2(F.relu(self.b1(x)))
        out += self.down(x)
        head: Tensor = self.head(F.relu(out).mean((2, 3)))
        return head


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.join = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 8, 3), nn.Conv2d(14, 7, 3)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        joined = F.relu(self.join(F.relu(torch.cat([self.left(x), self.right(x)], 1))))
        head: Tensor = self.head(joined.mean((2, 3)))
        return head


class Tokens(nn.Module):
    """Linear layers on (batch, tokens, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 12), nn.Linear(12, 9), nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        head: Tensor = self.head(F.gelu(self.second(F.gelu(self.first(x)))).mean(1))
        return head


class Heads(nn.Module):
    """Attention on (batch, tokens, features), with a residual sum and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(12), nn.MultiheadAttention(12, 4, batch_first=True)
        self.first, self.second, self.head = nn.Linear(12, 10), nn.Linear(10, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.second(F.gelu(self.first(x)))
        head: Tensor = self.head(x.mean(1))
        return head


def chain() -> nn.Module:
    return nn.Sequential(
        conv(3, 8),
        nn.ReLU(),
        conv(8, 10),
        nn.ReLU(),
        nn.Conv2d(10, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3),
        nn.ReLU(),
        nn.Conv2d(12, 8, 3, groups=2),
        nn.ReLU(),
        nn.Conv2d(8, 5, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def separable() -> nn.Module:
    return nn.Sequential(
        conv(3, 8),
        nn.ReLU6(),
        conv(8, 8, groups=8),
        nn.ReLU6(),
        conv(8, 10, 1),
        nn.ReLU6(),
        conv(10, 10, stride=2, groups=10),
        nn.ReLU6(),
        conv(10, 5, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def flattened() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(24, 9),
        nn.ReLU(),
        nn.Linear(9, 5),
    )


def signal() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 8, 3, padding="same"),
        nn.ReLU(),
        nn.Conv1d(8, 7, 3, stride=2, dilation=2),
        nn.ReLU(),
        nn.Conv1d(7, 5, 1),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
    )


@dataclass(frozen=True)
class Small:
    factory: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 8, 8)

    def images(self, count: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        # Smooth enough that channels overlap, as those of real images do.
        return torch.randn(count, *self.shape, generator=generator, dtype=torch.float64).cumsum(-1).to(dtype)

    def model(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.factory()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = None
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.uniform_(module.bias, -0.5, 0.5)
            with torch.no_grad():
                model.train()(self.images(32, seed=99))
        return model.to(dtype).eval()


NETWORKS: Mapping[str, Small] = {
    "chain": Small(chain),
    "residual": Small(Residual),
    "concat": Small(Concat),
    "grouped": Small(grouped),
    "separable": Small(separable),
    "flattened": Small(flattened),
    "tokens": Small(Tokens, (5, 6)),
    "signal": Small(signal, (3, 16)),
    "heads": Small(Heads, (5, 12)),
}


_GRAPHS: dict[str, ChannelGraph] = {}


def graph_of(model: nn.Module, image: Tensor) -> ChannelGraph:
    """Channel groups; found once per architecture, for they do not depend on the weights."""
    key = f"{model}{tuple(image.shape)}"
    if key not in _GRAPHS:
        _GRAPHS[key] = find_groups(model, (image,))
    return _GRAPHS[key]


def make_bench(
    model: nn.Module, images: Tensor, *, chunks: int = 1, damping: float = 1e-6, positions: int | None = None
) -> Bench:
    """A calibrated bench that looks at every position, unless `positions` per image are given."""
    graph = graph_of(model, images[:1])
    parts = [Inputs((part,)) for part in images.chunk(chunks)]
    consumers = {layer.name: layer for group in graph.groups for layer in graph.consumers(group)}
    layers = [layer for layer in graph.layers if layer.name in consumers]
    statistics = calibrate(model, layers, parts, damping=damping, positions_per_image=positions)
    return Bench(model, graph, statistics, parts, damping, positions)


def random_kept(graph: ChannelGraph, share: float = 0.6, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        group.name: torch.randperm(group.width, generator=generator)[: max(1, int(group.width * share))]
        .sort()
        .values
        for group in graph.groups
    }


@torch.no_grad()
def duplicate_channel(model: nn.Module, group: ChannelGroup, source: int, copy: int) -> None:
    """Make channel `copy` of the group compute exactly what `source` computes, wherever it is produced."""
    state = model.state_dict()
    for member in group.members:
        if member.role is not Role.CONSUMER:
            rows = state[member.tensor].index_select(member.dim, member.positions[source])
            state[member.tensor].index_copy_(member.dim, member.positions[copy], rows)


@torch.no_grad()
def relative_error(network: nn.Module, dense: nn.Module, images: Tensor) -> float:
    wanted = dense(images)
    return float((network(images) - wanted).square().sum() / wanted.square().sum())
