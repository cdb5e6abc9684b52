"""How the profile's processor time and memory grow with width, depth and the number of calibration images.

    python studies/compare/growth.py --out growth.json --plot growth.svg

The profile is second moments of all consumers, then orders of removal and curves of all groups. Series:

    width       three 3x3 convolutions of W channels on 8x8 images (9 W columns each)
    width-1x1   the same with 1x1 convolutions (W columns): reaches 2,048 channels on a processor
    depth       CIFAR ResNets of D layers
    images      ResNet-20 on N calibration images

Networks have random weights and batch norms, images are random and smooth: times do not depend on the values.
Every point runs in a process of its own, so that its peak of resident memory is its own. A series ends before
a point that should take longer than --limit-seconds. Seconds are the processor's, which others on the machine
disturb less than the clock's. Exponents are least-squares slopes of logarithms: 1 is linear. "Output errors"
are candidates with one pruned group on validation images, fewer where there are many groups; the rest of the
profile is linear algebra.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from optuna.storages import InMemoryStorage
from torch import nn

import plots
from autoprune.data.inputs import Inputs
from autoprune.models.cifar_resnet import CifarResNet
from autoprune.searching.engine import Engine, Options, Task
from autoprune.searching.evaluator import Evaluator
from autoprune.searching.metrics import Accuracy
from autoprune.searching.outputs import OutputError
from records import Record

Point = dict[str, Any]
STAGES = ("groups", "second moments", "orders and layer curves", "output errors", "profile")
CLASSES = 10
PROBE_IMAGES = 512
"""More than an output error is judged on: with 256 the shallow networks were spared a part of it."""


class Case(NamedTuple):
    """One thing that grows: its name on the axis, its values, and the network and images of a value."""

    axis: str
    values: Sequence[int]
    network: Callable[[int], nn.Module]
    pixels: int
    images: Callable[[int], int]


def plain(width: int, kernel: int) -> nn.Module:
    """Three convolutions of the same width with batch norms, and a classifier."""
    layers: list[nn.Module] = []
    for inputs in (3, width, width):
        convolution = nn.Conv2d(inputs, width, kernel, padding=kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


CASES: Mapping[str, Case] = {
    "width": Case("channels", (64, 128, 256, 512, 1024, 2048), lambda w: plain(w, 3), 8, lambda w: 128),
    "width-1x1": Case("channels", (64, 128, 256, 512, 1024, 2048), lambda w: plain(w, 1), 8, lambda w: 128),
    "depth": Case(
        "layers", (20, 32, 44, 56, 80, 110), lambda d: CifarResNet((d - 2) // 6, CLASSES), 32, lambda d: 256
    ),
    "images": Case(
        "calibration images", (128, 256, 512, 1024, 2048), lambda n: CifarResNet(3, CLASSES), 32, lambda n: n
    ),
}


def make_engine(case: Case, value: int) -> Engine:
    """The search engine of one point, in memory; nothing is computed yet."""
    torch.manual_seed(0)
    network = randomised(case.network(value), case.pixels)
    probe = smooth(PROBE_IMAGES, case.pixels)
    labels = torch.arange(PROBE_IMAGES) % CLASSES
    metric = Accuracy(zip(probe.split(64), labels.split(64), strict=True), torch.device("cpu"))
    task = Task(
        name="growth",
        model=network,
        chunks=[Inputs((smooth(case.images(value), case.pixels),))],
        probe=metric.inputs,
        metric=metric,
        fingerprints={},
    )
    return Engine(task, Options(), InMemoryStorage())


@torch.no_grad()
def randomised(network: nn.Module, pixels: int) -> nn.Module:
    """Batch norms with random scales and the statistics of a batch, so that no layer dies or blows up."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    network.train()(smooth(32, pixels))
    return network.eval()


def smooth(count: int, pixels: int) -> torch.Tensor:
    """Random images whose neighbouring pixels resemble each other, (count, 3, pixels, pixels)."""
    images = torch.randn(count, 3, pixels, pixels).cumsum(-1)
    return images / images.std()


def measure(case: Case, value: int) -> Point:
    """Processor seconds of each stage and megabytes of memory, of this process."""
    engine = make_engine(case, value)
    groups, moments, profile, forward = Watch(), Watch(), Watch(), Watch()
    groups.around(lambda: engine.graph)()
    before = peak_mb()
    moments.around(lambda: len(engine.bench.statistics.moments))()
    with forward.on(Evaluator, "restored"), forward.on(OutputError, "__init__", "__call__"):
        profile.around(lambda: engine.profile)()
    times = {
        "groups": groups.seconds,
        "second moments": moments.seconds,
        "orders and layer curves": profile.seconds - forward.seconds,
        "output errors": forward.seconds,
        "profile": moments.seconds + profile.seconds,
    }
    peak = peak_mb()
    memory = {"before_mb": before, "peak_mb": peak, "profile_mb": peak - before}
    return {"value": value, "groups": len(engine.graph.groups), "seconds": times, **memory}


class Watch:
    """Adds up the processor seconds (of all threads) spent in functions that do not call each other."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, watched."""

        @functools.wraps(work)
        def watched(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - start

        return watched

    @contextlib.contextmanager
    def on(self, owner: type, *names: str) -> Iterator[None]:
        """Watch methods of a class meanwhile."""
        with contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(mock.patch.object(owner, name, self.around(getattr(owner, name))))
            yield


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (2**20 bytes)."""
    # Kilobytes on Linux, bytes on macOS.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def in_own_process(name: str, value: int) -> Point:
    # A new interpreter: a forked one would begin with this one's memory.
    threads = str(torch.get_num_threads())
    command = [sys.executable, __file__, "--point", name, str(value), "--threads", threads]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: Point = json.loads(done.stdout.splitlines()[-1])
    return found


def grow(name: str, limit_seconds: float, values: Sequence[int] | None) -> Iterator[Point]:
    """The points of one series, while the next should not take longer than the limit."""
    taken: list[float] = []
    for value in values or CASES[name].values:
        # Values grow by about the same factor each, so seconds do too.
        growth = max(1.0, taken[-1] / taken[-2]) if len(taken) > 1 else 1.0
        if taken and taken[-1] * growth > limit_seconds:
            return
        start = time.perf_counter()
        yield in_own_process(name, value)
        taken.append(time.perf_counter() - start)


def exponents(points: Sequence[Point]) -> dict[str, float]:
    """Slope of the logarithm of each measure over that of the value; empty for fewer than two points."""
    if len(points) < 2:
        return {}
    measures = {stage: [point["seconds"][stage] for point in points] for stage in STAGES}
    measures["memory"] = [point["profile_mb"] for point in points]
    values = [point["value"] for point in points]
    return {name: slope(values, found) for name, found in measures.items() if min(found) > 0}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent e of y ~ x^e, by least squares in logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def table(name: str, points: Sequence[Point]) -> str:
    head = [
        CASES[name].axis,
        "groups",
        *(f"{stage}, CPU s" for stage in STAGES),
        "profile adds, MB",
        "peak, MB",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for point in points:
        row = [f"{point['seconds'][stage]:.2f}" for stage in STAGES]
        row = [str(point["value"]), str(point["groups"]), *row]
        lines.append(f"| {' | '.join(row)} | {point['profile_mb']:.0f} | {point['peak_mb']:.0f} |")
    slopes = exponents(points)
    row = [f"{slopes[stage]:.2f}" if stage in slopes else "-" for stage in (*STAGES, "memory")]
    return "\n".join([*lines, f"| exponent | | {' | '.join(row)} | |"])


def panels(found: Mapping[str, Sequence[Point]]) -> list[plots.Panel]:
    """One panel a series: seconds of the stages, and a line of exponent 1 to compare with."""
    return [panel(name, points) for name, points in found.items() if len(points) > 1]


def panel(name: str, points: Sequence[Point]) -> plots.Panel:
    x, slopes = [point["value"] for point in points], exponents(points)
    series = [
        plots.Series(f"{stage} (exponent {slopes[stage]:.2f})", x, [p["seconds"][stage] for p in points])
        for stage in STAGES[1:]
        if stage in slopes
    ]
    first = points[0]["seconds"]["profile"]
    series.append(plots.Series("linear", x, [first * value / x[0] for value in x], style="dashes"))
    axis = CASES[name].axis
    return plots.Panel(title=name, x_label=axis, y_label="processor seconds", series=series, log=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--series", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--values", type=int, nargs="*", help="instead of the series' own")
    parser.add_argument("--limit-seconds", type=float, default=120.0, help="of one point at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("growth.json"))
    parser.add_argument("--plot", type=Path, help="SVG of all series; needs matplotlib")
    parser.add_argument("--point", nargs=2, metavar=("SERIES", "VALUE"), help="one point, in this process")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.point is not None:
        name, value = options.point
        print(json.dumps(measure(CASES[name], int(value))))
        return
    if options.plot is not None:
        plots.require()
    record = Record(options.out, vars(options))
    found: dict[str, list[Point]] = {}
    for name in options.series:
        found[name] = []
        for point in grow(name, options.limit_seconds, options.values):
            found[name].append(point)
            record.write(series=found, exponents={name: exponents(points) for name, points in found.items()})
        print(f"{table(name, found[name])}\n", flush=True)
    if options.plot is not None:
        plots.draw(panels(found), options.plot)


if __name__ == "__main__":
    main()
