"""Studies that an earlier version wrote stay readable, and a search continues them; see make_kept.py."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from autoprune.errors import StudyError
from autoprune.searching import attributes as attr
from autoprune.searching.overview import overview
from autoprune.searching.study import check_ours, front_of, read_front, stored_study
from autoprune.storing.storages import open_storage
from tests.searching.make_kept import FOLDER, TRIALS, record, search_small

ROOT = Path(__file__).parents[2]
KEPT = sorted(FOLDER.glob("*.journal"))
NAMES = {"small": "study", "digits": "digits"}
IDS = [path.stem for path in KEPT]


def name_of(path: Path) -> str:
    return NAMES[path.stem.partition("-")[0]]


@pytest.mark.parametrize("path", KEPT, ids=IDS)
def test_a_kept_study_says_what_it_said(path: Path, tmp_path: Path) -> None:
    # A study that does not name its metric was judged by the accuracy.
    expected = {"metric": "accuracy", **json.loads(path.with_suffix(".json").read_text())}
    assert record(read_front(str(path), name_of(path))) == expected
    assert record(front_of(stored_study(str(path), name_of(path)))) == expected
    assert len(expected["trials"]) == TRIALS and expected["front"]


@pytest.mark.parametrize("path", KEPT, ids=IDS)
def test_a_kept_study_describes_itself(path: Path) -> None:
    study = stored_study(str(path), name_of(path))
    check_ours(study)
    assert f"schema{study.user_attrs[attr.SCHEMA_VERSION]}" in path.stem
    found = overview(study)
    assert found.made_by_autoprune and found.finished == TRIALS and found.best is not None
    for trial in study.get_trials():
        assert set(trial.user_attrs[attr.PROVENANCE]) >= {"model", "data", "seed", "versions"}


def test_this_version_s_schema_is_kept() -> None:
    assert {path.stem for path in KEPT} >= {f"small-schema{attr.SCHEMA}", f"digits-schema{attr.SCHEMA}"}


@pytest.mark.parametrize("path", [path for path in KEPT if path.stem.startswith("small")], ids=str)
def test_a_kept_study_continues(path: Path, tmp_path: Path) -> None:
    copied = tmp_path / "study.journal"
    shutil.copyfile(path, copied)
    before = record(read_front(str(copied), "study"))
    try:
        front = search_small(str(copied), TRIALS + 2)
    except StudyError as error:
        if "model" not in str(error):
            raise
        pytest.skip("this PyTorch draws other random weights from the same seed")
    assert len(front.trials) == TRIALS + 2
    assert record(front)["trials"][:TRIALS] == before["trials"]
    study = optuna.load_study(study_name="study", storage=open_storage(str(copied)))
    assert [trial.number for trial in study.get_trials()] == list(range(TRIALS + 2))


SCRIPT = """
import sys
from autoprune.cli import app
app(["front", "studies/digits.toml", "--storage", sys.argv[1]], standalone_mode=False)
print([name for name in ("torch", "scipy", "sklearn") if name in sys.modules])
"""


def test_a_front_is_printed_without_importing_what_takes_long() -> None:
    path = str(FOLDER / f"digits-schema{attr.SCHEMA}.journal")
    command = [sys.executable, "-c", SCRIPT, path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert f"of {TRIALS} finished trials" in done.stdout and done.stdout.endswith("[]\n")
