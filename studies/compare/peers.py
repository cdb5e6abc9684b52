"""Everybody's pruning on equal terms: same network, images, splits and MACs, no training.

    python studies/compare/peers.py studies/cifar10-resnet20.toml --macs 0.5 0.35 --out peers.json

Each contestant is brought to at most each share of the dense MACs, counted on its pruned network. Choices
are made on calibration, validation and a few labelled training images; test is measured once per row. The
packages come with `pip install -e '.[compare]'`; one that is missing or fails is listed with the reason.
Sony's toolkit (`pip install model-compression-toolkit`) is not among them: it pins old pydantic and networkx.
CPU seconds leave out measuring, and the second moments and dense outputs that all share (autoprune's own
search makes its own, within its seconds). Prints a Markdown table and writes JSON.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from optuna.storages import InMemoryStorage

import records
from autoprune.config import load_study
from autoprune.session import Session
from contestants import aimet, amc, fastnas, mct, own, torch_pruning, uniform
from contestants.bout import Record, bout
from contestants.report import peer_versions, table
from contestants.ring import Contestant, Ring, Settings

FAMILIES: dict[str, list[Contestant]] = {
    "uniform": uniform.CONTESTANTS,
    "torch-pruning": torch_pruning.CONTESTANTS,
    "fastnas": fastnas.CONTESTANTS,
    "mct": mct.CONTESTANTS,
    "aimet": aimet.CONTESTANTS,
    "amc": amc.CONTESTANTS,
    "autoprune": own.CONTESTANTS,
}


def compare(session: Session, options: argparse.Namespace) -> Iterator[Record]:
    names = ("trials", "episodes", "subset", "labelled", "steps", "divisor", "seed")
    settings = Settings(**{name: getattr(options, name) for name in names})
    memo: dict[str, tuple[object, float, int]] = {}
    for share in options.macs:
        for family in options.contestants:
            for contestant in FAMILIES[family]:
                yield from bout(contestant, Ring(session, share, settings, memo))


def prepare(session: Session) -> Record:
    """What contestants share is made before any clock starts; and the dense network is measured."""
    start = time.process_time()
    _ = session.engine.bench.targets
    seconds = time.process_time() - start
    dense = {split: session.evaluate(session.model, split)[0] for split in ("validation", "test")}
    return {"shared_cpu_seconds": seconds, "dense": {**dense, "macs": session.engine.cost.dense_macs}}


def arguments() -> argparse.Namespace:
    usual = Settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--macs", type=float, nargs="+", default=[0.5, 0.35], help="shares of dense MACs")
    parser.add_argument("--contestants", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--trials", type=int, default=usual.trials, help="of autoprune's search")
    parser.add_argument("--episodes", type=int, default=usual.episodes, help="of AMC's agent")
    parser.add_argument("--subset", type=int, default=usual.subset, help="validation images within a search")
    parser.add_argument("--labelled", type=int, default=usual.labelled, help="images for Taylor and Hessian")
    parser.add_argument("--steps", type=int, default=usual.steps, help="of torch-pruning, dense to nothing")
    parser.add_argument("--divisor", type=int, default=usual.divisor, help="of FastNAS's widths")
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--calibration-images", type=int)
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    config = load_study(options.study)
    if options.calibration_images is not None:
        data = config.data.model_copy(update={"calibration_images": options.calibration_images})
        config = config.model_copy(update={"data": data})
    session = Session.open(config, device=options.device, storage=InMemoryStorage())
    document = records.Record(options.out, vars(options), session.device)
    document.head["versions"] |= peer_versions()
    shared, found = prepare(session), list[Record]()
    for record in compare(session, options):
        found.append(record)
        print(record, flush=True)
        document.write(study=config.name, **shared, records=found)
    print(f"dense: {shared['dense']}; shared: {shared['shared_cpu_seconds']:.1f} CPU seconds")
    print(table(found))


if __name__ == "__main__":
    main()
