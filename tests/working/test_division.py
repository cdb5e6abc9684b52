from __future__ import annotations

import pytest
import torch

from autoprune.working.division import device_for, gpu_share, share_of, threads_each


@pytest.mark.parametrize(
    ("cpus", "workers", "threads"), [(8, 1, 8), (8, 2, 4), (8, 3, 2), (8, 8, 1), (2, 5, 1), (1, 1, 1)]
)
def test_cpus_are_divided_and_nobody_is_left_without(cpus: int, workers: int, threads: int) -> None:
    assert share_of(cpus, workers) == threads


def test_workers_use_no_more_threads_than_this_process() -> None:
    assert threads_each(1) <= torch.get_num_threads()
    assert threads_each(1_000) == 1


@pytest.mark.parametrize(
    ("wanted", "devices", "given"),
    [
        (None, 0, [None] * 3),
        (None, 1, [None] * 3),
        (None, 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda", 0, ["cuda"] * 3),
        ("cuda", 1, ["cuda:0"] * 3),
        ("cuda", 3, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda:1", 3, ["cuda:1"] * 3),
        ("cpu", 3, ["cpu"] * 3),
    ],
)
def test_devices_go_round_unless_one_is_named(
    wanted: str | None, devices: int, given: list[str | None]
) -> None:
    assert [device_for(wanted, index, devices) for index in range(3)] == given


@pytest.mark.parametrize("workers", range(1, 9))
@pytest.mark.parametrize("gpus", range(1, 5))
def test_every_worker_finds_a_place_on_the_gpus(workers: int, gpus: int) -> None:
    share = gpu_share(workers, gpus)
    assert 0 < share <= 1 and int(1 / share + 1e-9) * gpus >= workers
    assert gpu_share(workers, 0) == 0
