"""The page: whole, small, self-contained, and deaf to what a study would like it to run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from autoprune.errors import ConfigError, StudyError
from autoprune.report import Content, make_page, write_report
from autoprune.report.parts import TITLES
from tests.report.conftest import NAME, NASTY, MakeStudy
from tests.searching.conftest import engine_for

MakeContent = Callable[..., Content]
MOST_BYTES = 6_000_000


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.words.append(data)

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])


def test_every_trial_is_in_the_data_and_in_a_figure(make_content: MakeContent) -> None:
    content = make_content(trials=30)
    data = Page(make_page(content)).data
    assert [trial["trial"] for trial in data["trials"]] == list(range(30))
    assert data["front"] == [point.trial for point in content.front]
    rows = [row for trace in data["figures"]["front"]["data"] for row in trace.get("customdata", [])]
    assert sorted(row[0] for row in rows) == list(range(30))
    for point, trial in zip(content.front.trials, data["trials"], strict=True):
        assert trial["widths"] == [point.widths[group] for group, _ in data["groups"]]


def test_names_are_text_wherever_they_stand(make_content: MakeContent) -> None:
    plain, nasty = (Page(make_page(make_content(prefix=prefix))) for prefix in ("", NASTY))
    assert [tag for tag, _ in nasty.tags] == [tag for tag, _ in plain.tags]
    assert len(nasty.scripts) == 4 and nasty.data["groups"][0][0] == f"{NASTY}layer0"
    assert any(NASTY in words for words in nasty.words)
    assert not any(key.startswith("on") for _, attributes in nasty.tags for key in attributes)


def test_labels_of_figures_hold_no_markup(make_content: MakeContent) -> None:
    figures = Page(make_page(make_content(prefix=NASTY, profile=True))).data["figures"]
    written = json.dumps(figures)
    assert "<script" not in written and "<img" not in written
    assert {"front", "rates", "curves", "proxy-0"} <= figures.keys()
    templates = re.findall(r'"hovertemplate": "([^"]*)"', written)
    assert len(templates) >= 5 and not any("hacked" in template for template in templates)


def test_the_page_asks_for_nothing_and_runs_only_its_own_scripts(make_content: MakeContent) -> None:
    page = Page(make_page(make_content(prefix=NASTY)))
    assert not any("src" in attributes for _, attributes in page.tags)
    assert all(attributes["href"].startswith("#") for _, attributes in page.tags if "href" in attributes)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    scripts = re.search("script-src ([^;]*);", policy)
    assert policy.startswith("default-src 'none'") and scripts and "unsafe" not in scripts[1]


def test_a_large_study_stays_below_the_limit(make_content: MakeContent) -> None:
    page = make_page(make_content(trials=1000, groups=60))
    assert len(page.encode()) < MOST_BYTES


def test_figures_have_words_and_tables_captions(make_content: MakeContent) -> None:
    page = Page(make_page(make_content(profile=True)))
    plots = [attributes for _, attributes in page.tags if attributes.get("class") == "plot"]
    assert len(plots) == len(page.data["figures"])
    assert all(len(attributes["aria-label"] or "") > 40 for attributes in plots)
    assert [tag for tag, _ in page.tags].count("table") == [tag for tag, _ in page.tags].count("caption")
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == list(TITLES)


@pytest.mark.parametrize("trials", [0, 1, 2])
def test_optional_parts_may_be_missing(make_content: MakeContent, trials: int) -> None:
    content = make_content(trials=trials, FROZEN=None, VERSIONS=None, IDENTITY={"budget": 7})
    text = make_page(content)
    assert content.frozen is None and content.profile is None and not content.budget
    assert "before studies said what is frozen" in text and "no sensitivity curves" in text
    words = " ".join(Page(text).words)
    assert ("No trial has finished yet" in words) == (trials == 0)


def test_a_searched_study_has_all_parts(tmp_path: Path) -> None:
    storage = str(tmp_path / "study.journal")
    engine = engine_for("chain", storage, trials=4)
    engine.search()
    content = write_report(storage, "study", tmp_path / "report.html")
    assert content.profile is not None and set(content.widths) == set(engine.graph.widths)
    assert content.frozen is not None
    assert [f["reason"] for f in content.frozen] == [f.reason for f in engine.graph.frozen]
    assert sorted(content.seconds) == [0, 1, 2, 3]
    assert "curves" in Page((tmp_path / "report.html").read_text()).data["figures"]


def test_errors_say_what_to_do(make_study: MakeStudy, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be written.*choose another -o"):
        write_report(make_study(), NAME, tmp_path / "nowhere" / "report.html")
    with pytest.raises(StudyError, match="holds no study 'other'"):
        write_report(make_study(), "other", tmp_path / "report.html")


def test_a_page_says_that_every_trial_was_too_slow(make_content: MakeContent) -> None:
    content = make_content(trials=3)
    trials = [replace(point, latency_ms=9.0) for point in content.front.trials]
    slow = replace(content.front, trials=trials, latency_bound=5.0)
    words = " ".join(Page(make_page(replace(content, front=slow))).words)
    assert "All 3 finished trials were measured above the budget" in words
    assert "No point is on the front" in words
