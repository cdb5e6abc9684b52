from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna import Study

from autoprune.errors import StudyError
from autoprune.storing.artifacts import Artifacts, open_artifacts

PLACE = "s3://bucket/deep/prefix"


@pytest.fixture
def study() -> Study:
    return optuna.create_study()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket in memory."""
    moto = pytest.importorskip("moto")
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with moto.mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        yield client
        client.close()


@pytest.fixture(params=["folder", "memory", "s3"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    if request.param == "s3":
        request.getfixturevalue("bucket")
    return open_artifacts({"folder": str(tmp_path / "a"), "memory": None, "s3": PLACE}[request.param], None)


def test_what_is_saved_is_loaded(artifacts: Artifacts, study: Study) -> None:
    artifacts.check()
    content = bytes(range(256)) * 100
    for owner in (study, study.ask()):
        reference = artifacts.save(owner, "weights.safetensors", content)
        assert artifacts.load(reference, "the weights", "again.") == content
    other = artifacts.replace(reference, b"other")
    assert other["artifact"] == reference["artifact"] and artifacts.load(other, "it", "again.") == b"other"
    with pytest.raises(StudyError, match=r"the weights \(artifact .*damaged: its digest is another; copy it"):
        artifacts.load(reference, "the weights", "copy it.")


def test_what_is_missing_is_said(artifacts: Artifacts, study: Study) -> None:
    reference = artifacts.save(study, "weights", b"content")
    assert artifacts.store is not None
    artifacts.store.remove(reference["artifact"])
    with pytest.raises(StudyError, match=r"the weights should be artifact .*but it is missing; copy it"):
        artifacts.load(reference, "the weights", "copy it.")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "", None, 7, "x" * 36])
def test_a_reference_never_leaves_the_place(artifacts: Artifacts, name: Any) -> None:
    with pytest.raises(StudyError, match="should be named by artifact and sha256"):
        artifacts.load({"artifact": name, "sha256": "0" * 64}, "the weights", "again.")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, study: Study) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"cannot be written to .*file/a.*set 'artifacts'"):
        open_artifacts(str(tmp_path / "file" / "a"), None).save(study, "weights", b"content")


def test_artifacts_lie_under_the_prefix(bucket: Any, study: Study) -> None:
    for place, prefix in ((PLACE, "deep/prefix/"), (f"{PLACE}/", "deep/prefix/"), ("s3://bucket", "")):
        reference = open_artifacts(place, "postgresql://host/base").save(study, "weights", b"content")
        found = bucket.get_object(Bucket="bucket", Key=prefix + reference["artifact"])
        assert found["Body"].read() == b"content"


def test_a_bucket_in_trouble_is_said(bucket: Any, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = open_artifacts(PLACE, None).save(study, "weights", b"content")
    absent = open_artifacts("s3://absent/x", None)
    with pytest.raises(StudyError, match=r"'s3://absent/x' cannot be written: .*bucket.*AWS_ENDPOINT_URL"):
        absent.save(study, "weights", b"content")
    damaged = open_artifacts(PLACE, None)
    bucket.put_object(Bucket="bucket", Key=f"deep/prefix/{reference['artifact']}", Body=b"contenT")
    with pytest.raises(StudyError, match="damaged"):
        damaged.load(reference, "the weights", "again.")


def test_the_address_of_a_store_comes_from_the_environment(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    artifacts = open_artifacts(PLACE, None)
    assert isinstance(artifacts.store, object)
    with pytest.raises(StudyError, match=r"cannot be written: .*127\.0\.0\.1:1") as caught:
        artifacts.save(study, "weights", b"content")
    assert "secret" not in str(caught.value)


def test_a_store_can_be_sent_to_another_process(bucket: Any, study: Study) -> None:
    artifacts = open_artifacts(PLACE, None)
    reference = artifacts.save(study, "weights", b"content")
    again = pickle.loads(pickle.dumps(artifacts))
    assert again.load(reference, "the weights", "again.") == b"content"


def test_places_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("gs://bucket/x", "s3:///x", "http://me:secret@host/x"):
        with pytest.raises(StudyError, match="s3://bucket/prefix") as caught:
            open_artifacts(place, None)
        assert "secret" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StudyError, match=r"pip install 'autoprune\[s3\]'"):
        open_artifacts(PLACE, None)


@pytest.mark.parametrize("storage", ["postgresql://me:secret@host/b", "redis://:secret@host/0", "grpc://h:1"])
def test_servers_have_no_folder_of_their_own(storage: str) -> None:
    with pytest.raises(StudyError, match=r"set 'artifacts'.*s3://bucket/prefix") as caught:
        open_artifacts(None, storage).check()
    assert "secret" not in str(caught.value)
    open_artifacts("folder", storage).check()
