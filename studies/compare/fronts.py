"""A study's front at several budgets, on validation and test, and the same channels restored otherwise.

    python studies/compare/fronts.py studies/imagenet-resnet50.toml --trials 40 --budgets 0.7 0.58 0.5 \
        --device cuda --rebuild casm:scope=network,mirror=true,steps=500,batch=64 --out fronts.json

The search runs on a storage in memory, or on `--storage`, to `--trials` or for `--timeout` seconds. Of each
budget, the best trial on the validation images (the most accurate, or `--by output-error`) is measured on
the test images, which nothing was chosen by. Each `--rebuild METHOD[@IMAGES][:OPTION=VALUE,...]` restores its
channels in another way, on so many calibration images where given; one that fails says why and is left out.
Prints a Markdown table and writes JSON after every row.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from optuna.storages import InMemoryStorage
from torch import nn

from autoprune.cli.progress import make_progress
from autoprune.config import StudyConfig, load_study, mask_url
from autoprune.errors import AutopruneError
from autoprune.paths import expanded
from autoprune.searching.engine import Engine
from autoprune.searching.front import RANKINGS, Front, Point
from autoprune.session import Session
from autoprune.storing.storages import open_storage
from records import Record
from ways import SPELLING, Way

Row = dict[str, Any]

HEADER = """| MACs at most | MACs | trial | restored | validation | test | seconds |
|---|---|---|---|---|---|---|"""


def opened(
    config: StudyConfig, images: int | None, device: str | None, storage: str | None = None
) -> Session:
    """The study on a storage, in memory by default, with so many calibration images where given."""
    if images is not None:
        data = config.data.model_copy(update={"calibration_images": images})
        config = config.model_copy(update={"data": data})
    return Session.open(config, device=device, progress=make_progress(False), storage=open_storage(storage))


def rows(
    session: Session, config: StudyConfig, front: Front, ways: Mapping[str, Way], options: argparse.Namespace
) -> Iterator[Row]:
    """One row per budget and way of restoring."""
    on = cache(lambda images: session if images is None else opened(config, images, options.device))
    for budget in options.budgets:
        point = front.best(macs=budget, by=options.by)
        yield measured(session, point, budget, "as the search does", partial(session.build, point))
        for text, way in ways.items():
            try:
                yield measured(session, point, budget, text, partial(restored, on(way.images), point, way))
            except (AutopruneError, RuntimeError) as error:
                # What a device has no memory for must not cost the rows behind it.
                print(f"{budget:.0%}, {text}: {error}", file=sys.stderr, flush=True)


def restored(session: Session, point: Point, way: Way) -> nn.Module:
    """The point's channels restored in this way, on the calibration images of this session."""
    engine = session.engine
    changed = replace(engine.options, reconstruction=way.method, reconstruction_options=way.options)
    return Engine(engine.task, changed, InMemoryStorage()).evaluator.build(dict(point.kept.items()))


def measured(session: Session, point: Point, budget: float, how: str, build: Any) -> Row:
    start = time.perf_counter()
    network: nn.Module = build()
    seconds = time.perf_counter() - start
    found = {split: session.evaluate(network, split)[0] for split in ("validation", "test")}
    return {
        "budget": budget,
        "macs_ratio": point.macs_ratio,
        "trial": point.trial,
        "restored": how,
        "seconds": seconds,
        **found,
    }


def line(row: Row) -> str:
    return (
        f"| {row['budget']:.0%} | {row['macs_ratio']:.1%} | {row['trial']} | {row['restored']} "
        f"| {row['validation']:.2%} | {row['test']:.2%} | {row['seconds']:.1f} |"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--trials", type=int)
    parser.add_argument("--timeout", type=float, help="seconds of searching at most")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.7, 0.5, 0.35], help="shares of MACs")
    parser.add_argument("--by", choices=list(RANKINGS), default="accuracy", help="picks each budget's trial")
    parser.add_argument("--rebuild", nargs="*", default=[], metavar=SPELLING)
    parser.add_argument("--storage", help="to continue a search, and for other commands to read")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    # Before the search, not behind it.
    ways = {text: Way.read(text) for text in options.rebuild}
    config = load_study(options.study)
    if options.storage:
        # Artifacts too lie where other commands look for them.
        config = config.model_copy(update={"storage": expanded(options.storage)})
    session = opened(config, None, options.device, config.storage if options.storage else None)
    shown = {**vars(options), "storage": options.storage and mask_url(options.storage)}
    record = Record(options.out, shown, session.device)
    dense = {split: session.evaluate(session.model, split)[0] for split in ("validation", "test")}
    start = time.perf_counter()
    front = session.search(trials=options.trials, timeout=options.timeout)
    head = {"dense": dense, "trials": len(front.trials), "search_seconds": time.perf_counter() - start}
    print(f"\ndense: {dense}; {head['trials']} trials in {head['search_seconds']:.0f} s\n")
    print(HEADER)
    found: list[Row] = []
    record.write(**head, front=front.to_json(), rows=found)
    for row in rows(session, config, front, ways, options):
        found.append(row)
        print(line(row), flush=True)
        record.write(**head, front=front.to_json(), rows=found)


if __name__ == "__main__":
    main()
