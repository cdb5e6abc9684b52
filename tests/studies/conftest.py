"""The comparisons are scripts: they import their neighbours by name, as Python finds them when one is run."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "studies" / "compare"))
