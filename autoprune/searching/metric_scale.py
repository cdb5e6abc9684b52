"""How a study's metric is called and printed. Without PyTorch: tables of stored studies need none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MetricScale:
    """Name and scale of a metric, higher is better.

    A `share` lies in 0..1 and is printed in percent, anything else as a plain number. `floor` is what a
    network that has learned nothing has, the reference of hypervolumes; None where nobody knows it.
    """

    name: str
    share: bool = False
    floor: float | None = None

    def shown(self, value: float, digits: int = 2) -> str:
        """ "91.25 %" of a share, "0.4871" of anything else."""
        return f"{100 * value:.{digits}f} %" if self.share else f"{value:#.4g}".rstrip(".")

    def change(self, value: float) -> str:
        """A difference with its sign: "-1.30 points" of a share, "-0.013" of anything else."""
        return f"{100 * value:+.2f} points" if self.share else f"{value:+.4g}"


ACCURACY = MetricScale(name="accuracy", share=True, floor=0.0)
"""Also of studies from the time before they said what their metric is."""
