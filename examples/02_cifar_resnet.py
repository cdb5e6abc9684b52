"""ResNet-20 on CIFAR-10: a study file's search from Python, with the test split kept for the end.

    python examples/02_cifar_resnet.py        # some minutes; needs data/ (CIFAR-10 and the weights)

The same from the command line: autoprune search studies/cifar10-resnet20.toml
"""

import sys
import tempfile
from pathlib import Path

from common import SMOKE, show

from autoprune.config import StudyConfig, load_study
from autoprune.evaluation import evaluate_network
from autoprune.session import Session

study = load_study("studies/cifar10-resnet20.toml")
needed = [Path(study.data.root) / "cifar-10-batches-py", Path(study.model.weights or "")]
if missing := [str(path) for path in needed if not path.exists()]:
    sys.exit(f"skipped: {', '.join(missing)} not found; [data] download = true fetches the images")

# A study is data: change what you like, and it is checked again where it enters.
values = study.model_dump()
values["storage"] = str(Path(tempfile.mkdtemp(prefix="autoprune-")) / "cifar.journal")
values["search"] |= {"trials": 2 if SMOKE else 30, "caps": {"conv1": 0.5}}
values["search"] |= {"batch_removal": [4]} if SMOKE else {}
values["data"] |= {"calibration_images": 32, "validation_images": 50} if SMOKE else {}
session = Session.open(StudyConfig.model_validate(values))
print(f"{len(session.graph.groups)} groups: {', '.join(list(session.graph.widths)[:5])}, ...")

# With the same storage, the same call continues the study after an interruption.
front = session.search()
show(front)

# Half the MACs, or the cheapest there is; the test split once, for the number that you report.
half = [point for point in front if point.macs_ratio <= 0.5]
point = half[-1] if half else front.points[0]
if not SMOKE:
    result = evaluate_network(session, session.build(point), "test")
    print(f"test: {result.accuracy:.2%} on {result.images:,} images, {point.macs_ratio:.1%} of the MACs")
