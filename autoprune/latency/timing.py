"""Wall time of a forward pass: warmed up, repeated, synchronised with the device; median and spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from autoprune.data.inputs import Inputs, concatenate, leading
from autoprune.latency.place import alone, threads_set

STEADY = 0.1
"""Warm-up ends when this many calls in a row differ by at most this share of their median."""
IN_A_ROW = 3
MOST_WARM_UPS = 20
SITTING_SECONDS = 0.4
"""Seconds in which a network is called again and again before times are compared with other sittings."""
LEAST_REPEATS = 8
MOST_REPEATS = 50
AGREE = 0.03
"""A network is measured until the two fastest sittings have medians that differ by at most this share."""
MOST_SITTINGS = 8
SAMPLE_SECONDS = 0.1
"""Seconds for one of the networks that the table is made from; it is called again in later rounds."""
LEAST_SAMPLES = 3
MOST_SAMPLES = 15

Parts = tuple[dict[str, float], dict[str, float]]
"""Milliseconds of one call: in each layer, and from its end to the beginning of the next."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call: the median, and the distance between the quartiles. Lower is better."""

    ms: float
    spread_ms: float

    @staticmethod
    def of(times: Sequence[float]) -> Latency:
        """From single calls, in milliseconds."""
        if len(times) < 2:
            return Latency(float(times[0]), 0.0)
        low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
        return Latency(middle, high - low)


@dataclass
class Sample:
    """Calls of one network, in milliseconds: whole; in each layer, by its name; and from the end of each
    layer to the beginning of the next: norms, activations, additions."""

    whole: list[float]
    layers: dict[str, list[float]] = field(default_factory=dict)
    tails: dict[str, list[float]] = field(default_factory=dict)


class Timing(Protocol):
    """What measures networks. Layers are given as their name and the name of their weight."""

    def whole(self, network: nn.Module) -> Latency:
        """The latency of a network, measured thoroughly."""

    def sample(self, network: nn.Module, layers: Mapping[str, str]) -> Sample:
        """A few calls, and how long each layer took within them; a layer may be missing."""


class Timer:
    """Measures networks on `inputs`, on their device; with `threads` CPU threads, none else at the time."""

    def __init__(self, inputs: Inputs, threads: int) -> None:
        self.inputs, self.threads = inputs, threads
        self.device = inputs.tensors[0].device

    def whole(self, network: nn.Module) -> Latency:
        """Other load only ever adds time: the calls of the two fastest sittings count, once these agree."""
        with self._quiet():
            expected = self._warm_up(network)
            repeats = _repeats(SITTING_SECONDS, expected, LEAST_REPEATS, MOST_REPEATS)
            sittings: list[list[float]] = []
            while len(sittings) < MOST_SITTINGS and not _agree(sittings):
                sittings.append([self._call(network) for _ in range(repeats)])
        first, second = sorted(sittings, key=statistics.median)[:2]
        return Latency.of([*first, *second])

    def sample(self, network: nn.Module, layers: Mapping[str, str]) -> Sample:
        weights = dict(network.named_parameters())
        names = {id(weights[weight]): name for name, weight in layers.items() if weight in weights}
        with self._quiet():
            expected = self._warm_up(network)
            repeats = _repeats(SAMPLE_SECONDS, expected, LEAST_SAMPLES, MOST_SAMPLES)
            whole = [self._call(network) for _ in range(repeats)]
            apart = [self._apart(network, names) for _ in range(repeats)]
        within, after = (
            {name: [calls[part][name] for calls in apart] for name in apart[0][part]} for part in (0, 1)
        )
        return Sample(whole, within, after)

    def _warm_up(self, network: nn.Module) -> float:
        """Call until times are steady; the last median, in milliseconds."""
        times: list[float] = []
        while len(times) < MOST_WARM_UPS:
            times.append(self._call(network))
            last = times[-IN_A_ROW:]
            if len(last) == IN_A_ROW and max(last) - min(last) <= STEADY * statistics.median(last):
                break
        return statistics.median(times[-IN_A_ROW:])

    def _call(self, network: nn.Module) -> float:
        _synchronise(self.device)
        start = time.perf_counter()
        self.inputs.call(network)
        _synchronise(self.device)
        return 1e3 * (time.perf_counter() - start)

    def _apart(self, network: nn.Module, names: Mapping[int, str]) -> Parts:
        mode = _Layers(names, self.device)
        _synchronise(self.device)
        with mode:
            self.inputs.call(network)
        end = mode.mark()
        _synchronise(self.device)
        return mode.spent(end)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        with alone(), threads_set(self.threads), torch.inference_mode():
            yield


class _Layers(TorchFunctionMode):
    """Times every operator that is given one of some weights, where it stands in the network."""

    def __init__(self, names: Mapping[int, str], device: torch.device) -> None:
        super().__init__()
        self._names, self._cuda = names, device.type == "cuda"
        self._marks: list[tuple[str, Any, Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = next((self._names[id(a)] for a in args if id(a) in self._names), None)
        if name is None:
            name = next((self._names[id(a)] for a in (kwargs or {}).values() if id(a) in self._names), None)
        if name is None:
            return func(*args, **(kwargs or {}))
        start = self.mark()
        result = func(*args, **(kwargs or {}))
        self._marks.append((name, start, self.mark()))
        return result

    def mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def spent(self, end: Any) -> Parts:
        """Milliseconds in each layer and after it, once the device has finished."""
        layers: dict[str, float] = {}
        tails: dict[str, float] = {}
        following = [*(start for _, start, _ in self._marks[1:]), end]
        for (name, start, stop), next_start in zip(self._marks, following, strict=False):
            layers[name] = layers.get(name, 0.0) + self._between(start, stop)
            tails[name] = tails.get(name, 0.0) + self._between(stop, next_start)
        return layers, tails

    def _between(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end)) if self._cuda else 1e3 * float(end - start)


def example_batch(chunks: Sequence[Inputs], size: int) -> Inputs:
    """A batch of so many inputs, repeated where there are fewer, as users lay them out: contiguous."""
    found = leading(chunks, size)
    while sum(batch.size for batch in found) < size:
        found += leading(found, size - sum(batch.size for batch in found))
    return concatenate(found).map(lambda tensor: tensor.contiguous())


def _agree(sittings: Sequence[Sequence[float]]) -> bool:
    medians = sorted(map(statistics.median, sittings))
    return len(medians) > 1 and medians[1] <= (1 + AGREE) * medians[0]


def _repeats(seconds: float, ms: float, least: int, most: int) -> int:
    return max(least, min(most, round(1e3 * seconds / max(ms, 1e-6))))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
