"""Small networks, each with one way of moving channels around."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int = 3, **options: int | bool) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)  # type: ignore[arg-type]


class Residual(nn.Module):
    """Stem and block end in one sum; the block has a hidden width of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = conv(3, 8, bias=False), nn.BatchNorm2d(8)
        self.first, self.second = conv(8, 12), conv(12, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.second(F.relu(self.first(x)))
        head: Tensor = self.head(x.mean((2, 3)))
        return head


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.join = conv(3, 6), conv(3, 10), conv(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.join(F.relu(torch.cat([self.left(x), self.right(x)], dim=1)))
        return joined


class Depthwise(nn.Module):
    """A depthwise convolution with two outputs per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.depth, self.last = conv(3, 6), conv(6, 12, groups=6), conv(12, 4, 1)
        self.norm = nn.BatchNorm2d(12)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.last(F.hardswish(self.norm(self.depth(self.first(x)))))
        return last


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = conv(3, 12), conv(12, 8, groups=2), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.last(F.relu(self.middle(F.relu(self.first(x)))))
        return last


class Shuffle(nn.Module):
    """Chunk, a convolution on one half, shuffle by run-time sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.last = conv(3, 16), conv(8, 8), conv(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        left, right = F.relu(self.first(x)).chunk(2, dim=1)
        x = torch.cat([left, self.branch(right)], dim=1)
        batch, channels, height, width = x.shape
        x = (
            x.view(batch, 2, channels // 2, height, width)
            .transpose(1, 2)
            .reshape(batch, channels, height, width)
        )
        last: Tensor = self.last(x)
        return last


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.down, self.up, self.last = conv(3, 8), conv(8, 4, 1), conv(4, 8, 1), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.first(x))
        scale = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        last: Tensor = self.last(x * scale.sigmoid())
        return last


class FlattenLinear(nn.Module):
    """`by` is how the forward flattens: a run-time size, or one that is written down."""

    def __init__(self, by: Callable[[Tensor], Tensor] = lambda x: x.flatten(1)) -> None:
        super().__init__()
        self.first, self.second, self.hidden, self.head = (
            conv(3, 8),
            conv(8, 8),
            nn.Linear(8 * 4, 10),
            nn.Linear(10, 5),
        )
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.second(F.relu(self.first(x))), 4)
        head: Tensor = self.head(F.relu(self.hidden(self.by(x))))
        return head


class PaddedShortcut(nn.Module):
    """The CIFAR ResNets' shortcut without weights: half the new channels are zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.head = conv(3, 8), conv(8, 16, stride=2), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.down(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        head: Tensor = self.head(F.avg_pool2d(x, x.shape[3]).view(x.shape[0], -1))
        return head


class PixelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.up, self.last = conv(3, 8), nn.PixelShuffle(2), conv(2, 3)
        self.down, self.code = nn.PixelUnshuffle(2), conv(12, 4)
        self.wide, self.final = conv(4, 12), conv(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.up(self.first(x)))
        x = self.up(self.wide(F.relu(self.code(self.down(x)))))
        final: Tensor = self.final(x)
        return final


class Tied(nn.Module):
    """One convolution applied twice, with a norm of its own each time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = conv(3, 8), conv(8, 8), conv(8, 4)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8)])

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        for norm in self.norms:
            x = F.relu(norm(self.shared(x)))
        last: Tensor = self.last(x)
        return last


class TiedNames(nn.Module):
    """Two modules that hold the same parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right, self.last = conv(3, 8), conv(8, 8), conv(8, 8), conv(8, 4)
        self.right.weight = self.left.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        last: Tensor = self.last(F.relu(self.right(F.relu(self.left(x)))))
        return last


class Scaled(nn.Module):
    """Parameters and buffers used directly: a layer scale, a shift that is no parameter, a PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last = conv(3, 8), nn.PReLU(8), conv(8, 4)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.register_buffer("shift", torch.rand(8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x)) * self.scale + self.shift.view(1, -1, 1, 1)
        last: Tensor = self.last(x)
        return last


class OneChannel(nn.Module):
    """A one-channel convolution is not depthwise; its map scales every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.again, self.last = conv(3, 8), conv(8, 1), conv(1, 1), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        last: Tensor = self.last(x * self.again(self.gate(x)).sigmoid())
        return last


class Normed(nn.Module):
    """A norm over channels between two convolutions."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.last = conv(3, 8), norm, conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.last(self.norm(self.first(x)))
        return last


class ChannelsLast(nn.Module):
    """An inverted MLP over the last dimension with a layer norm on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = conv(3, 8), nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.down(F.gelu(self.up(self.norm(x.permute(0, 2, 3, 1))))).permute(0, 3, 1, 2)
        return x.mean((2, 3))


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.last(torch.cdist(self.first(x), x.mean(1, keepdim=True).expand(-1, 8, -1, -1)))
        return last


class Upward(nn.Module):
    """Transposed convolutions, plain and depthwise."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.up = conv(3, 8), nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.depth, self.last = nn.ConvTranspose2d(6, 6, 2, stride=2, groups=6), conv(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.last(F.relu(self.depth(F.relu(self.up(self.first(x))))))
        return last


class Sequence(nn.Module):
    """One-dimensional convolutions, instance norm, glu."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(3, 8, 3, padding="same"), nn.InstanceNorm1d(8, affine=True)
        self.gate, self.last = nn.Conv1d(8, 12, 1), nn.Conv1d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.last(F.glu(self.gate(self.norm(self.first(x))), dim=1))
        return last


class Unequal(nn.Module):
    """Channels cut into unequal parts: nothing to prune before the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = conv(3, 10), conv(4, 6), conv(6, 6)
        self.last = conv(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).split([4, 6], dim=1)
        last: Tensor = self.last(F.relu(self.left(left) + self.right(right)))
        return last


class Halves(nn.Module):
    """Two slices that together are the whole count as a chunk; a single slice does not."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.first, self.last, self.whole = conv(3, 8), conv(4, 4), whole

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        half = x.shape[1] // 2
        parts = x[:, :half] + x[:, half:] if self.whole else x[:, :half]
        last: Tensor = self.last(parts)
        return last


class Outputs(nn.Module):
    """Inputs by keyword and in a dict; outputs in a dict and a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.extra, self.last = conv(3, 8), nn.Linear(4, 8), conv(8, 4)

    def forward(self, batch: dict[str, Tensor], *, extra: Tensor) -> dict[str, object]:
        x = F.relu(self.image(batch["image"]) + self.extra(extra)[:, :, None, None])
        last = self.last(x)
        return {"map": last, "pair": (last.mean((2, 3)), x.amax((1, 2, 3)) * 0)}


class Hidden(nn.Module):
    """A plain MLP on vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class FrozenNorm(nn.Module):
    """A batch norm in plain arithmetic, with buffers on the way, in an unusual class of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(3, 8, bias=False), conv(8, 4)
        for name in ("mean", "var", "weight", "bias"):
            self.register_buffer(name, torch.rand(8) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.var + 1e-5).rsqrt()
        x = self.first(x) * scale.reshape(1, -1, 1, 1) + (self.bias - self.mean * scale).reshape(1, -1, 1, 1)
        last: Tensor = self.last(F.relu_(x))
        return last


class ComputedWeight(nn.Module):
    """Weight standardisation: the convolution's weight is computed in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = conv(3, 8), conv(8, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.middle.weight - self.middle.weight.mean((1, 2, 3), keepdim=True)
        x = F.conv2d(F.relu(self.first(x)), weight, self.middle.bias, padding=1)
        last: Tensor = self.last(x)
        return last


class Roll(nn.Module):
    """Moves along space, which are free, then along channels, which are not."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.last, self.dim = conv(3, 8), conv(8, 4), dim

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x)).roll(2, self.dim).flip(3)
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, ::2]
        x = torch.stack([x, x * 2], dim=2).unbind(2)[1]
        last: Tensor = self.last(F.interpolate(x, scale_factor=2.0, mode="bilinear"))
        return last


class Written(nn.Module):
    """Writes channels into a tensor of constants."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(3, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(x.shape[0], 8, *x.shape[2:])
        y[:, :, 1:] = self.first(x)[:, :, 1:]
        last: Tensor = self.last(y)
        return last


class Mixer(nn.Module):
    """A linear map along space: it cannot be cut while channels run along another dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tokens, self.last = conv(3, 8), nn.Linear(64, 64), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        last: Tensor = self.last(self.tokens(x.flatten(2)).view(x.shape))
        return last
