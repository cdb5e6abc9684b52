"""What a study is given before its dashboard opens: names of its metrics, a note, documents."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from optuna import Study
from optuna.exceptions import ExperimentalWarning

from autoprune.dashboard.documents import DOCUMENTS
from autoprune.dashboard.note import merged, note_of
from autoprune.errors import ConfigError
from autoprune.searching.attributes import IDENTITY
from autoprune.searching.study import front_of, metrics
from autoprune.storing.artifacts import Artifacts
from autoprune.storing.publishing import publish


def describe(study: Study, artifacts: Artifacts) -> Sequence[str]:
    """Write what has changed; the names of the documents that were written.

    A study on a server without a place for artifacts gets the note alone. Raises StudyError for a study
    that is not ours or not yet begun, ConfigError where optuna-dashboard is not installed.
    """
    check_installed()
    front, identity = front_of(study), study.user_attrs[IDENTITY]
    names = metrics(front.objective)
    if study.metric_names != names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(names)
    _write_note(study, note_of(front, identity))
    if artifacts.store is None:
        return []
    return publish(study, artifacts, {name: write(front).encode() for name, write in DOCUMENTS.items()})


def check_installed() -> None:
    """ConfigError, saying what to install, where optuna-dashboard is missing."""
    try:
        import optuna_dashboard  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "the dashboard needs optuna-dashboard; pip install 'autoprune[dashboard]'."
        ) from error


def _write_note(study: Study, note: str) -> None:
    from optuna_dashboard import get_note, save_note

    present = get_note(study)
    wanted = merged(note, present)
    # A version more would interrupt whoever is editing it in a browser.
    if wanted != present:
        save_note(study, wanted)
