"""Which networks reach 60 % of their MACs: all of torchvision's classification models, 60 of timm's.

    python studies/compare/zoo.py --out zoo.jsonl [--timeout 300] [--again] [NAME ...]
    python studies/compare/zoo.py --out zoo.jsonl --table

Each model (random weights) has a process and a time limit of its own: groups are found, rule 1 is checked
on all of them together, as before a search, in float64, and what fails is frozen; uniform widths bring the
MACs to at most 60 %; the network is sliced and run, its MACs are counted and compared with the cost model.
One JSON line per model; models that the file holds are not measured again, except those that failed with
`--again`. Networks above 6 G MACs are checked on smaller images where they accept any (column "checked at").
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from autoprune.graph import ChannelGraph, CostModel, Slicer, check_groups, count_macs, find_groups
from autoprune.graph.check import without

SHARE = 0.6
LARGE_MACS = 6_000_000_000
SMALL_SIDE = 96

TIMM = [
    "resnet18d", "resnet26t", "resnetblur50", "seresnet50", "ecaresnet26t", "skresnet18", "resnest14d",
    "res2net50_26w_4s", "resnetrs50", "resnetv2_50", "resnext26ts", "gcresnet33ts", "cspresnet50",
    "cspdarknet53", "dla34", "hrnet_w18_small", "vovnet39a", "selecsls42b", "xception41",
    "inception_v4", "inception_resnet_v2", "dpn68", "nf_resnet50", "tresnet_m", "repvgg_a0",
    "regnetz_b16", "efficientnet_lite0", "tf_efficientnetv2_b0", "fbnetc_100", "mixnet_s",
    "mobilenetv4_conv_small", "mobileone_s0", "ghostnet_100", "lcnet_050", "tinynet_a", "rexnet_100",
    "hardcorenas_a", "spnasnet_100", "semnasnet_100", "fastvit_t8", "repghostnet_050", "edgenext_small",
    "convnextv2_atto", "convmixer_768_32", "vit_tiny_patch16_224", "deit3_small_patch16_224",
    "beit_base_patch16_224", "cait_xxs24_224", "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256", "mixer_s32_224", "gmlp_s16_224", "resmlp_12_224", "poolformer_s12",
    "pvt_v2_b0", "twins_pcpvt_small", "levit_128s", "mobilevit_s", "xcit_nano_12_p16_224",
    "coatnet_0_rw_224",
]  # fmt: skip
"""One or two of each family."""


def all_names() -> list[str]:
    found = torchvision.models.list_models(module=torchvision.models)
    return [*(f"torchvision/{name}" for name in found), *(f"timm/{name}" for name in TIMM)]


def make(name: str) -> tuple[nn.Module, Tensor]:
    """The network with random weights in eval mode, and an input of its size."""
    torch.manual_seed(0)
    library, _, name = name.partition("/")
    if library == "timm":
        import timm

        model = timm.create_model(name, pretrained=False)
        return model.eval(), torch.randn(1, *model.default_cfg["input_size"])
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    side = 299 if name == "inception_v3" else 224
    return torchvision.models.get_model(name, weights=None, **options).eval(), torch.randn(1, 3, side, side)


def measured(name: str) -> dict[str, Any]:
    """All that is known of one model."""
    start = time.perf_counter()
    model, example = make(name)
    graph = find_groups(model, (example,))
    found = time.perf_counter() - start
    dense = count_macs(model, (example,))
    checked = smaller(model, example) if dense > LARGE_MACS else example
    report = check_groups(model, graph, (checked,))
    graph = without(graph, report.failed)
    return {
        "name": name,
        "groups": len(graph.groups),
        "heads": sum(group.macs_per_unit > 0 for group in graph.groups),
        "frozen": dict(Counter(short(group.reason) for group in graph.frozen).most_common()),
        "failed": dict(report.failed),
        "relative_error": report.relative_error,
        "checked_at": checked.shape[-1],
        "dense_macs": dense,
        "seconds_to_find": found,
        **reached(model, graph, example),
        "seconds": time.perf_counter() - start,
    }


def smaller(model: nn.Module, example: Tensor) -> Tensor:
    """A smaller image, if the model runs on it."""
    image = torch.randn(1, 3, SMALL_SIDE, SMALL_SIDE)
    try:
        with torch.no_grad():
            model(image)
    except Exception:  # whatever a model says about a size that it was not made for
        return example
    return image


def reached(model: nn.Module, graph: ChannelGraph, example: Tensor) -> dict[str, Any]:
    """The share of MACs that uniform widths reach; the sliced network is run, its MACs are counted."""
    cost = CostModel(model, graph, (example,))
    bound = int(SHARE * cost.dense_macs)
    least = cost.macs({group.name: 1 for group in graph.groups}) / cost.dense_macs
    widths = uniform_widths(graph, cost, bound)
    if widths is None:
        return {"least": least, "reached": None}
    kept = {name: torch.arange(width) for name, width in widths.items()}
    sliced = Slicer(model, graph).build(kept).eval()
    with torch.no_grad():
        sliced(example)
    macs, counted = cost.macs(widths), count_macs(sliced, (example,))
    exact = macs == counted
    return {"least": least, "reached": counted / cost.dense_macs, "within": counted <= bound, "exact": exact}


def uniform_widths(graph: ChannelGraph, cost: CostModel, bound: int) -> dict[str, int] | None:
    """Widths with one share of every group kept, the most that the bound allows; None where none does."""
    for step in range(200, -1, -1):
        widths = {group.name: max(1, int(group.width * step / 200)) for group in graph.groups}
        if cost.macs(widths) <= bound:
            return widths
    return None


def short(reason: str) -> str:
    """The operator or cause, without the place."""
    for cause in (" in '", " in the model's forward"):
        reason = reason.split(cause)[0]
    return ": ".join(reason.split(": ")[:2]).removeprefix("aten.").split(" differ by")[0]


def in_a_process(name: str, timeout: float) -> dict[str, Any]:
    """The measurement of one model, or why there is none."""
    command = [sys.executable, __file__, "--one", name]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"name": name, "error": f"not finished within {timeout:.0f} s", "seconds": timeout}
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        found = {"name": name, "error": lines[-1][:300], "seconds": time.perf_counter() - start}
    return found


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The latest line of each model."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {entry["name"]: entry for entry in map(json.loads, lines)}


def is_good(entry: dict[str, Any]) -> bool:
    return bool(entry.get("reached") is not None and entry["exact"] and entry["within"])


def table(entries: list[dict[str, Any]]) -> str:
    titles = "model|groups (in attention)|frozen (reason and count)|MACs reached|least|checked at|seconds"
    head = f"| {titles.replace('|', ' | ')} |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *map(row, entries), "", *summary(entries)])


def row(entry: dict[str, Any]) -> str:
    name, seconds = entry["name"], f"{entry['seconds']:.0f}"
    if "error" in entry:
        return f"| {name} | | | {entry['error']} | | | {seconds} |"
    frozen = ", ".join(f"{reason} {count}" for reason, count in entry["frozen"].items())
    share = "cannot" if entry["reached"] is None else f"{entry['reached']:.1%}"
    share += "" if entry["reached"] is None or entry["exact"] else " (cost model WRONG)"
    groups = f"{entry['groups']} ({entry['heads']})" if entry["heads"] else entry["groups"]
    cells = [name, groups, frozen, share, f"{entry['least']:.1%}", entry["checked_at"], seconds]
    return f"| {' | '.join(map(str, cells))} |"


def summary(entries: list[dict[str, Any]]) -> list[str]:
    lines = []
    for library in ("torchvision", "timm"):
        own = [entry for entry in entries if entry["name"].startswith(library)]
        good = sum(map(is_good, own))
        lines.append(f"{library}: {good} of {len(own)} reach {SHARE:.0%} of their MACs with an exact cost.")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="torchvision/NAME or timm/NAME; all where left out")
    parser.add_argument("--out", type=Path, help="JSON lines")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one model")
    parser.add_argument("--again", action="store_true", help="measure what failed once more")
    parser.add_argument("--table", action="store_true", help="print what the file holds and measure nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one)))
        return
    if options.out is None:
        parser.error("--out is missing")
    names = options.names or all_names()
    known = read(options.out)
    if not options.table:
        for name in names:
            if name in known and not (options.again and not is_good(known[name])):
                continue
            entry = in_a_process(name, options.timeout)
            with options.out.open("a") as lines:
                lines.write(json.dumps(entry) + "\n")
            print(row(entry), flush=True)
    known = read(options.out)
    print(table([known[name] for name in names if name in known]))


if __name__ == "__main__":
    main()
