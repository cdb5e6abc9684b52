"""Temperature of distillation over a training.

Source: "Distillation Fine-Tuning with Variable Temperature Coefficient" of SFP (Li et al., Information
Sciences 689, 2025, 121418). The paper's schedule is not known to us; the cosine is a reading.
"""

from __future__ import annotations

import math


def temperature_at(temperature: float | tuple[float, float], progress: float) -> float:
    """T at `progress` (0 at the first step, 1 at the last): constant, or on a cosine between a pair."""
    if not isinstance(temperature, tuple):
        return temperature
    first, last = temperature
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
