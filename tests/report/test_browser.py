"""The page in Debian's Chromium: it draws, it answers, and no name from the study runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autoprune.report import Content, make_page
from tests.report.conftest import NASTY

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WIDE, NARROW = (1400, 900), (400, 800)
SLOW_MS = 120_000
"""A busy machine may need long: what is tested is what happens, not when."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def show(browser: Any, make_content: Callable[..., Content], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Open the report of a study in a window of some size; at the end, nothing may have complained."""
    complaints: list[str] = []
    pages = []

    def open_page(size: tuple[int, int] = WIDE, scheme: str = "light", **study: Any) -> Any:
        file = tmp_path / "report.html"
        file.write_text(make_page(make_content(**{"trials": 40, "profile": True, **study})))
        page = browser.new_page(
            viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme
        )
        page.set_default_timeout(SLOW_MS)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: asked.url == file.as_uri() or complaints.append(asked.url[:80]))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert [text for text in complaints if not text.startswith(("data:", "blob:"))] == []


def click_point(page: Any, place: int) -> tuple[int, str]:
    """Click a point of the front; its trial, and what the hover text said before."""
    where, trial = page.evaluate(
        """place => {
            const plot = document.getElementById("figure-front"), trace = plot._fullData[1];
            const box = plot.getBoundingClientRect(), { xaxis, yaxis } = plot._fullLayout;
            const x = box.left + xaxis._offset + xaxis.d2p(trace.x[place]);
            const y = box.top + yaxis._offset + yaxis.d2p(trace.y[place]);
            return [[x, y], trace.customdata[place][0]];
        }""",
        place,
    )
    page.mouse.move(where[0] - 3, where[1])
    page.mouse.move(*where)
    said = page.wait_for_selector("#figure-front .hoverlayer .hovertext").text_content()
    page.mouse.click(*where)
    return int(trial), said


def test_a_click_shows_the_plan(show: Callable[..., Any]) -> None:
    page = show()
    page.locator("#figure-front").scroll_into_view_if_needed()
    trial, said = click_point(page, 1)
    assert said.startswith(f"trial {trial}")
    page.wait_for_selector(f"#plan h3:text-is('Trial {trial}')")
    plan = page.inner_text("#plan")
    assert f"autoprune build STUDY.toml --trial {trial} --out trial-{trial}/" in plan
    assert page.locator("#plan tbody tr").count() == 4
    assert "before reconstruction" in plan and "MACs" in plan


MARK = """() => {
    const mark = [...document.querySelectorAll("#figure-front circle, #figure-front .point")].at(-1);
    const plot = document.getElementById("figure-front").getBoundingClientRect();
    const box = mark.getBoundingClientRect();
    return [box.x + box.width / 2 - plot.x, box.y + box.height / 2 - plot.y];
}"""


def test_the_front_can_be_clicked_before_plotly_has_been_read(show: Callable[..., Any]) -> None:
    page = show()
    early = page.context.browser.new_page(viewport=page.viewport_size)
    # This browser is never idle, so plotly has to wait.
    early.add_init_script("window.requestIdleCallback = () => 0")
    early.goto(page.url)
    assert early.evaluate("typeof Plotly") == "undefined"
    trial = page.evaluate("JSON.parse(document.getElementById('data').textContent).front")[1]
    early.click(f"#figure-front circle[data-trial='{trial}']")
    assert early.inner_text("#plan h3") == f"Trial {trial}"
    page.click(f"#front-table button[data-trial='{trial}']")
    # The mark stands where plotly will put it.
    assert page.evaluate(MARK) == pytest.approx(early.evaluate(MARK), abs=1.5)


def test_the_keyboard_reaches_every_point(show: Callable[..., Any]) -> None:
    page = show(profile=False)
    buttons = page.locator("#front-table button[data-trial]")
    front = page.evaluate("JSON.parse(document.getElementById('data').textContent).front")
    assert buttons.count() == len(front)
    buttons.first.focus()
    page.keyboard.press("Enter")
    assert page.inner_text("#plan h3") == f"Trial {front[0]}"
    assert page.evaluate("document.activeElement.textContent") == f"Trial {front[0]}"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.inner_text("#plan h3") == f"Trial {front[1]}"


def test_the_theme_follows_the_system_until_it_is_chosen(show: Callable[..., Any]) -> None:
    page = show(scheme="dark")
    dark = colours(page)
    page.click("#theme")
    light = colours(page)
    assert all(one != other for one, other in zip(dark, light, strict=True))
    page.emulate_media(color_scheme="light")
    assert colours(page) == light
    page.click("#theme")
    assert colours(page) == dark


def colours(page: Any) -> list[str]:
    """Of the page, of the axes, of the points and of the map."""
    return list(
        page.evaluate(
            """() => [
                getComputedStyle(document.body).backgroundColor,
                document.querySelector("#figure-front .xtick text").style.fill,
                document.querySelectorAll("#figure-front .trace")[1].querySelector(".point").style.fill,
                JSON.stringify(document.getElementById("figure-rates")._fullData[0].colorscale),
            ]"""
        )
    )


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_nothing_is_wider_than_the_window(
    show: Callable[..., Any], size: tuple[int, int], tmp_path: Path
) -> None:
    page = show(size, prefix="features.blocks.very_long_name_without_a_break_" * 2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=str(tmp_path / f"{size[0]}.png"), full_page=True)
    assert (tmp_path / f"{size[0]}.png").stat().st_size > 10_000


def test_names_are_shown_and_not_run(show: Callable[..., Any]) -> None:
    page = show(prefix=NASTY)
    page.locator("#figure-front").scroll_into_view_if_needed()
    _, said = click_point(page, 1)
    assert f"criterion {NASTY[:12]}" in said
    assert page.evaluate("window.hacked === undefined && document.querySelectorAll('img').length === 0")
    assert NASTY in page.inner_text("#plan tbody tr >> nth=0")


def test_a_study_without_trials_is_a_page_too(show: Callable[..., Any]) -> None:
    assert "No trial has finished yet" in show(trials=0).inner_text("#plan")
