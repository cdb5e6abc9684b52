"""CASM: gradient reconstruction on cached activations, small model by small model."""

from autoprune.reconstruction.casm.casm import Casm

__all__ = ["Casm"]
