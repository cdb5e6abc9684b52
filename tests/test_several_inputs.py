"""A network of two inputs goes the whole way: search, build, evaluate, save and load, export."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from typer.testing import CliRunner

import autoprune
from autoprune.cli import app

MODULE = '''
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset


class Pair(nn.Module):
    """An image and a vector."""

    def __init__(self):
        super().__init__()
        self.image, self.vector = nn.Conv2d(1, 8, 3), nn.Linear(4, 8)
        self.both, self.head = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, image, vector):
        found = torch.relu(self.image(image)).mean((2, 3)) + torch.relu(self.vector(vector))
        return self.head(torch.relu(self.both(found)))


def make():
    torch.manual_seed(0)
    return Pair()


class Samples(Dataset):
    """Inputs as a tuple or a dict, with the answers of the network itself as labels."""

    def __init__(self, count, keywords, labelled, seed):
        generator = torch.Generator().manual_seed(seed)
        self.image = torch.randn(count, 1, 6, 6, generator=generator)
        self.vector = torch.randn(count, 4, generator=generator)
        self.keywords, self.labelled = keywords, labelled
        with torch.no_grad():
            self.labels = make()(self.image, self.vector).argmax(1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        pair = (self.image[index], self.vector[index])
        pair = dict(zip(("image", "vector"), pair)) if self.keywords else pair
        return (pair, self.labels[index]) if self.labelled else pair


def tuples(config):
    return Samples(64, False, False, 1), Samples(40, False, True, 2), Samples(40, False, True, 3)


def dicts(config):
    return Samples(64, True, False, 1), Samples(40, True, True, 2), Samples(40, True, True, 3)
'''
STUDY = """
name = "pair"
storage = "pair-KIND.journal"
[model]
factory = "two_inputs:make"
[data]
dataset = "two_inputs:KIND"
[search]
trials = 4
caps = { "vector" = 0.5 }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place, before = tmp_path_factory.mktemp("pair"), Path.cwd()
    (place / "two_inputs.py").write_text(MODULE)
    os.chdir(place)
    sys.path.insert(0, str(place))
    yield place
    sys.path.remove(str(place))
    os.chdir(before)


@pytest.mark.parametrize("kind", ["tuples", "dicts"])
def test_a_study_of_two_inputs_goes_the_whole_way(folder: Path, kind: str) -> None:
    (folder / f"{kind}.toml").write_text(STUDY.replace("KIND", kind))

    def run(*args: str) -> dict[str, object]:
        result = CliRunner().invoke(app, [args[0], f"{kind}.toml", *args[1:], "--json", "-q"])
        assert result.exit_code == 0, result.output
        found: dict[str, object] = json.loads(result.stdout)
        return found

    assert run("groups")["groups"]
    front = run("search")["front"]
    assert isinstance(front, list) and all(point["rates"]["image"] <= 0.5 for point in front)
    built = run("build", "--macs", "0.9", "--out", f"{kind}-pruned")
    assert run("evaluate", "--plan", f"{kind}-pruned")["accuracy"] == built["accuracy"]
    assert run("evaluate", "--plan", f"{kind}-pruned", "--split", "test")["images"] == 40
    to = "onnx" if kind == "dicts" else "pt2"
    assert run("export", "--plan", f"{kind}-pruned", "--to", to, "--out", f"{kind}.{to}")["bytes"]


def test_the_ways_to_give_two_inputs_are_the_same(folder: Path) -> None:
    import two_inputs

    found: dict[str, Dataset[object]] = {
        kind: two_inputs.Samples(64, kind == "dicts", True, 1) for kind in ("tuples", "dicts")
    }
    samples = two_inputs.Samples(64, False, True, 1)
    loaders = [DataLoader(found["tuples"], 16), DataLoader(found["dicts"], 16)]
    loaders.append(DataLoader(TensorDataset(samples.image, samples.vector, samples.labels), 16))
    calibrations = [[(samples.image, samples.vector)], {"image": samples.image, "vector": samples.vector}]
    fronts = [
        autoprune.search(two_inputs.make(), calibration=calibration, validation=loader, trials=3)
        for calibration, loader in zip([*calibrations, calibrations[0]], loaders, strict=True)
    ]
    assert len({tuple((p.accuracy, p.macs) for p in front.trials) for front in fronts}) == 1
    assert fronts[0].dense.accuracy == 1.0


class Counts(nn.Module):
    """The second input is a vector of whole numbers, one per sample."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.table = nn.Linear(6, 8), nn.Embedding(5, 8)
        self.second, self.head = nn.Linear(8, 9), nn.Linear(9, 3)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        head: Tensor = self.head(torch.relu(self.second(self.first(x) * self.table(kind))))
        return head


def test_a_vector_of_whole_numbers_is_an_input_where_labels_stand_apart() -> None:
    torch.manual_seed(0)
    model, x, kind = Counts(), torch.randn(32, 6), torch.randint(5, (32,))
    validation = [((x, kind), model(x, kind).argmax(1))]
    front = autoprune.search(model, calibration={"x": x, "kind": kind}, validation=validation, trials=2)
    assert front.dense.accuracy == 1.0 and front.trials
