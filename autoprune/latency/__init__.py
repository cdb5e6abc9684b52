"""Latency as a cost: measured on the device, and predicted for candidates from measured layers."""

from autoprune.latency.timing import Latency, Timer, Timing

__all__ = ["Latency", "Timer", "Timing"]
