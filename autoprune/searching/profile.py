"""Profile: per group the order of removal and what each width loses. Every strategy reads these curves.

Two curves per group. The layer error (relative error of the consumers after refitting) follows in closed
form from second moments, at every width; without images the criterion's own loss takes its place. The
output error is what counts, but each value is a forward pass; it is measured at a few widths and carried to
all others along the layer error: in logarithms the two are nearly a straight line (see studies/LOG.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from torch import Tensor

from autoprune.criteria import Criterion, GroupView, Reader, group_view, loss_curve
from autoprune.criteria.norm import share_gone
from autoprune.graph.groups import Kept
from autoprune.reconstruction.base import Bench

MEASURED_SHARES = (0.5, 0.25)
"""Shares of a group's channels at which the output error is measured."""

_TINY = 1e-12


@dataclass(frozen=True)
class Profile:
    """Curves are float64 arrays (width + 1,) indexed by kept channels; lower is better.

    `orders[batch][group]` lists channels first removed first; `layer_errors[batch][group]` follows that
    order; `output_errors[batch][group]` is the proxy of the network's output error when the group
    alone is pruned.
    """

    orders: Mapping[int, Mapping[str, Tensor]]
    layer_errors: Mapping[int, Mapping[str, np.ndarray]]
    output_errors: Mapping[int, Mapping[str, np.ndarray]]

    def kept(self, widths: Mapping[str, int], batch: int) -> dict[str, Tensor]:
        """The channels that stay at the given widths, sorted."""
        orders = self.orders[batch]
        stays = {name: orders[name][len(orders[name]) - width :] for name, width in widths.items()}
        return {name: channels.sort().values for name, channels in stays.items()}

    def curves(self, names: Sequence[str], batch: int) -> list[np.ndarray]:
        """Output-error curves in the order of `names`."""
        return [self.output_errors[batch][name] for name in names]


def make_profile(
    bench: Bench,
    criterion: Criterion,
    batches: Sequence[int],
    output_error: Callable[[Kept], float],
    *,
    seed: int = 0,
    history: Mapping[str, Tensor] | None = None,
    progress: Callable[[], None] | None = None,
) -> Profile:
    """Orders and curves of all groups, for each batch removal size.

    `output_error(kept)` measures a candidate with one pruned group, after reconstruction. `history` maps
    the name of a weight to the norms of its filters over training, (epochs, filters).
    """
    orders: dict[int, dict[str, Tensor]] = {batch: {} for batch in batches}
    layer: dict[int, dict[str, np.ndarray]] = {batch: {} for batch in batches}
    output: dict[int, dict[str, np.ndarray]] = {batch: {} for batch in batches}
    for group in bench.graph.groups:
        view = group_view(bench.model, bench.graph, bench.statistics, group, seed, history)
        # Made once: each holds a block of an inverse, and every batch size asks for them.
        view = replace(view, readers=cache(view.readers))
        readers = view.readers()
        for batch in batches:
            orders[batch][group.name] = criterion.order(view, min(batch, view.width))
            layer[batch][group.name] = layer_error(criterion, view, readers, orders[batch][group.name])
        first = batches[0]
        points = _measure(view, orders[first][group.name], layer[first][group.name], output_error)
        for batch in batches:
            output[batch][group.name] = carried(layer[batch][group.name], points)
        if progress is not None:
            progress()
    bench.statistics.forget_inverses()
    return Profile(orders, layer, output)


def layer_error(
    criterion: Criterion, view: GroupView, readers: Sequence[Reader], order: Tensor
) -> np.ndarray:
    """Error of a group at every width, (width + 1,), lower is better; never rises with width.

    Summed relative error of the consumers; where none has second moments, the criterion's own loss.
    """
    if readers:
        curve = loss_curve(readers, order.to(readers[0].weight.device)).cpu()
    else:
        own = criterion.loss(view, order)
        curve = share_gone(view.filters.double().square().sum(1), order) if own is None else own
    # Rounding must not make a wider group look worse.
    return _falling(np.maximum(curve.numpy(), 0.0))


def _measure(
    view: GroupView, order: Tensor, curve: np.ndarray, output_error: Callable[[Kept], float]
) -> list[tuple[float, float]]:
    """(layer error, output error) at the measured widths, largest width first.

    What cannot be measured, for the network answers with NaN there, is left out.
    """
    widths = sorted({max(1, round(share * view.width)) for share in MEASURED_SHARES}, reverse=True)
    kept = {width: order[view.width - width :].sort().values for width in widths if width < view.width}
    points = [(curve[width], output_error({view.name: indices})) for width, indices in kept.items()]
    return [point for point in points if np.isfinite(point).all()]


def carried(curve: np.ndarray, points: Iterable[tuple[float, float]]) -> np.ndarray:
    """Output error at every width from a layer-error curve and a few measured points.

    Linear interpolation in logarithms; beyond the measured points the two errors are proportional.
    """
    usable = sorted((np.log(x + _TINY), np.log(y + _TINY)) for x, y in points)
    if not usable:
        return curve
    x = np.log(curve + _TINY)
    xs, ys = (np.array(column) for column in zip(*usable, strict=True))
    ys = np.maximum.accumulate(ys)
    y = np.interp(x, xs, ys) + np.minimum(x - xs[0], 0.0) + np.maximum(x - xs[-1], 0.0)
    result = np.where(curve > 0, np.exp(y), 0.0)
    return _falling(result)


def _falling(curve: np.ndarray) -> np.ndarray:
    """No value below one that follows; a plain array, as one that was stored and read."""
    return np.ascontiguousarray(np.maximum.accumulate(curve[::-1])[::-1])
