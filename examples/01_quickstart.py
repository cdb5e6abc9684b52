"""Your own network and data in ten lines: a small convolutional network on scikit-learn's digits.

    python examples/01_quickstart.py          # half a minute; --smoke: seconds
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import autoprune

smoke = "--smoke" in sys.argv
torch.manual_seed(0)


def train(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()


# Yours: a trained network, and images it was not trained on.
digits = load_digits()
images, labels = torch.tensor(digits.images).float()[:, None] / 16, torch.tensor(digits.target)
model = nn.Sequential(
    *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten()),
    *(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)),
)
train(model, images[:1000], labels[:1000], epochs=1 if smoke else 15)
unseen = DataLoader(TensorDataset(images[1000:], labels[1000:]), batch_size=256)

# autoprune: calibration images need no labels, validation judges the candidates.
trials = 3 if smoke else 30
front = autoprune.search(model, calibration=images[: 32 if smoke else 512], validation=unseen, trials=trials)
print(f"dense: {front.metric.shown(front.dense.accuracy)} at {front.dense.macs:,} MACs")
for point in front:
    print(f"{front.metric.shown(point.accuracy)} at {point.macs_ratio:.0%} of the MACs")
small = front.best(macs=0.5).build()
print(small)
