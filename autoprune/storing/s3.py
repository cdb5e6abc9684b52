"""Artifacts in a bucket: `s3://bucket/prefix` of Amazon or of any store that speaks its protocol."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO

from optuna.artifacts import Boto3ArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from autoprune.errors import StudyError

_FORM = "should be s3://bucket or s3://bucket/prefix"


class S3Store:
    """Optuna's store with a prefix, and errors in our words. Address and keys come from AWS's environment.

    These are AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and whatever else boto3 reads.
    Raises StudyError when the place is not well named or boto3 is not installed. Connects when first used.
    """

    def __init__(self, place: str) -> None:
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        if not bucket:
            raise StudyError(f"artifacts '{place}' {_FORM}.")
        try:
            import boto3  # noqa: F401
        except ImportError as error:
            message = f"artifacts '{place}' need boto3, which is not installed: pip install 'autoprune[s3]'."
            raise StudyError(message) from error
        self.place, self.bucket = place, bucket
        self.prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""

    def __getstate__(self) -> dict[str, Any]:
        # A connection stays in its process.
        return {"place": self.place, "bucket": self.bucket, "prefix": self.prefix}

    @cached_property
    def _store(self) -> Boto3ArtifactStore:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 8},
            # Stores other than Amazon's may not know the newest checksums; we keep a digest anyway.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        # A session of its own: the one that all threads share is not safe to make clients with.
        client = boto3.session.Session().client("s3", config=config)
        return Boto3ArtifactStore(self.bucket, client)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        with self._explained("read"), self._store.open_reader(self.prefix + artifact_id) as body:
            return io.BytesIO(body.read())

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        with self._explained("written"):
            self._store.write(self.prefix + artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        with self._explained("removed"):
            self._store.remove(self.prefix + artifact_id)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ArtifactNotFound:
            raise
        except (Boto3Error, BotoCoreError, ClientError, ValueError) as error:
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise StudyError(
                f"artifacts in '{self.place}' cannot be {what}: {text}; check the bucket, AWS_ENDPOINT_URL "
                "and the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."
            ) from error
