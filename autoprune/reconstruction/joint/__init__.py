"""Joint least squares: the layers of a block fitted together to the block's output."""

from autoprune.reconstruction.joint.joint import Joint

__all__ = ["Joint"]
