"""The comparisons are scripts: they import their neighbours by name, as Python finds them when one is run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "studies" / "compare"))

NETWORK = """
from torch import nn


def make() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 10)
    )
"""
STUDY = """
name = "tiny"
storage = "tiny.journal"
[model]
factory = "compared_network:make"
[data]
dataset = "digits"
[search]
batch_removal = [1]
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study that is measured in a second: an untrained network on a few digits."""
    (tmp_path / "compared_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY)
    return path
