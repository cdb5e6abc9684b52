from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import optuna
import pytest
from optuna import Study
from optuna.artifacts import get_all_artifact_meta
from optuna.storages import InMemoryStorage
from optuna_dashboard import get_note

from autoprune.dashboard import DOCUMENTS, describe, make_server
from autoprune.errors import ConfigError, StudyError
from autoprune.searching.study import finished, front_of
from autoprune.storing.artifacts import Artifacts, open_artifacts
from autoprune.storing.storages import open_storage


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return open_artifacts(str(tmp_path / "artifacts"), None)


@contextmanager
def served(study: Study, artifacts: Artifacts) -> Iterator[str]:
    with make_server(study._storage, artifacts, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def get(url: str) -> bytes:
    with urlopen(url, timeout=30) as answer:
        content: bytes = answer.read()
    return content


def document(url: str) -> Any:
    return json.loads(get(url))


def test_the_pages_have_name_metrics_note_and_documents(study: Study, artifacts: Artifacts) -> None:
    assert describe(study, artifacts) == ["front.json", "front.md"]
    with served(study, artifacts) as url:
        (summary,) = document(f"{url}/api/studies")["study_summaries"]
        assert summary["study_name"] == "study"
        shown = document(f"{url}/api/studies/{summary['study_id']}?after=0")
        assert shown["objective_names"] == ["accuracy", "macs_ratio"] and len(shown["trials"]) >= 4
        assert shown["note"]["body"].startswith("# study\n") and "## Front" in shown["note"]["body"]
        numbers = {item["filename"]: item["artifact_id"] for item in shown["artifacts"]}
        found = document(f"{url}/artifacts/{summary['study_id']}/{numbers['front.json']}")
        assert found == json.loads(json.dumps(front_of(study).to_json()))
        assert b"| dense |" in get(f"{url}/artifacts/{summary['study_id']}/{numbers['front.md']}")
        assert b"<html" in get(f"{url}/dashboard").lower()


@pytest.mark.parametrize("server", ["postgres_url", "redis_url"])
def test_a_study_on_a_server(
    journal: str, artifacts: Artifacts, server: str, request: pytest.FixtureRequest
) -> None:
    storage = open_storage(request.getfixturevalue(server))
    optuna.copy_study(
        from_study_name="study", from_storage=open_storage(journal), to_storage=storage, to_study_name="study"
    )
    found = optuna.load_study(storage=storage, study_name="study")
    assert describe(found, artifacts) == list(DOCUMENTS) and describe(found, artifacts) == []
    with served(found, artifacts) as url:
        shown = document(f"{url}/api/studies/{found._study_id}?after=0")
        assert shown["note"]["body"].startswith("# study\n") and len(shown["artifacts"]) >= 2


def test_a_second_time_changes_nothing(study: Study, artifacts: Artifacts) -> None:
    describe(study, artifacts)
    before = study._storage.get_study_system_attrs(study._study_id)
    assert describe(study, artifacts) == []
    assert study._storage.get_study_system_attrs(study._study_id) == before


def test_a_front_that_grew_is_written_in_the_same_place(study: Study, artifacts: Artifacts) -> None:
    describe(study, artifacts)
    best = finished(study)[0]
    study.add_trial(
        optuna.trial.create_trial(values=[1.0, 1e-6], user_attrs=best.user_attrs, state=best.state)
    )
    assert describe(study, artifacts) == ["front.json", "front.md"]
    names = [meta.filename for meta in get_all_artifact_meta(study)]
    assert [names.count(name) for name in DOCUMENTS] == [1, 1]
    assert "| 100.00 % |" in get_note(study)


def test_without_a_place_for_artifacts_there_is_the_note(study: Study) -> None:
    nowhere = Artifacts(None, reason="no folder")
    assert describe(study, nowhere) == []
    with served(study, nowhere) as url:
        assert not document(f"{url}/api/meta")["artifact_is_available"]
        assert document(f"{url}/api/studies/{study._study_id}?after=0")["note"]["body"]


def test_a_study_of_another_program_is_left_alone(artifacts: Artifacts) -> None:
    other = optuna.create_study(storage=InMemoryStorage(), study_name="other")
    with pytest.raises(StudyError, match="was not made by autoprune"):
        describe(other, artifacts)
    assert get_note(other) == "" and not get_all_artifact_meta(other)


def test_a_port_that_is_taken_is_named(study: Study, artifacts: Artifacts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"listen on 127.0.0.1:{port}: .*--port"):
            make_server(study._storage, artifacts, "127.0.0.1", port)


def test_without_the_extra_it_says_what_to_install(
    study: Study, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'autoprune\[dashboard\]'"):
        describe(study, artifacts)
    with pytest.raises(ConfigError, match=r"pip install 'autoprune\[dashboard\]'"):
        make_server(study._storage, artifacts, "127.0.0.1", 0)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine speaks no IPv6")
def test_it_listens_on_an_address_of_either_kind(study: Study, artifacts: Artifacts) -> None:
    try:
        server = make_server(study._storage, artifacts, "::1", 0)
    except ConfigError as error:
        pytest.skip(str(error))
    with server:
        assert server.url.startswith("http://[::1]:")
