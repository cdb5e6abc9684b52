"""Documents of a study: artifacts under a fixed name, replaced when their content changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna import Study

from autoprune.errors import StudyError
from autoprune.storing.artifacts import Artifacts

DOCUMENTS = "autoprune.documents"
"""Attribute of a study: name of a document -> its artifact."""


def publish(study: Study, artifacts: Artifacts, documents: Mapping[str, bytes]) -> Sequence[str]:
    """Store documents under the study; the names of those that were new or had changed.

    A document keeps its artifact for good, so that links to it stay valid.
    """
    stored = study.user_attrs.get(DOCUMENTS)
    known: dict[str, Any] = dict(stored) if isinstance(stored, Mapping) else {}
    written = [
        name for name, content in documents.items() if not _is_stored(artifacts, known.get(name), content)
    ]
    for name in written:
        if _is_listed(study, known.get(name)):
            known[name] = artifacts.replace(known[name], documents[name])
        else:
            known[name] = artifacts.save(study, name, documents[name])
    if written:
        study.set_user_attr(DOCUMENTS, known)
    return written


def _is_stored(artifacts: Artifacts, reference: Any, content: bytes) -> bool:
    try:
        return artifacts.load(reference, "the document", "it is written again.") == content
    except StudyError:
        return False


def _is_listed(study: Study, reference: Any) -> bool:
    """Whether Optuna still has the artifact: the dashboard lets its users delete it."""
    number = reference.get("artifact") if isinstance(reference, Mapping) else None
    listed = study._storage.get_study_system_attrs(study._study_id).get(f"artifacts:{number}")
    return listed is not None and json.loads(listed) is not None
