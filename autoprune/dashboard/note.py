"""The note on a study: what was searched, within what, and how to read the pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprune.dashboard.documents import escaped, front_table
from autoprune.searching.front import Front
from autoprune.searching.space import LATENCY

YOURS = "*Written by autoprune. What you write below this line stays.*"

_READING = """\
## How to read it

- A trial is one pruned network, restored and measured on the validation split. `{metric}` is better when
  higher, the second value is its share of the dense network's cost (`macs_ratio`: of its
  multiply-accumulates) and better when lower.
- *Pareto front* shows all of them; the table below has those that no other beats.
- Parameters named `rate.GROUP` are proposed pruning rates, before the projection onto the budget. What was
  kept stands in the user attributes `widths` and `costs` of a trial.
- A failed trial with the attribute `lost` had a worker that died; its candidate was queued again. One with
  `withdrawn` was never begun, and one with `error` says what went wrong.
"""


def note_of(front: Front, identity: Mapping[str, Any]) -> str:
    """Markdown for a study; `identity` is what the study was made for, as it is stored."""
    dense, metric = front.dense, front.metric
    facts = {
        "Dense": f"{escaped(metric.name)} {metric.shown(dense.accuracy)}, {dense.macs:,} MACs, "
        f"{dense.params:,} parameters, {dense.bytes:,} bytes",
        "Budget": _budget(identity.get("budget"), dense.macs, dense.params, dense.bytes),
        "Criterion": escaped(str(identity.get("criterion", "unknown"))),
        "Reconstruction": escaped(str(identity.get("reconstruction", "unknown"))),
        "Finished trials": f"{len(front.trials):,}, of which {len(front)} are on the front",
    }
    listed = "".join(f"- **{name}**: {value}\n" for name, value in facts.items())
    reading = _READING.replace("{metric}", _code(metric.name))
    return (
        f"# {escaped(front.study)}\n\n{listed}\n{reading}\n## Front\n\n{front_table(front)}\n"
        f"Network of a row: `autoprune build STUDY --trial N --out pruned/`.\n\n{YOURS}\n"
    )


def _code(name: str) -> str:
    """A name between backquotes, where only they are markup."""
    return "".join(letter if letter.isprintable() and letter != "`" else " " for letter in name)


def merged(note: str, present: str) -> str:
    """The new note, with what users wrote below the line of the present one; all of it if it has no line."""
    _, found, below = present.partition(YOURS)
    theirs = below if found else f"\n{present}" if present.strip() else ""
    return note.rstrip("\n") + (theirs if theirs.strip() else "\n")


def _budget(budget: Any, macs: int, params: int, size: int) -> str:
    dense = {"macs": macs, "params": params, "bytes": size}
    bounds = budget if isinstance(budget, Mapping) else {}
    given = [_bound(name, bound, dense[name]) for name, bound in bounds.items() if name in dense]
    if isinstance(ms := bounds.get(LATENCY), int | float):
        given.append(f"latency at most {ms:g} ms")
    return "; ".join(given) or "none"


def _bound(name: str, bound: Any, dense: int) -> str:
    if not isinstance(bound, int | float):
        return f"{name} unknown"
    # As in a study file: up to 1 a share of the dense network's.
    share = bound if bound <= 1 else bound / dense
    return f"{name} at most {share * dense:,.0f} ({share:.1%} of dense)"
