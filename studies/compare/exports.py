"""Whether exports of pruned networks compute what PyTorch computes.

    python studies/compare/exports.py [NAME ...]

torchvision networks with random weights and random batch-norm statistics at 224 px are brought to about 60 %
of their MACs by one rate for all groups and the L1 criterion, without images, and exported with a free batch
size. A network is written in each format, read back in its runtime (ONNX Runtime for ONNX) and compared on
batches of 1 and 8 random images: the largest difference of any output over the largest output. "load" is the
same for plan.json and weights.safetensors, loaded onto a fresh instance by autoprune.load. Prints a Markdown
table, and ends with exit code 1 when a network disagrees.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

import autoprune
from autoprune.calibration.statistics import Statistics
from autoprune.criteria import L1Norm, group_view
from autoprune.data.inputs import Inputs
from autoprune.errors import ExportError
from autoprune.exporting import FORMATS, export
from autoprune.exporting.agreement import differences, samples
from autoprune.exporting.base import output_tensors
from autoprune.exporting.exported import CHECKED
from autoprune.graph import ChannelGraph, CostModel, Slicer, find_groups
from autoprune.plan import make_plan, save_plan
from autoprune.searching.front import Point
from autoprune.searching.space import Space, make_space
from autoprune.searching.strategies.uniform import scaled_rates

NETWORKS = ["resnet18", "mobilenet_v2", "densenet121", "shufflenet_v2_x1_0", "efficientnet_b0", "vit_b_16"]
SHARE = 0.6
PIXELS = 224
HEADER = (
    "| network | MACs | outputs up to | onnx 1 | onnx 8 | pt2 1 | pt2 8 | state dict | load | seconds |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)

Kept = dict[str, Tensor]


def make(name: str, images: Tensor) -> nn.Module:
    """Random weights whose outputs vary: no last layer of zeros, batch norms that have seen images."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.Linear) and not bool(module.weight.any()):
            nn.init.normal_(module.weight, std=0.02)
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def uniform(model: nn.Module, graph: ChannelGraph, example: Tensor) -> tuple[Space, np.ndarray]:
    """The least uniform rate that meets the share of MACs, as widths."""
    cost = CostModel(model, graph, (example,))
    space = make_space(graph, cost, min_kept=0.05, budget={"macs": SHARE})
    counts = scaled_rates(space, np.ones(len(space.names)), 1.0)
    assert counts is not None
    return space, counts


def largest(model: nn.Module, graph: ChannelGraph, space: Space, counts: np.ndarray) -> Kept:
    """The channels of largest L1 norm."""
    unseen, widths, kept = Statistics({}, 0.0, 0), space.widths(counts), {}
    for group in graph.groups:
        order = L1Norm().order(group_view(model, graph, unseen, group, 0), 1)
        kept[group.name] = order[len(order) - widths[group.name] :].sort().values
    return kept


def plan_point(space: Space, counts: np.ndarray, kept: Kept) -> Point:
    costs = {name: int(value[0]) for name, value in space.costs(counts[None]).items()}
    ratios = {
        "macs_ratio": costs["macs"] / space.cost.dense_macs,
        "params_ratio": costs["params"] / space.cost.dense_params,
    }
    return Point(
        trial=0, **costs, **ratios, accuracy=0.0, accuracy_before_reconstruction=None, output_error=0.0,
        widths=space.widths(counts), rates=space.rates(counts), batch_removal=1, criterion="l1", kept=kept,
    )


def loaded(name: str, model: nn.Module, graph: ChannelGraph, network: nn.Module, point: Point) -> nn.Module:
    """The network by way of the two files of `autoprune build` and a fresh instance."""
    with tempfile.TemporaryDirectory() as folder:
        save_plan(folder, network, make_plan(model, graph, point, study="exports"))
        return autoprune.load(torchvision.models.get_model(name, weights=None), folder)


def row(name: str, images: Tensor) -> tuple[str, bool]:
    """One line of the table, and whether everything agrees."""
    start = time.perf_counter()
    model = make(name, images)
    graph = find_groups(model, (images[:1],))
    space, counts = uniform(model, graph, images[:1])
    point = plan_point(space, counts, largest(model, graph, space, counts))
    network = Slicer(model, graph).build(point.kept).eval()
    cells, agree = exported(network, images)
    again = loaded(name, model, graph, network, point)
    batches = [samples(Inputs((images,)), size) for size in CHECKED]
    load = max(differences(network, lambda inputs: output_tensors(inputs.call(again)), batches).values())
    with torch.no_grad():
        scale = float(network(images).abs().max())
    seconds = time.perf_counter() - start
    cells = [name, f"{point.macs_ratio:.1%}", f"{scale:.2g}", *cells, f"{load:.1e}", f"{seconds:.0f}"]
    return f"| {' | '.join(cells)} |", agree and load == 0


def exported(network: nn.Module, images: Tensor) -> tuple[list[str], bool]:
    """Differences per format and batch size (the state dict's largest only), or why there is no file."""
    cells, agree = [], True
    with tempfile.TemporaryDirectory() as folder:
        for to, form in FORMATS.items():
            try:
                found = export(network, images, Path(folder) / f"network{form.suffix}", to).differences
            except ExportError as error:
                print(error, file=sys.stderr)
                found, agree = dict.fromkeys(CHECKED, float("nan")), False
            values = [max(found.values())] if to == "state-dict" else [found[size] for size in CHECKED]
            cells += [f"{value:.1e}" for value in values]
    return cells, agree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="torchvision networks")
    names = parser.parse_args().names or NETWORKS
    images = torch.randn(max(CHECKED), 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(1))
    print(HEADER)
    agreed = []
    for name in names:
        line, agree = row(name, images)
        print(line, flush=True)
        agreed.append(agree)
    sys.exit(0 if all(agreed) else 1)


if __name__ == "__main__":
    main()
