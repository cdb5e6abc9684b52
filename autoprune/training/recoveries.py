"""Every recovery, registered."""

from autoprune.training.recover_fine_tune import FineTune
from autoprune.training.recover_history import HistoryRecovery
from autoprune.training.recovery import Job, NoRecovery, Recovery, Trained, recoveries

__all__ = ["FineTune", "HistoryRecovery", "Job", "NoRecovery", "Recovery", "Trained", "recoveries"]
