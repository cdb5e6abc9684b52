"""Studies continue, survive being killed, and refuse to be mistaken for others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna import Study
from optuna.trial import TrialState

from autoprune.errors import AutopruneError, BudgetError, ConfigError, DataError, StudyError
from autoprune.graph import count_macs
from autoprune.searching import attributes as attr
from autoprune.searching import running
from autoprune.searching.engine import Engine
from autoprune.searching.front import Front
from autoprune.searching.strategies import knapsack_sampler
from autoprune.searching.study import finished, read_front
from autoprune.storing import queueing
from autoprune.storing.marks import BROKEN, LOST, WORKER
from autoprune.storing.queueing import broken
from autoprune.storing.storages import open_storage
from tests.searching.conftest import engine_for
from tests.small import NETWORKS

MakeEngine = Callable[..., Engine]
ROOT = Path(__file__).parents[2]


def record(front: Front) -> list[dict[str, Any]]:
    return [point.to_json() for point in front.trials]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_point_is_what_it_says(make_engine: MakeEngine, network: str) -> None:
    engine = make_engine(network, trials=14, batch_removal=(1, 2))
    front = engine.search()
    assert len(front.trials) == 14 and len(front) >= 1
    example = engine.example
    for point in front.trials:
        built = point.build()
        assert engine.task.metric(built) == point.accuracy
        assert count_macs(built, example.args, example.kwargs) == point.macs
        assert sum(parameter.numel() for parameter in built.parameters()) == point.params
        assert {name: len(indices) for name, indices in point.kept.items()} == point.widths
        assert point.rates == {n: 1 - w / engine.graph.widths[n] for n, w in point.widths.items()}
        assert point.macs_ratio == point.macs / front.dense.macs and point.batch_removal in (1, 2)
        json.dumps(point.to_json(), allow_nan=False)
    assert front.dense.macs == count_macs(engine.task.model, example.args, example.kwargs)
    assert front.dense.accuracy == engine.task.metric(engine.task.model)


def test_a_timeout_starts_no_further_trial(make_engine: MakeEngine) -> None:
    engine = make_engine(trials=20)
    assert len(engine.search(timeout=0).trials) == 0
    assert len(engine.search(trials=2).trials) == 2


KILLED_AT = (1, 2, 9, 12)
"""Calls of the metric: one for the dense network, then one per trial and another where it joins the front."""

SCRIPT = """
import os, signal, sys
from pathlib import Path
from autoprune.searching.metrics import Accuracy
from autoprune.searching.study import finished
from tests.searching.conftest import engine_for

def deadly(path, calls):
    engine, left = engine_for(storage=path, trials=10), [calls]
    judge = Accuracy.observed
    def count_down(metric, network, observe):
        # Its smooth form, which judges on few images, does not count.
        left[0] -= type(metric) is Accuracy
        if left[0] == 0:
            done = finished(engine.study) if calls > 1 else []
            Path(path + ".finished").write_text(str(len(done)))
            os.kill(os.getpid(), signal.SIGKILL)
        return judge(metric, network, observe)
    Accuracy.observed = count_down
    engine.search()

_ = engine_for().graph  # torch.export takes seconds to import: once, before the forks
for calls in map(int, sys.argv[2:]):
    child = os.fork()
    if child == 0:
        deadly(f"{sys.argv[1]}/{calls}.journal", calls)
    else:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, status
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of studies whose search was killed at some call of the metric; one import serves all."""
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(folder), *map(str, KILLED_AT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def alone() -> list[dict[str, Any]]:
    """What the search finds when nobody disturbs it."""
    engine = engine_for(trials=10)
    return in_order(engine.study, record(engine.search()))


def in_order(study: optuna.Study, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points in order of completion, without their numbers."""
    ends = {trial.number: trial.datetime_complete for trial in study.get_trials(deepcopy=False)}
    ordered = sorted(points, key=lambda point: str(ends[point["trial"]]))
    return [{**point, "trial": None} for point in ordered]


@pytest.mark.parametrize("calls", KILLED_AT)
def test_kill_9_in_the_middle_loses_no_finished_trial(
    make_engine: MakeEngine, killed: Path, alone: list[dict[str, Any]], calls: int
) -> None:
    path = str(killed / f"{calls}.journal")
    before = record(read_front(path, "study")) if calls > 1 else []
    assert len(before) == int(Path(path + ".finished").read_text())
    assert (calls - 2) // 2 <= len(before) < calls
    assert len(make_engine(storage=path, trials=10).search().trials) == 10
    after = record(read_front(path, "study"))
    assert after[: len(before)] == before and len(after) == 10
    study = optuna.load_study(storage=open_storage(path), study_name="study")
    assert in_order(study, after) == alone, "resumed equals uninterrupted, trial for trial"
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    assert states.count(TrialState.RUNNING) == 0
    assert states.count(TrialState.FAIL) == (1 if calls > 1 else 0)
    lost = [trial.params for trial in study.get_trials() if trial.state is TrialState.FAIL]
    waiting = [t.system_attrs["fixed_params"] for t in study.get_trials() if t.state is TrialState.WAITING]
    assert all(params in [*waiting, *(trial.params for trial in finished(study))] for params in lost)


@pytest.mark.parametrize("moment", ["before it is drawn", "half drawn", "drawn", "measured"])
def test_a_draw_that_was_interrupted_comes_again(
    make_engine: MakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    whole = make_engine(batch_removal=(1, 2))
    warm = len(whole.strategy.warm_start())
    expected = in_order(whole.study, record(whole.search(trials=warm + 4)))
    path = str(tmp_path / "study.journal")
    first = make_engine(storage=path, batch_removal=(1, 2))
    first.search(trials=warm + 2)
    with monkeypatch.context() as patch:
        interrupt(patch, first, moment)
        with pytest.raises(KeyboardInterrupt):
            first.search(trials=warm + 4)
    second = make_engine(storage=path, batch_removal=(1, 2))
    assert in_order(second.study, record(second.search(trials=warm + 4))) == expected
    states = [trial.state for trial in second.study.get_trials(deepcopy=False)]
    assert states.count(TrialState.FAIL) == 1 and states.count(TrialState.RUNNING) == 0


def interrupt(patch: pytest.MonkeyPatch, engine: Engine, moment: str) -> None:
    """Let the next trial stop short, as if the process had gone."""

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    def half(trial: optuna.Trial, parameters: dict[str, Any]) -> None:
        queueing.suggest(trial, dict(list(parameters.items())[:2]))
        raise KeyboardInterrupt

    places = {
        "before it is drawn": (running.Run, "_propose", stop),
        "half drawn": (running, "suggest", half),
        "drawn": (running.Run, "_evaluate", stop),
        "measured": (running.Run, "_record", stop),
    }
    patch.setattr(*places[moment])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": 1}, "model"),
        ({"data": "other"}, "data"),
        ({"min_kept": 0.5}, "min_kept"),
        ({"multiple_of": 2}, "multiple_of"),
        ({"budget": {"macs": 0.9}}, "budget"),
        ({"criterion": "l1"}, "criterion"),
        ({"batch_removal": (1,)}, "batch_removal"),
        ({"reconstruction": "none"}, "reconstruction"),
        ({"damping": 0.5}, "damping"),
        ({"batch_norm": True}, "batch_norm"),
        ({"ignore": ("4",)}, "groups"),
    ],
)
def test_a_study_of_another_search_is_refused_by_field(
    make_engine: MakeEngine, tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    path = tmp_path / "study.journal"
    make_engine(storage=str(path), trials=1).search()
    before = path.read_bytes()
    engine = make_engine(storage=str(path), **change)
    with pytest.raises(StudyError, match=f"made for another search.*{field}.*stored") as caught:
        engine.search()
    assert "\n" not in str(caught.value)
    assert "profile" not in vars(engine) and "bench" not in vars(engine), "long work began"
    assert path.read_bytes() == before


def test_the_strategy_and_the_number_of_trials_may_change(make_engine: MakeEngine, tmp_path: Path) -> None:
    path = str(tmp_path / "study.journal")
    make_engine(storage=path, trials=2).search()
    assert len(make_engine(storage=path, trials=4, strategy="random").search().trials) == 4


def test_attributes_are_plain_json_and_enough_to_build_again(make_engine: MakeEngine, tmp_path: Path) -> None:
    path = str(tmp_path / "study.journal")
    first = make_engine(storage=path, trials=3)
    first.search()
    study = optuna.load_study(storage=open_storage(path, create=False), study_name="study")
    assert json.loads(json.dumps(study.user_attrs, allow_nan=False)) == study.user_attrs
    for trial in finished(study):
        stored = trial.user_attrs
        assert json.loads(json.dumps(stored, allow_nan=False)) == stored
        assert set(stored) >= {
            attr.WIDTHS,
            attr.KEPT,
            attr.COSTS,
            attr.BEFORE,
            attr.OUTPUT_ERROR,
            attr.CRITERION,
            attr.BATCH,
            attr.PROVENANCE,
            WORKER,
        }
        assert set(stored[attr.PROVENANCE]) == {"model", "data", "seed", "versions"}
        kept = attr.unpack_all(stored[attr.KEPT])
        assert first.task.metric(first.evaluator.build(kept)) == trial.values[0]
    assert study.metric_names == ["accuracy", "macs_ratio"]


@pytest.mark.parametrize("name", [attr.WIDTHS, attr.KEPT, attr.COSTS, attr.BEFORE, attr.BATCH])
def test_a_trial_without_an_attribute_is_damaged(make_engine: MakeEngine, tmp_path: Path, name: str) -> None:
    path = tmp_path / "study.journal"
    make_engine(storage=str(path), trials=2).search()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not ('"trial_id"' in line and f'"{name}"' in line)))
    with pytest.raises(StudyError, match="trial 0 of the study is damaged"):
        read_front(str(path), "study")


def test_studies_that_are_not_ours_are_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    path = str(tmp_path / "study.journal")
    study = optuna.create_study(
        storage=open_storage(path), study_name="study", directions=["maximize", "minimize"]
    )
    with pytest.raises(StudyError, match="not made by autoprune, or has not begun"):
        read_front(path, "study")
    study.add_trial(optuna.create_trial(values=[0.5, 0.5]))
    with pytest.raises(StudyError, match="not made by autoprune"):
        make_engine(storage=path).search()
    with pytest.raises(StudyError, match="holds no study 'other'; it holds: study"):
        read_front(path, "other")
    single = optuna.create_study(storage=open_storage(path), study_name="single")
    single.optimize(lambda trial: 1.0, n_trials=1)
    with pytest.raises(StudyError):
        read_front(path, "single")


def test_another_schema_is_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    path = str(tmp_path / "study.journal")
    make_engine(storage=path, trials=1).search()
    optuna.load_study(storage=open_storage(path), study_name="study").set_user_attr(attr.SCHEMA_VERSION, 99)
    for read in (lambda: read_front(path, "study"), lambda: make_engine(storage=path).search()):
        with pytest.raises(StudyError, match="schema 99"):
            read()


def test_reading_never_creates_a_storage(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "no.journal"
    with pytest.raises(StudyError, match="does not exist"):
        read_front(str(path), "study")
    assert not path.parent.exists()
    with pytest.raises(StudyError) as caught:
        read_front(f"sqlite:///{tmp_path}/no.db", "study")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "no.db").exists()


@pytest.mark.parametrize(
    "storage", ["folder", "file/inside.journal", "mysql://me:secret@nowhere/db", "odd://x"]
)
def test_storages_that_cannot_be_opened(tmp_path: Path, storage: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    path = storage if "://" in storage else str(tmp_path / storage)
    for create in (True, False):
        with pytest.raises(StudyError) as caught:
            open_storage(path, create=create)
        assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    for use in (lambda: make_engine(storage=str(path)).search(), lambda: read_front(str(path), "study")):
        with pytest.raises(StudyError):
            use()
        assert path.read_text() == "my notes\n"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"criterion": "secondmoment"}, ConfigError),
        ({"strategy": "simulated annealing"}, ConfigError),
        ({"reconstruction": "parallel"}, ConfigError),
        ({"budget": {"macs": 1e-6}}, BudgetError),
        ({"budget": {"flops": 0.5}}, ConfigError),
        ({"ignore": ("*",)}, AutopruneError),
    ],
)
def test_bad_options_are_refused_before_long_work(
    make_engine: MakeEngine, options: dict[str, Any], error: type[AutopruneError]
) -> None:
    with pytest.raises(error) as caught:
        engine = make_engine(**options)
        object.__setattr__(engine.task, "metric", None)
        engine.search()
    assert "\n" not in str(caught.value)


def failing(engine: Engine, *calls: int) -> None:
    """Let the metric be NaN at these calls, counted from 1."""
    metric, count = engine.task.metric, [0]

    def measured(network: Any) -> float:
        count[0] += 1
        return float("nan") if count[0] in calls else metric(network)

    object.__setattr__(engine.task, "metric", measured)


STRATEGIES = [("knapsack", {}), ("uniform", {}), ("random", {"warm": False}), ("nsga2", {"warm": True})]


@pytest.mark.parametrize(("strategy", "options"), STRATEGIES)
def test_a_candidate_that_cannot_be_measured_is_left_out(
    make_engine: MakeEngine, tmp_path: Path, strategy: str, options: dict[str, Any]
) -> None:
    path = str(tmp_path / "study.journal")

    def made(trials: int) -> Engine:
        return make_engine(storage=path, trials=trials, strategy=strategy, strategy_options=options)

    # The dense network, then each candidate, and those that join the front once more as they are sliced.
    engine = made(4)
    failing(engine, 2)
    front = engine.search()
    lost = broken(engine.study)
    assert len(front.trials) == 4 and len(lost) == 1
    assert all("finite number" in trial.user_attrs[BROKEN] for trial in lost)
    # Nor does a search that continues propose it again.
    more = made(6)
    assert len(more.search().trials) == 6
    tried = [tuple(sorted(trial.params.items())) for trial in [*finished(more.study), *lost]]
    assert len(set(tried)) == len(tried)


def test_some_that_cannot_be_measured_end_no_search(make_engine: MakeEngine) -> None:
    engine = make_engine(trials=8)
    failing(engine, 4, 7, 10, 13)
    assert len(engine.search().trials) == 8 and len(broken(engine.study)) >= 3


def test_many_candidates_that_cannot_be_measured_end_a_search(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    path = str(tmp_path / "study.journal")
    engine = make_engine(storage=path, trials=6)
    failing(engine, *range(4, 100))
    with pytest.raises(DataError, match=r"^5 of 6 candidates cannot be measured, trial 5 the last"):
        engine.search()
    assert len(make_engine(storage=path, trials=6).search().trials) == 6


@pytest.mark.parametrize("strategy", ["history", "rate-derivation"])
def test_a_strategy_that_goes_on_from_a_candidate_ends_at_a_broken_one(
    make_engine: MakeEngine, strategy: str
) -> None:
    engine = make_engine(trials=6, strategy=strategy)
    failing(engine, 2)
    with pytest.raises(DataError, match=r"^trial \d+ cannot be measured: .* ends here"):
        engine.search()
    assert len(broken(engine.study)) == 1


def test_a_plan_of_broken_candidates_alone_is_an_error(make_engine: MakeEngine) -> None:
    how = {"strategy": "fp-omp-search", "budget": {"macs": 0.8}, "batch_removal": (1,)}
    engine = make_engine(trials=6, **how)
    failing(engine, *range(2, 100))
    with pytest.raises(DataError, match="no candidate can be measured"):
        engine.search()


def test_a_broken_candidate_of_a_worker_held_dead_is_repeated(make_engine: MakeEngine) -> None:
    engine = make_engine(trials=3)
    metric, count = engine.task.metric, [0]

    def measured(network: Any) -> float:
        count[0] += 1
        if count[0] != 2:
            return metric(network)
        (trial,) = engine.study.get_trials(states=(TrialState.RUNNING,))
        engine.study._storage.set_trial_user_attr(trial._trial_id, LOST, "held dead")
        engine.study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
        return float("nan")

    object.__setattr__(engine.task, "metric", measured)
    assert len(engine.search().trials) == 3 and not broken(engine.study)


def test_what_is_only_considered_may_be_broken(make_engine: MakeEngine) -> None:
    engine = make_engine(trials=4, strategy="knapsack")
    rung, judged = engine.rung, [0]
    judge = rung._judge

    def sometimes(network: Any) -> tuple[float, float]:
        judged[0] += 1
        accuracy, error = judge(network)
        return (float("nan") if judged[0] % 3 else accuracy), error

    rung._judge = sometimes  # type: ignore[method-assign]
    assert len(engine.search().trials) == 4 and not broken(engine.study)


def test_a_walk_by_accuracy_goes_around_what_is_broken(make_engine: MakeEngine) -> None:
    options = {"measure": "accuracy", "images": 16}
    engine = make_engine(trials=2, strategy="fp-omp-search", strategy_options=options, batch_removal=(2,))
    metric, width = engine.task.metric, engine.graph.groups[0].width

    class Breaking(type(metric)):  # type: ignore[misc]
        def __call__(self, network: Any) -> float:
            first = next(iter(network.parameters()))
            return float("nan") if len(first) < width else super().__call__(network)

    breaking = Breaking.__new__(Breaking)
    vars(breaking).update(vars(metric))
    object.__setattr__(engine.task, "metric", breaking)
    first = engine.graph.groups[0].name
    assert all(point.widths[first] == width for point in engine.search().trials)


def test_of_searches_that_begin_at_once_one_describes_the_study(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    storage, meet = str(tmp_path / "study.journal"), threading.Barrier(2)

    # Made one after the other: their weights follow a seed of the whole process.
    engines = [make_engine(storage=storage, damping=damping) for damping in (0.5, 0.25)]
    _ = [engine.space for engine in engines]

    def begin(engine: Engine) -> Study | StudyError:
        meet.wait()
        try:
            return engine.study
        except StudyError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(begin, engines))
    made, refused = sorted(found, key=lambda one: isinstance(one, StudyError))
    assert isinstance(made, Study) and isinstance(refused, StudyError) and "damping: stored" in str(refused)
    damping = made.user_attrs[attr.IDENTITY]["damping"]
    assert isinstance(found[(0.5, 0.25).index(damping)], Study)
    assert len(make_engine(storage=storage, damping=damping, trials=1).search().trials) == 1


def test_an_objective_that_was_left_out_is_named(make_engine: MakeEngine, tmp_path: Path) -> None:
    storage = str(tmp_path / "study.journal")
    make_engine(storage=storage, trials=1).search()
    with pytest.raises(StudyError, match="objective: stored 'macs', now 'params'"):
        make_engine(storage=storage, objective="params").search()


def test_several_points_are_restored_after_one_calibration(make_engine: MakeEngine) -> None:
    engine = make_engine(trials=2)
    points = engine.search().trials
    first, second = (engine.rebuild(point, "independent", {}) for point in points)
    assert first is not second
    assert engine._restoring("independent", {}) is engine._restoring("independent", {})
    assert engine._restoring("independent", {}) is not engine._restoring("sequential", {"rounds": 1})


def test_what_a_candidate_was_before_may_be_no_number(make_engine: MakeEngine) -> None:
    engine = make_engine(trials=3)
    # The second time for the first candidate: after restoration it was measured.
    failing(engine, 3)
    trials = engine.search().trials
    assert len(trials) == 3 and not broken(engine.study)
    assert finished(engine.study)[0].user_attrs[attr.BEFORE] is None


def test_nothing_is_considered_twice_for_one_trial(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing promises enough, so that several targets are looked at, the same ones again too.
    monkeypatch.setattr(knapsack_sampler, "PROMISING", 1e9)
    engine = make_engine("residual", trials=8, strategy_options={"targets": [0.3, 0.5, 0.7]})
    engine.search()
    counts = []
    for trial in finished(engine.study):
        considered = [(one["batch"], *one["counts"]) for one in trial.user_attrs.get(attr.TRIED, [])]
        assert len(set(considered)) == len(considered)
        counts.append(len(considered))
    assert max(counts) > 4, "more than the draws of one look"
