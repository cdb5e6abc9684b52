"""A vision transformer: torchvision's, small, on scikit-learn's digits.

    python examples/05_vision_transformer.py  # some minutes on one core; --smoke: seconds
"""

import torch
from common import SEED, against_uniform, few, fit, show
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torchvision.models import VisionTransformer

import autoprune
from autoprune.searching.metrics import Accuracy


def moved(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Every image several times, enlarged, at a random place and with noise."""
    images, labels = images[: few(len(images))].repeat(5, 3, 1, 1), labels[: few(len(labels))].repeat(5)
    images = interpolate(images, scale_factor=2.0, mode="bilinear")
    shifts = torch.randint(-3, 4, (len(images), 2)).tolist()
    images = torch.stack([image.roll(shift, (1, 2)) for image, shift in zip(images, shifts, strict=True)])
    return images + 0.15 * torch.randn_like(images), labels


digits = load_digits()
order = torch.randperm(len(digits.images))
images, labels = torch.tensor(digits.images).float()[order, None] / 16, torch.tensor(digits.target)[order]
model = VisionTransformer(
    image_size=16, patch_size=4, num_layers=4, num_heads=4, hidden_dim=48, mlp_dim=288, num_classes=10
)
nn.init.normal_(model.heads.head.weight, std=0.02)
inputs, targets = moved(images[:1000], labels[:1000])
fit(model, inputs, targets, cross_entropy, epochs=20)

options = {"calibration": inputs[: few(1024)], "validation": [moved(images[1000:1400], labels[1000:1400])]}
front = autoprune.search(model, **options, trials=few(30, 2), seed=SEED)
show(front)
test = Accuracy([moved(images[1400:], labels[1400:])], torch.device("cpu"))
against_uniform(model, front, test, **options)
