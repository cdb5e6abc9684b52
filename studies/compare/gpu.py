"""Candidates per second on a device, and how near that is to what plain forward passes would allow.

    python studies/compare/gpu.py studies/cifar10-resnet56.toml --device cuda --workers 4 --out gpu.json
    python studies/compare/gpu.py studies/digits.toml --device cpu --images 256 --candidates 5 --profile

A candidate is sliced, restored over the calibration images and evaluated on the validation images. The limit
is the same forward passes of the sliced network and nothing else: one over the calibration images (batched as
the faster of whole chunks and smaller batches), one over the validation images. Candidates keep one share of
every group's channels, from 55 % to 95 %. Medians after a warm-up, the device synchronised around each
timing. `--workers` measures as well how many a second so many processes get through on the one device, as the
workers of a study do. `--profile` adds the operators that most time goes to, by torch.profiler.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from autoprune.graph.groups import Kept
from autoprune.searching.engine import Engine
from autoprune.session import Session
from candidates import Batches, faster, open_session, restoring, uniform_candidate
from records import Record
from timing import forward, medians, seconds

TOP = 15
SHARES = (0.55, 0.95)
PARTS = ("slice", "reconstruct", "evaluate")
LIMIT = ("plain, calibration", "plain, validation")


def measure(session: Session, count: int) -> dict[str, Any]:
    """Seconds of each candidate's parts and of its limit; one more candidate warms up."""
    engine = session.engine
    kept = candidates(engine, count)
    batching, batches = faster(engine.evaluator.sliced(kept[0]), engine.bench.chunks, session.device)
    _reset_memory(session.device)
    rows = [one(session, candidate, batches) for candidate in (kept[0], *kept)][1:]
    times = {name: [row[name] for row in rows] for name in (*PARTS, *LIMIT)}
    return {
        "batching": batching,
        "images": {
            "calibration": sum(chunk.size for chunk in engine.bench.chunks),
            "validation": sum(batch.size for batch in engine.task.probe),
        },
        "seconds": times,
        "medians": medians(times),
        **rates(times),
        "device_state": device_state(session.device),
    }


def candidates(engine: Engine, count: int) -> list[Kept]:
    """They are what is timed; what is made once a search is made here."""
    _ = engine.evaluator, engine.bench.targets
    return [uniform_candidate(engine, float(share)) for share in np.linspace(*SHARES, count)]


def one(session: Session, kept: Kept, batches: Batches) -> dict[str, float]:
    """Seconds of one candidate's parts, and of the plain forward passes of the same network and images."""
    engine, device = session.engine, session.device
    found = {"slice": seconds(lambda: engine.evaluator.sliced(kept), device)}
    # The working network, which is this candidate until another is sliced.
    network = engine.evaluator.sliced(kept)
    found["reconstruct"] = seconds(restoring(engine, network, kept), device)
    found["evaluate"] = seconds(lambda: engine.task.metric(network), device)
    for name, images in zip(LIMIT, (batches, list(engine.task.probe)), strict=True):
        found[name] = seconds(partial(forward, network, images), device)
    return found


def rates(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Medians over candidates: how many a second, and the limit's share of a candidate's time, 1 best."""
    whole = [sum(values) for values in zip(*(times[part] for part in PARTS), strict=True)]
    limit = [sum(values) for values in zip(*(times[part] for part in LIMIT), strict=True)]
    return {
        "candidates_per_second": 1.0 / statistics.median(whole),
        "limit_candidates_per_second": 1.0 / statistics.median(limit),
        "share_of_limit": statistics.median(b / a for a, b in zip(whole, limit, strict=True)),
    }


def together(options: argparse.Namespace, limit: float) -> dict[str, Any]:
    """Candidates a second of `--workers` processes on one device; `limit` is that of one process's passes."""
    spawn = multiprocessing.get_context("spawn")
    barrier, spans = spawn.Barrier(options.workers), spawn.Queue()
    settings = (options.study, options.images, options.device, options.threads, options.candidates)
    processes = [spawn.Process(target=_work, args=(settings, barrier, spans)) for _ in range(options.workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        return {"workers": options.workers, "failed": "a process ended early, see its message"}
    found = [spans.get() for _ in processes]
    seconds = max(stop for _, stop in found) - min(start for start, _ in found)
    rate = options.workers * options.candidates / seconds
    return {"workers": options.workers, "candidates_per_second": rate, "share_of_limit": rate / limit}


def _work(settings: Sequence[Any], barrier: Any, spans: Any) -> None:
    study, images, device, threads, count = settings
    torch.set_num_threads(threads)
    try:
        session = open_session(study, images=images, device=device)
        kept = candidates(session.engine, count)
        _restore_and_evaluate(session, kept[0])
    except BaseException:
        # The others must not wait for a process that is gone: so many may not fit on the device.
        barrier.abort()
        raise
    barrier.wait()
    start = time.time()
    for candidate in kept:
        _restore_and_evaluate(session, candidate)
    spans.put((start, time.time()))


def _restore_and_evaluate(session: Session, kept: Kept) -> None:
    # The metric is a number: nothing is left running on the device.
    session.engine.task.metric(session.engine.evaluator.restored(kept))


def operators(session: Session) -> list[dict[str, Any]]:
    """The operators of one candidate's reconstruction and evaluation, those of most own time first."""
    engine, cuda = session.engine, session.device.type == "cuda"
    kept = uniform_candidate(engine, 0.7)
    network = engine.evaluator.sliced(kept)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as found:
        restoring(engine, network, kept)()
        engine.task.metric(network)
    own = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(found.key_averages(), key=lambda event: getattr(event, own), reverse=True)
    whole = sum(getattr(event, own) for event in events)
    return [
        {
            "operator": event.key,
            "calls": event.count,
            "self_seconds": getattr(event, own) / 1e6,
            "share": getattr(event, own) / whole,
        }
        for event in events[:TOP]
    ]


def device_state(device: torch.device) -> dict[str, Any]:
    """What decides a GPU's numbers besides its name; empty for a processor."""
    if device.type != "cuda":
        return {}
    return {
        "peak_memory_mb": torch.cuda.max_memory_allocated(device) / 2**20,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def _reset_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def summary(found: Mapping[str, Any]) -> str:
    lines = ["| part | median seconds |", "|---|---|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in found["medians"].items()]
    lines += [
        f"| candidates per second | {found['candidates_per_second']:.3f} |",
        f"| the limit's | {found['limit_candidates_per_second']:.3f} |",
        f"| share of the time that plain forward passes take | {found['share_of_limit']:.1%} |",
    ]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in found["device_state"].items())])


def together_line(found: Mapping[str, Any]) -> str:
    if "failed" in found:
        return f"{found['workers']} processes: {found['failed']}"
    rate, share = found["candidates_per_second"], found["share_of_limit"]
    return f"{found['workers']} processes: {rate:.3f} candidates a second, {share:.1%} of the limit"


def operator_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| operator | calls | self seconds | share |", "|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['operator']} | {row['calls']} | {row['self_seconds']:.4f} | {row['share']:.1%} |"
        )
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--images", type=int, help="calibration and validation images, each, at most")
    parser.add_argument("--workers", type=int, default=1, help="processes on the one device, measured too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--profile", action="store_true", help=f"the {TOP} operators of most self time")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    session = open_session(options.study, images=options.images, device=options.device)
    record = Record(options.out, vars(options), session.device)
    found = measure(session, options.candidates)
    record.write(**found)
    print(summary(found), flush=True)
    if options.workers > 1:
        found["together"] = together(options, found["limit_candidates_per_second"])
        record.write(**found)
        print(together_line(found["together"]), flush=True)
    if options.profile:
        rows = operators(session)
        record.write(**found, operators=rows)
        print(f"\n{operator_table(rows)}")


if __name__ == "__main__":
    main()
