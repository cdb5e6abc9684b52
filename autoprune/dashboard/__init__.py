"""A study in optuna-dashboard, with a note that explains it and its front as documents."""

from autoprune.dashboard.documents import DOCUMENTS
from autoprune.dashboard.note import note_of
from autoprune.dashboard.preparing import describe
from autoprune.dashboard.serving import make_server

__all__ = ["DOCUMENTS", "describe", "make_server", "note_of"]
