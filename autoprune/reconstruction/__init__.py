"""New weights for the layers that read pruned channels."""

from autoprune.reconstruction.base import Bench, NoReconstruction, Reconstruction, reconstructions
from autoprune.reconstruction.batch_norm import re_estimate
from autoprune.reconstruction.casm import Casm
from autoprune.reconstruction.filters import Filters
from autoprune.reconstruction.independent import Independent
from autoprune.reconstruction.joint import Joint
from autoprune.reconstruction.least_squares import Solution, refit, restore
from autoprune.reconstruction.sequential import Sequential

__all__ = [
    "Bench",
    "Casm",
    "Filters",
    "Independent",
    "Joint",
    "NoReconstruction",
    "Reconstruction",
    "Sequential",
    "Solution",
    "re_estimate",
    "reconstructions",
    "refit",
    "restore",
]
