"""Rules for operators with a value for each channel: norms and slopes."""

from __future__ import annotations

from torch import Tensor

from autoprune.graph.call import Call, Rule
from autoprune.graph.labels import Labels
from autoprune.graph.operators_layers import follow, meet_computed
from autoprune.graph.trace import Counted, Value


def batch_norm(call: Call) -> Value:
    """Per-channel state along dimension 1; labels pass."""
    labels = call.labels("input")
    rows = labels.vector_along(1)
    if rows is None:
        return call.give_up("normalises along another dimension than the channels'")
    arguments = [call.arg(name) for name in ("weight", "bias", "running_mean", "running_var")]
    tensors = [call.state_name(argument) for argument in arguments]
    follow(call, rows, *tensors)
    for argument in arguments:
        meet_computed(call, rows, argument)
    if not any(tensors):
        call.counts(rows)
    outputs = [labels if shape == labels.shape else Labels.uniform(shape) for shape in call.shapes]
    return outputs[0] if len(outputs) == 1 and isinstance(call.node.meta["val"], Tensor) else list(outputs)


def group_norm(call: Call) -> Value:
    """Per-channel state along dimension 1; the channels that are normalised together go together."""
    labels, weight = call.labels("input"), call.state_name(call.arg("weight"))
    rows = labels.vector_along(1)
    # A number of groups that stands in the forward could not be told that there are fewer.
    if rows is None or (weight is None and not _tell("num_groups", call, rows)):
        return call.give_up("normalises channels together")
    together = rows.reshape(int(call.arg("num_groups")), -1)
    call.unite(together[:, :1], together[:, 1:])
    follow(call, rows, weight, call.state_name(call.arg("bias")))
    meet_computed(call, rows, call.arg("bias"))
    return labels


def _tell(size: str, call: Call, rows: Tensor) -> bool:
    """Whether the module remembers this size for want of tensors; then it hears of channels that go."""
    told = size in call.trace.program.sizes.get(call.module, {})
    if told:
        call.trace.counted.append(Counted(call.module, rows))
    return told


def prelu(call: Call) -> Value:
    """One slope for all, or one per channel along dimension 1."""
    labels, slope = call.labels("self"), call.arg("weight")
    size = (
        call.trace.program.tensors[call.state_name(slope) or ""].numel() if call.state_name(slope) else None
    )
    rows = labels.vector_along(1) if labels.ndim > 1 else None
    if size == 1:
        return labels
    if size is None or rows is None:
        return call.give_up("has a computed slope")
    follow(call, rows, call.state_name(slope))
    return labels


_NORMS = [
    "batch_norm",
    "_native_batch_norm_legit_no_training",
    "native_batch_norm",
    "cudnn_batch_norm",
    "instance_norm",
]

NORMS: dict[str, Rule] = {
    **dict.fromkeys(_NORMS, batch_norm),
    "group_norm": group_norm,
    "prelu": prelu,
}
