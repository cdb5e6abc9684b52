from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from autoprune.graph import Slicer
from autoprune.reconstruction import Sequential
from autoprune.reconstruction.lockstep import Lockstep
from tests.small import NETWORKS, make_bench, random_kept


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_all_chunks_meet_and_only_one_runs(chunks: int) -> None:
    lockstep, seen, come, combined = Lockstep(chunks), [], [], []
    lock = threading.Lock()

    def chunk(index: int) -> None:
        for turn in range(3):
            assert lock.acquire(blocking=False), "two chunks ran at once"
            seen.append((turn, index))
            lock.release()
            come.append((turn, index))
            lockstep.meet(index, lambda: (combined.append(list(come)), come.clear()))

    for _ in range(3):
        seen.clear(), combined.clear()
        lockstep.run(chunk)
        assert seen == sorted(seen)
        assert combined == [[(turn, i) for i in range(chunks)] for turn in range(3)]


@pytest.mark.parametrize("chunks", [1, 2, 4])
@pytest.mark.parametrize("where", [0, 1, 3])
def test_a_failure_ends_the_run_and_the_next_one_works(chunks: int, where: int) -> None:
    lockstep = Lockstep(chunks)

    def broken(index: int) -> None:
        lockstep.meet(index, lambda: None)
        if index == min(where, chunks - 1):
            raise ValueError(f"chunk {index}")
        lockstep.meet(index, lambda: None)

    def refuse() -> None:
        raise KeyError("combine")

    with pytest.raises(ValueError, match=f"chunk {min(where, chunks - 1)}"):
        lockstep.run(broken)
    with pytest.raises(KeyError, match="combine"):
        lockstep.run(lambda index: lockstep.meet(index, refuse))
    done: list[str] = []
    lockstep.run(lambda index: lockstep.meet(index, lambda: done.append("once")))
    assert done == ["once"]


@pytest.mark.parametrize("network", NETWORKS)
def test_several_chunks_are_one(network: str) -> None:
    small = NETWORKS[network]
    model, images = small.model(dtype=torch.float64), small.images(30, dtype=torch.float64)
    outputs: list[Tensor] = []
    for chunks in (1, 4):
        bench = make_bench(model, images, chunks=chunks, damping=1e-4)
        kept = random_kept(bench.graph)
        pruned = Slicer(model, bench.graph).build(kept).eval()
        Sequential().restore(bench, pruned, kept)
        outputs.append(pruned(images))
    torch.testing.assert_close(*outputs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_forward_pass_that_fails_in_one_chunk_is_heard(failing: int) -> None:
    small = NETWORKS["chain"]
    bench = make_bench(small.model(), small.images(12), chunks=3)
    kept = random_kept(bench.graph)
    calls: list[int] = []

    def fail(module: nn.Module, args: object, output: object) -> None:
        calls.append(len(calls))
        if len(calls) == failing + 1:
            raise RuntimeError("no more memory")

    pruned = Slicer(bench.model, bench.graph).build(kept).eval()
    handle = pruned[5].register_forward_hook(fail)  # type: ignore[index]
    with pytest.raises(RuntimeError, match="no more memory"):
        Sequential().restore(bench, pruned, kept)
    handle.remove()
    again = Slicer(bench.model, bench.graph).build(kept).eval()
    Sequential().restore(bench, again, kept)
    assert bool(again(small.images(4)).isfinite().all())


@pytest.mark.parametrize("threads", [1, 2])
def test_chunks_use_as_many_cores_as_was_set(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen: list[int] = []
        Lockstep(3).run(lambda index: seen.append(torch.get_num_threads()))
        assert seen == [threads] * 3
    finally:
        torch.set_num_threads(before)


COUNTS, JOINS = [1, 2, 2, 4], [0, 1, 3, 3]
"""Chunks at each meeting, and each chunk's first meeting."""


def test_late_chunks_start_when_the_meeting_before_theirs_is_over() -> None:
    lockstep, events = Lockstep(4), list[tuple[str, int]]()

    def chunk(index: int) -> None:
        events.append(("start", index))
        for turn in range(JOINS[index], len(COUNTS)):
            events.append(("come", index))
            lockstep.meet(index, lambda turn=turn: events.append(("meeting", turn)), COUNTS[turn])

    for _ in range(2):
        events.clear()
        lockstep.run(chunk)
        meetings = [i for i, (what, _) in enumerate(events) if what == "meeting"]
        assert [events[i][1] for i in meetings] == [0, 1, 2, 3]
        for turn, (start, end) in enumerate(zip([0, *meetings[:-1]], meetings, strict=True)):
            assert [who for what, who in events[start:end] if what == "come"] == list(range(COUNTS[turn]))
            started = [who for what, who in events[start:end] if what == "start"]
            assert started == [who for who, join in enumerate(JOINS) if join == turn]


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_a_failure_before_the_late_ones_have_come_ends_the_run(failing: int) -> None:
    lockstep = Lockstep(4)

    def chunk(index: int) -> None:
        for turn in range(JOINS[index], len(COUNTS)):
            if index == failing:
                raise ValueError("no more memory")
            lockstep.meet(index, lambda: None, COUNTS[turn])

    with pytest.raises(ValueError, match="no more memory"):
        lockstep.run(chunk)
    lockstep.run(lambda index: lockstep.meet(index, lambda: None))
