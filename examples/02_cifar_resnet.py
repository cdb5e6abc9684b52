"""ResNet-20 on CIFAR-10: a study file's search from Python, with the test split kept for the end.

    python examples/02_cifar_resnet.py        # some minutes; needs data/ (CIFAR-10 and the weights)

The same from the command line: autoprune search studies/cifar10-resnet20.toml
"""

import sys
from pathlib import Path

from autoprune.config import load_study
from autoprune.evaluation import evaluate_network
from autoprune.session import Session

smoke = "--smoke" in sys.argv
study = load_study("studies/cifar10-resnet20.toml")
needed = [Path(study.data.root) / "cifar-10-batches-py", Path(study.model.weights or "")]
if missing := [str(path) for path in needed if not path.exists()]:
    sys.exit(f"skipped: {', '.join(missing)} not found; README says how to get CIFAR-10")

# A study is data: change what you like, and it is checked again where it enters.
images = {"calibration_images": 64, "validation_images": 100} if smoke else {}
config = study.model_copy(
    update={
        "storage": sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] != "--smoke" else "cifar.journal",
        "data": study.data.model_copy(update=images),
        "search": study.search.model_copy(update={"trials": 2 if smoke else 30}),
    }
)
session = Session.open(config)
print(f"{len(session.graph.groups)} groups: {', '.join(list(session.graph.widths)[:5])}, ...")

# The same call continues the study after an interruption.
front = session.search()
for point in front:
    print(f"{front.metric.shown(point.accuracy)} at {point.macs_ratio:.0%} of the MACs (validation)")

# Half the MACs, or the cheapest there is; the test split once, for the number that you report.
half = [point for point in front if point.macs_ratio <= 0.5]
point = half[-1] if half else front.points[0]
if not smoke:
    result = evaluate_network(session, session.build(point), "test")
    print(f"test: {result.accuracy:.2%} on {result.images} images, {result.macs:,} MACs")
