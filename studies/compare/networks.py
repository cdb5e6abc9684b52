"""What can be pruned in which network: groups, what is frozen and why, least MACs, and rule 1.

    python studies/compare/networks.py [--exhaustive] [NAME ...]

For each network: channel groups are found (torch.export included), rule 1 is checked in float64 with
randomised batch-norm statistics, and the cost model is compared with counted MACs of a sliced network.
Prints a Markdown table; without names, the networks of the README.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import torch
import torchvision
from torch import nn

from autoprune.graph import ChannelGraph, CostModel, Slicer, check_groups, count_macs, find_groups

NETWORKS = [
    "resnet18", "resnet50", "resnext50_32x4d", "vgg16_bn", "alexnet", "mobilenet_v2", "mobilenet_v3_small",
    "mobilenet_v3_large", "densenet121", "densenet201", "googlenet", "inception_v3", "squeezenet1_1",
    "shufflenet_v2_x1_0", "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf", "mnasnet1_0",
    "convnext_tiny", "vit_b_16", "swin_t", "maxvit_t", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large",
]


def make(name: str) -> nn.Module:
    """The torchvision network with random weights, in eval mode."""
    torch.manual_seed(0)
    options = {"weights": None}
    if name in ("deeplabv3_resnet50", "lraspp_mobilenet_v3_large"):
        options["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = True
    return torchvision.models.get_model(name, **options).eval()


def row(name: str, exhaustive: bool) -> str:
    """One line of the table."""
    model, example = make(name), torch.randn(1, 3, *(2 * [299 if name == "inception_v3" else 224]))
    start = time.perf_counter()
    graph = find_groups(model, (example,))
    found = time.perf_counter() - start
    report = check_groups(model, graph, (example,), exhaustive=exhaustive)
    least, exact = least_macs(model, graph, example)
    reasons = Counter(short(group.reason) for group in graph.frozen)
    frozen = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    verdict = "holds" if report.ok else f"fails for {len(report.failed)}"
    macs = "exact" if exact else "WRONG"
    return f"| {name} | {len(graph.groups)} | {frozen} | {found:.1f} | {verdict} | {macs} | {least:.1%} |"


def least_macs(model: nn.Module, graph: ChannelGraph, example: torch.Tensor) -> tuple[float, bool]:
    """Share of MACs left with one channel a group, and whether half widths cost what is counted."""
    cost = CostModel(model, graph, (example,))
    half = {group.name: torch.arange(max(1, group.width // 2)) for group in graph.groups}
    counted = count_macs(Slicer(model, graph).build(half), (example,))
    modelled = cost.macs({name: len(kept) for name, kept in half.items()})
    return cost.macs({group.name: 1 for group in graph.groups}) / cost.dense_macs, counted == modelled


def short(reason: str) -> str:
    """The operator or cause, without the place."""
    return reason.split(" in '")[0].split(":")[0].removeprefix("aten.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=NETWORKS)
    parser.add_argument("--exhaustive", action="store_true", help="check every group alone, too")
    options = parser.parse_args()
    print("| network | groups | frozen (reason and count) | seconds to find | rule 1 | MACs | least MACs |")
    print("|---|---|---|---|---|---|---|")
    for name in options.names:
        print(row(name, options.exhaustive), flush=True)


if __name__ == "__main__":
    main()
