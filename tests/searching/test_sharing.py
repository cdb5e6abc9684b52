"""One worker calibrates and measures curves; the others read them, and get the same trials."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage

from autoprune.errors import StudyError
from autoprune.searching import attributes as attr
from autoprune.searching import calibrating
from autoprune.searching import engine as engine_module
from autoprune.searching.engine import Engine
from autoprune.searching.front import Front
from autoprune.searching.packing import pack_profile
from autoprune.storing.artifacts import Artifacts, open_artifacts
from autoprune.storing.claims import CLAIM
from autoprune.storing.storages import open_storage

MakeEngine = Callable[..., Engine]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "study.journal")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was computed, in order: calibrations and profiles."""
    found: list[str] = []

    def noted(module: ModuleType, name: str) -> None:
        function = getattr(module, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            found.append(name)
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, wrapper)

    noted(calibrating, "calibrate")
    noted(engine_module, "make_profile")
    return found


def record(front: Front) -> list[dict[str, Any]]:
    return [point.to_json() for point in front.trials]


def shared(engine: Engine, name: str = "") -> dict[str, Any]:
    """The references that the study holds."""
    attributes = engine.study.user_attrs
    start = attr.SHARED + name
    return {key: value for key, value in attributes.items() if key.startswith(start) and CLAIM not in key}


HOW: dict[str, dict[str, Any]] = {
    "sequential": {},
    "independent": {"reconstruction": "independent"},
    "fp-omp-search": {"strategy": "fp-omp-search", "criterion": "omp", "batch_removal": (2,)},
    "assessed": {"strategy": "fp-omp-search", "reconstruction": "none", "trials": 4, "batch_removal": (2,)},
}


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_a_second_worker_computes_nothing_and_finds_the_same(
    make_engine: MakeEngine, path: str, how: dict[str, Any], made: list[str]
) -> None:
    alone = make_engine(**how).search()
    half = len(alone.trials) // 2
    made.clear()
    make_engine(storage=path, **how).search(trials=half)
    assert made == ["calibrate", "make_profile"]
    second = make_engine(storage=path, **how)
    assert record(second.search()) == record(alone)
    assert made == ["calibrate", "make_profile"], "the second worker computed"
    assert len(shared(second, "profile.")) == len(shared(second, "moments.")) == 1
    claims = [value for key, value in second.study.user_attrs.items() if CLAIM in key]
    assert claims and all(claim == {} for claim in claims)


def test_second_moments_are_kept_only_where_trials_read_them(
    make_engine: MakeEngine, path: str, made: list[str]
) -> None:
    make_engine(storage=path, reconstruction="none", trials=2).search()
    assert made == ["calibrate", "make_profile"]
    second = make_engine(storage=path, reconstruction="none", trials=3)
    second.search()
    assert len(made) == 2 and shared(second, "moments.") == {} and len(shared(second)) == 1


def test_second_moments_that_are_large_are_not_kept(
    make_engine: MakeEngine, path: str, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrating, "MOST_BYTES", 1000)
    whole = make_engine(trials=4).search()
    made.clear()
    make_engine(storage=path, trials=2).search()
    second = make_engine(storage=path, trials=4)
    assert record(second.search()) == record(whole)
    assert made == ["calibrate", "make_profile", "calibrate"] and shared(second, "moments.") == {}


def test_without_images_nothing_is_calibrated(make_engine: MakeEngine, path: str, made: list[str]) -> None:
    for trials in (2, 4):
        make_engine(storage=path, criterion="l1", reconstruction="none", trials=trials).search()
    assert made == ["make_profile"]


def files(folder: str) -> list[Path]:
    return sorted(Path(f"{folder}.artifacts").iterdir())


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "deleted": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "torn": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "flipped": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\x01"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_artifacts_are_made_again_and_no_trial_is_lost(
    make_engine: MakeEngine,
    path: str,
    damage: Callable[[Path], Any],
    made: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = make_engine(trials=6).search()
    make_engine(storage=path, trials=3).search()
    for file in files(path):
        damage(file)
    made.clear()
    assert record(make_engine(storage=path, trials=5).search()) == record(whole)[:5]
    assert made == ["calibrate", "make_profile"]
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING and "made again" in r.message]
    assert len(warnings) == 2
    assert record(make_engine(storage=path, trials=6).search()) == record(whole)
    assert len(made) == 2, "what was made again is kept"


@pytest.mark.parametrize("reference", [None, 7, {}, {"artifact": "x", "sha256": 1}])
def test_a_damaged_reference_is_replaced(
    make_engine: MakeEngine, path: str, reference: Any, made: list[str]
) -> None:
    engine = make_engine(storage=path, trials=2)
    engine.search()
    for key in shared(engine):
        engine.study.set_user_attr(key, reference)
    made.clear()
    again = make_engine(storage=path, trials=4)
    assert len(again.search().trials) == 4 and made == ["calibrate", "make_profile"]
    assert all(value["artifact"] for value in shared(again).values())


def test_a_profile_of_another_network_is_not_taken(
    make_engine: MakeEngine, path: str, tmp_path: Path, made: list[str]
) -> None:
    other = make_engine("residual")
    engine = make_engine(storage=path, trials=2)
    engine.search()
    (key,) = shared(engine, "profile.")
    content = pack_profile(other.profile)
    engine.study.set_user_attr(key, engine.artifacts.save(engine.study, "profile.safetensors", content))
    made.clear()
    again = make_engine(storage=path, trials=3)
    again.search()
    assert made == ["make_profile"] and pack_profile(again.profile) == pack_profile(engine.profile)


def test_another_seed_has_a_profile_of_its_own(make_engine: MakeEngine, path: str, made: list[str]) -> None:
    def engine(seed: int, trials: int) -> Engine:
        found = make_engine(storage=path, criterion="random", trials=trials)
        options = engine_module.replace(found.options, seed=seed)
        return Engine(found.task, options, found.storage, artifacts=found.artifacts)

    first, second = engine(0, 1), engine(1, 2)
    first.search()
    second.search()
    assert made == ["calibrate", "make_profile", "make_profile"], "second moments do not depend on the seed"
    assert pack_profile(first.profile) != pack_profile(second.profile)
    for seed, like in ((0, first), (1, second)):
        again = engine(seed, 2)
        again.search()
        assert pack_profile(again.profile) == pack_profile(like.profile)
    assert len(made) == 3 and len(shared(first, "profile.")) == 2


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_that_start_together_compute_once(
    make_engine: MakeEngine, path: str, made: list[str], workers: int
) -> None:
    engines = [make_engine(storage=path) for _ in range(workers)]
    profiles: dict[int, bytes] = {}
    ready = threading.Barrier(workers)

    def work(number: int) -> None:
        ready.wait()
        engines[number].prepare()
        profiles[number] = pack_profile(engines[number].profile)
        assert len(engines[number].bench.statistics.moments) == 3

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    _ = engines[0].study
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["calibrate", "make_profile"]
    assert len(profiles) == workers and len(set(profiles.values())) == 1


SCRIPT = """
import sys, time
from autoprune.searching import engine as module
from tests.searching.conftest import engine_for
real = module.make_profile
def slow(*args, **kwargs):
    print("makes", flush=True)
    time.sleep(float(sys.argv[2]))
    return real(*args, **kwargs)
module.make_profile = slow
engine = engine_for(storage=sys.argv[1])
engine.prepare()
print("ready", flush=True)
"""


def worker(path: str, seconds: float) -> subprocess.Popen[str]:
    """A process that prepares the study; its profile takes so many seconds longer."""
    command = [sys.executable, "-c", SCRIPT, path, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_a_process_waits_for_another_and_takes_over_when_it_is_killed(
    make_engine: MakeEngine, path: str, made: list[str]
) -> None:
    alone = make_engine(trials=3).search()
    made.clear()
    with worker(path, 600.0) as process:
        assert process.stdout is not None and process.stdout.readline() == "makes\n"
        engine = make_engine(storage=path, trials=3)
        said: list[str] = []
        engine.progress.message = said.append  # type: ignore[method-assign]
        timer = threading.Timer(1.5, process.kill)
        timer.start()
        start = time.monotonic()
        found = engine.search()
        assert time.monotonic() - start >= 1.0
        assert len(said) == 1 and "waiting for the profile" in said[0] and f"/{process.pid}/" in said[0]
    assert record(found) == record(alone)
    assert made == ["make_profile"], "the killed worker had shared its second moments"


def test_a_process_gets_what_another_makes(make_engine: MakeEngine, path: str, made: list[str]) -> None:
    with worker(path, 1.0) as process:
        assert process.stdout is not None and process.stdout.readline() == "makes\n"
        found = make_engine(storage=path, trials=3).search()
        assert process.stdout.readline() == "ready\n"
    assert made == []
    assert record(found) == record(make_engine(trials=3).search())


def test_a_failed_worker_gives_its_claim_back(
    make_engine: MakeEngine, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise StudyError("no luck")

    with monkeypatch.context() as patch, pytest.raises(StudyError, match="no luck"):
        patch.setattr(engine_module, "make_profile", fails)
        make_engine(storage=path).search()
    assert len(make_engine(storage=path).search(trials=2).trials) == 2


def test_without_a_place_every_worker_computes_and_is_told_why(
    make_engine: MakeEngine, path: str, made: list[str]
) -> None:
    for trials in (2, 4):
        plain = make_engine(trials=trials)
        nowhere = Artifacts(None, reason="set 'artifacts' in the study file.")
        engine = Engine(plain.task, plain.options, open_storage(path), artifacts=nowhere)
        said: list[str] = []
        engine.progress.message = said.append  # type: ignore[method-assign]
        front = engine.search()
        assert len(said) == 1 and "set 'artifacts'" in said[0] and shared(engine) == {}
    assert made == ["calibrate", "make_profile"] * 2
    assert record(front) == record(make_engine(trials=4).search())


def test_a_place_that_cannot_be_written_stops_no_search(
    make_engine: MakeEngine, path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    plain = make_engine(trials=3)
    places = open_artifacts(str(tmp_path / "file"), path)
    engine = Engine(plain.task, plain.options, open_storage(path), artifacts=places)
    assert record(engine.search()) == record(plain.search())
    assert "cannot be shared" in caplog.text and "artifacts cannot be written" in caplog.text


def test_building_reads_what_is_shared_and_writes_nothing(
    make_engine: MakeEngine, path: str, made: list[str]
) -> None:
    front = make_engine(storage=path, trials=3).search()
    made.clear()
    front_again = make_engine(storage=path, trials=3).front()
    for mine, theirs in zip(front.trials, front_again.trials, strict=True):
        wanted, found = mine.build().state_dict(), theirs.build().state_dict()
        assert all(tensor.equal(found[name]) for name, tensor in wanted.items())
    assert made == []
    for file in files(path):
        file.unlink()
    before = Path(path).read_bytes()
    make_engine(storage=path, trials=3).front().trials[1].build()
    assert made == ["calibrate"] and Path(path).read_bytes() == before and files(path) == []


def test_in_memory_nothing_is_kept(make_engine: MakeEngine) -> None:
    engine = make_engine(trials=2)
    engine.search()
    assert isinstance(engine.storage, InMemoryStorage) and shared(engine) == {}
    optuna.delete_study(study_name="study", storage=engine.storage)
