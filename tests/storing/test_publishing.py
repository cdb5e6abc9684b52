from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna import Study
from optuna.artifacts import get_all_artifact_meta

from autoprune.storing.artifacts import Artifacts, open_artifacts
from autoprune.storing.publishing import publish


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return open_artifacts(str(tmp_path / "artifacts"), None)


def listed(study: Study, artifacts: Artifacts) -> dict[str, bytes]:
    """What the study's artifacts hold; fails where two have one name."""
    metas = get_all_artifact_meta(study)
    assert len({meta.filename for meta in metas}) == len(metas) and artifacts.store is not None
    found = {}
    for meta in metas:
        with artifacts.store.open_reader(meta.artifact_id) as file:
            found[meta.filename] = file.read()
    return found


def test_what_has_not_changed_is_not_written_again(study: Study, artifacts: Artifacts) -> None:
    documents = {"a.md": b"one", "b.json": b"{}"}
    assert publish(study, artifacts, documents) == ["a.md", "b.json"]
    assert publish(study, artifacts, documents) == []
    assert listed(study, artifacts) == documents


def test_a_change_takes_the_place_of_what_was_there(study: Study, artifacts: Artifacts) -> None:
    publish(study, artifacts, {"a.md": b"one", "b.json": b"{}"})
    before = {meta.artifact_id for meta in get_all_artifact_meta(study)}
    assert publish(study, artifacts, {"a.md": b"two", "b.json": b"{}"}) == ["a.md"]
    assert listed(study, artifacts) == {"a.md": b"two", "b.json": b"{}"}
    assert {meta.artifact_id for meta in get_all_artifact_meta(study)} == before


def test_another_process_goes_on_where_the_first_stopped(artifacts: Artifacts, tmp_path: Path) -> None:
    from autoprune.storing.storages import open_storage

    for content in (b"one", b"one", b"two"):
        storage = open_storage(str(tmp_path / "s.journal"))
        study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
        publish(study, artifacts, {"a.md": content})
    assert listed(study, artifacts) == {"a.md": b"two"}


def test_a_lost_file_and_a_deleted_artifact_come_back(
    study: Study, artifacts: Artifacts, tmp_path: Path
) -> None:
    publish(study, artifacts, {"a.md": b"one"})
    (meta,) = get_all_artifact_meta(study)
    (tmp_path / "artifacts" / meta.artifact_id).unlink()
    assert publish(study, artifacts, {"a.md": b"one"}) == ["a.md"]
    assert listed(study, artifacts) == {"a.md": b"one"}
    # As the dashboard deletes: the file, and what the study says of it.
    (tmp_path / "artifacts" / meta.artifact_id).unlink()
    study._storage.set_study_system_attr(study._study_id, f"artifacts:{meta.artifact_id}", json.dumps(None))
    assert publish(study, artifacts, {"a.md": b"one"}) == ["a.md"]
    assert publish(study, artifacts, {"a.md": b"one"}) == []
    assert len(list((tmp_path / "artifacts").iterdir())) == 1
