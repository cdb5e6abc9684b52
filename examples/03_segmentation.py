"""Semantic segmentation: a small U-shaped network on images of coloured shapes, judged by mean IoU.

    python examples/03_segmentation.py        # some minutes on one core; --smoke: seconds
"""

import torch
from common import SEED, against_uniform, few, fit, show
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

import autoprune
from autoprune.searching.metrics import MeanIoU


def shapes(count: int, size: int = 32) -> tuple[Tensor, Tensor]:
    """Noisy images with a disc, a square and a cross, and the class of every pixel (0: background)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    images, masks = 0.4 * torch.rand(count, 3, 1, 1).expand(-1, -1, size, size), torch.zeros(1).long()
    for label in (1, 2, 3):
        cy, cx, r = (torch.randint(a, b, (count, 1, 1)) for a, b in ((5, 27), (5, 27), (3, 8)))
        dy, dx = (y - cy).abs(), (x - cx).abs()
        cross = ((dy < 2) | (dx < 2)) & (dy + dx < 2 * r)
        inside = (dy**2 + dx**2 <= r**2, (dy < r) & (dx < r), cross)[label - 1]
        images = torch.where(inside[:, None], torch.rand(count, 3, 1, 1), images)
        masks = torch.where(inside, label, masks)
    return images + 0.1 * torch.randn(count, 3, size, size), masks


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.high, self.middle = block(3, 16), nn.Sequential(block(16, 32, 2), block(32, 32))
        self.low = nn.Sequential(block(32, 64, 2), block(64, 64))
        self.up, self.last, self.head = block(96, 32), block(48, 16), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """A dict with the scores as "out", as torchvision's segmentation networks give it."""
        high = self.high(x)
        middle = self.middle(high)
        up = self.up(torch.cat([interpolate(self.low(middle), scale_factor=2.0), middle], 1))
        return {"out": self.head(self.last(torch.cat([interpolate(up, scale_factor=2.0), high], 1)))}


model, (images, masks) = UNet(), shapes(few(2000))
fit(model, images, masks, lambda output, target: cross_entropy(output["out"], target), epochs=10)

options = {"calibration": images[:256], "validation": [shapes(few(400))], "metric": "mean-iou"}
front = autoprune.search(model, **options, trials=few(30, 2), seed=SEED)
show(front)
against_uniform(model, front, MeanIoU([shapes(few(1000))], torch.device("cpu")), **options)
