"""From a front to files: save a network, fine-tune it, load it without its study, write ONNX.

    python examples/06_export_and_finetune.py # a minute; needs the extra onnx; --smoke: seconds

The same from the command line: autoprune build, finetune, evaluate, export.
"""

import tempfile
from pathlib import Path

from common import SEED, SMOKE, show

import autoprune
from autoprune.config import StudyConfig, load_study
from autoprune.evaluation import evaluate_saved
from autoprune.exporting import export
from autoprune.finetuning import fine_tune_saved
from autoprune.models import digits_resnet
from autoprune.plan import make_plan, save_plan
from autoprune.session import Session

folder = Path(tempfile.mkdtemp(prefix="autoprune-"))
values = load_study("studies/digits.toml").model_dump()
values["storage"] = str(folder / "digits.journal")
weights = {"weights": str(folder / "dense.safetensors")}  # trained on first use, in seconds
values["model"] |= {"weights": None, "train_on_first_use": None} if SMOKE else weights
values["data"] |= {"calibration_images": 32} if SMOKE else {}
values["search"] |= {"trials": 2 if SMOKE else 30, "seed": SEED}
values["training"] |= {"epochs": 1 if SMOKE else 10, "images": 64 if SMOKE else None, "learning_rate": 0.005}
session = Session.open(StudyConfig.model_validate(values))

front = session.search()
show(front)
point = min(front, key=lambda point: abs(point.macs_ratio - 0.3))

# A plan is JSON (which channels stay) beside safetensors: nothing in it is ever unpickled.
pruned, tuned = folder / "pruned", folder / "tuned"
save_plan(pruned, session.build(point), make_plan(session.model, session.graph, point, study="digits"))
fine_tune_saved(session, pruned, tuned)  # the dense network is the teacher, the best epoch stays
for name, place in (("dense", None), ("pruned", pruned), ("tuned", tuned)):
    found = evaluate_saved(session, place, "test")
    print(f"test: {name} {found.accuracy:.2%}, {found.macs:,} MACs, {found.params:,} parameters")

# Where the network is used: its class and the folder are enough.
network = autoprune.load(digits_resnet(), tuned)
written = export(network, session.engine.task.chunks[0], folder / "digits.onnx")
print(f"{written.path}: {written.bytes:,} bytes, differs by {max(written.differences.values()):.0e} at most")
