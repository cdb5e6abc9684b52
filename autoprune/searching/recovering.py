"""Trained candidates of a study: made by a recovery, kept as artifacts of their trials, read back.

Their weights cannot be computed again in closed form, so a trial names its artifacts; what was measured is
the network as read back.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from optuna import Trial
from torch import Tensor, nn

from autoprune.config import TrainingConfig
from autoprune.errors import DataError, StudyError
from autoprune.graph.capture import named_state
from autoprune.graph.groups import ChannelGraph, Kept
from autoprune.graph.slicing import Slicer
from autoprune.graph.state import persistent_names, stored_state
from autoprune.progress import Progress
from autoprune.searching import attributes as attr
from autoprune.storing.artifacts import Artifacts, read_tensors
from autoprune.storing.claims import Claims
from autoprune.training.data import TrainingData
from autoprune.training.history import History
from autoprune.training.recovery import Job, Recovery, Trained

Record = dict[str, Any]
"""Attributes of a trial."""


@dataclass(frozen=True, kw_only=True)
class Recoverer:
    """Trains the candidates of one study. `seed` is the study's; the rest is as in `Job`."""

    name: str
    recovery: Recovery
    model: nn.Module
    graph: ChannelGraph
    data: TrainingData
    settings: TrainingConfig
    metric: Callable[[nn.Module], float]
    restored: Callable[[Kept], nn.Module]
    history: Callable[[], History]
    artifacts: Artifacts
    seed: int
    progress: Progress

    def recover(self, trial: Trial, kept: Kept, parent: Trained | None) -> tuple[Trained, Record]:
        """The trained candidate, as read back from its artifacts, and what the trial must say of them."""
        trained = self.recovery.recover(
            Job(
                model=self.model,
                graph=self.graph,
                kept=kept,
                restored=self.restored,
                parent=parent,
                history=self.history,
                data=self.data,
                settings=self.settings,
                metric=self.metric,
                seed=candidate_seed(self.seed, kept, self.graph.widths),
                progress=self.progress,
            )
        )
        self._check(kept, trained.kept)
        record = {attr.RECOVERY: self.name, **save_trained(self.artifacts, trial, trained)}
        attributes = {**record, attr.KEPT: attr.pack_all(trained.kept, self.graph.widths)}
        loaded = load_trained(self.artifacts, self.model, self.graph, trial.number, attributes)
        assert loaded is not None
        return loaded, record

    def _check(self, proposed: Kept, found: Kept) -> None:
        for name, channels in proposed.items():
            if len(found[name]) != len(channels):
                raise StudyError(
                    f"recovery '{self.name}' should keep {len(channels)} channels of group '{name}', it kept "
                    f"{len(found[name])}; a recovery may exchange channels, but must not change widths."
                )


def candidate_seed(seed: int, kept: Kept, widths: Mapping[str, int]) -> int:
    """Seed of a candidate's training: the same for the same candidate, whatever its trial's number."""
    return zlib.crc32(f"{seed}/{sorted(attr.pack_all(kept, widths).items())}".encode())


def save_trained(artifacts: Artifacts, trial: Trial, trained: Trained) -> Record:
    """Store weights and history; what the trial must say of them."""
    weights = safetensors.torch.save(stored_state(trained.network))
    record = {attr.WEIGHTS: artifacts.save(trial, "weights.safetensors", weights)}
    if trained.history is not None:
        content = trained.history.to_bytes()
        record[attr.HISTORY] = artifacts.save(trial, "history.safetensors", content)
    return record


def load_trained(
    artifacts: Artifacts, model: nn.Module, graph: ChannelGraph, number: int, attributes: Mapping[str, Any]
) -> Trained | None:
    """The trained candidate of a trial; None where the trial was restored in closed form.

    StudyError where its artifacts are missing, damaged, or those of another network.
    """
    if attr.RECOVERY not in attributes:
        return None
    remedy = "restore the folder of artifacts from a copy, or search again under another study name."
    what = f"the trained weights of trial {number}"
    kept = attr.unpack_all(attributes.get(attr.KEPT))
    tensors = read_tensors(artifacts.load(attributes.get(attr.WEIGHTS), what, remedy), what)
    network = _network(model, graph, kept, tensors, what)
    return Trained(network=network, kept=kept, history=_history(artifacts, number, attributes, remedy))


def _network(
    model: nn.Module, graph: ChannelGraph, kept: Kept, tensors: Mapping[str, Tensor], what: str
) -> nn.Module:
    slicer, dense = Slicer(model, graph), named_state(model)
    expected = {**dense, **slicer.state(kept)}
    names = persistent_names(model)
    shapes = {name: (tuple(expected[name].shape), expected[name].dtype) for name in names}
    if shapes != {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}:
        odd = sorted(name for name in {*shapes, *tensors} if not _fits(shapes.get(name), tensors.get(name)))
        listed = ", ".join(odd[:5])
        raise StudyError(f"{what} do not fit the network in: {listed}; check the model's factory.")
    for name, tensor in tensors.items():
        # A mask may be infinite in the dense network too.
        number = tensor.is_floating_point() and bool(dense[name].isfinite().all())
        if number and not bool(tensor.isfinite().all()):
            raise StudyError(f"{what} should be finite, but '{name}' is not; use another trial.")
    placed = {name: tensor.to(dense[name].device) for name, tensor in tensors.items()}
    return slicer.build(kept, placed).eval()


def _fits(wanted: tuple[tuple[int, ...], torch.dtype] | None, found: Tensor | None) -> bool:
    return wanted is not None and found is not None and wanted == (tuple(found.shape), found.dtype)


def _history(artifacts: Artifacts, number: int, attributes: Mapping[str, Any], remedy: str) -> History | None:
    if attr.HISTORY not in attributes:
        return None
    return _read_history(artifacts, attributes[attr.HISTORY], f"the history of trial {number}", remedy)


def study_history(claims: Claims, artifacts: Artifacts, make: Callable[[], History]) -> History:
    """The history of the dense network as the study has it; `make()` gives it once, then it is stored."""
    study = claims.study

    def stored() -> bool:
        return attr.STUDY_HISTORY in study.user_attrs

    if not stored():
        with claims.turn(attr.STUDY_HISTORY, "the history of the study", stored) as mine:
            # Another may have finished just before the claim.
            if mine and not stored():
                made = make().to_bytes()
                study.set_user_attr(attr.STUDY_HISTORY, artifacts.save(study, "history.safetensors", made))
    remedy = "restore the folder of artifacts from a copy, or search again under another study name."
    return _read_history(artifacts, study.user_attrs[attr.STUDY_HISTORY], "the history of the study", remedy)


def _read_history(artifacts: Artifacts, reference: Any, what: str, remedy: str) -> History:
    try:
        return History.of_bytes(artifacts.load(reference, what, remedy), what)
    except DataError as error:
        raise StudyError(str(error)) from error
