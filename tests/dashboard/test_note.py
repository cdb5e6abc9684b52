from __future__ import annotations

import json

from optuna import Study

from autoprune.dashboard.documents import DOCUMENTS, as_json, as_markdown, escaped
from autoprune.dashboard.note import YOURS, merged, note_of
from autoprune.searching.attributes import IDENTITY
from autoprune.searching.study import front_of


def test_the_note_says_what_was_searched_and_found(study: Study) -> None:
    front = front_of(study)
    note = note_of(front, study.user_attrs[IDENTITY])
    accuracy = front.metric.shown(front.dense.accuracy)
    assert "# study" in note and f"accuracy {accuracy}, {front.dense.macs:,} MACs" in note
    assert f"macs at most {0.8 * front.dense.macs:,.0f} (80.0% of dense)" in note
    shown = front.metric.shown
    assert all(f"| {point.trial} | {shown(point.accuracy)} | {point.macs:,} |" in note for point in front)
    assert "## How to read it" in note and YOURS in note


def test_an_identity_of_another_shape_still_gives_a_note(study: Study) -> None:
    for budget in (None, "all", {"macs": "half"}, {"latency": 3}, {"bytes": 7}):
        assert "**Budget**" in note_of(front_of(study), {"budget": budget})


def test_what_a_user_wrote_stays() -> None:
    first = merged(f"# one\n\n{YOURS}\n", "")
    assert merged(first, first) == first
    mine = f"{first}\nMy finding.\n"
    second = merged(f"# two\n\n{YOURS}\n", mine)
    assert second == f"# two\n\n{YOURS}\n\nMy finding.\n"
    assert merged(f"# two\n\n{YOURS}\n", second) == second
    assert merged(first, "written before") == f"# one\n\n{YOURS}\nwritten before"


def test_documents_hold_the_front(study: Study) -> None:
    front = front_of(study)
    assert json.loads(as_json(front)) == json.loads(json.dumps(front.to_json()))
    assert as_markdown(front).count("\n| ") == len(front) + 3
    assert list(DOCUMENTS) == ["front.json", "front.md"]


def test_names_are_no_markup() -> None:
    assert escaped("a|b`c<img>[x]\x1b[0m\n# d") == r"a\|b\`c\<img\>\[x\] \[0m \# d"
