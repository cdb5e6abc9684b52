from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import plotly.graph_objects
import pytest

from autoprune.report import Content, further_figures, make_page
from autoprune.report.figures import plain, spread
from autoprune.report.front_figure import front_figure
from autoprune.report.markup import embedded_json, tag, text
from autoprune.report.parts import make_parts


def painted(value: Any) -> Any:
    """Roles as some colour, as the page's script does it."""
    if isinstance(value, dict):
        return {key: painted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [painted(one) for one in value]
    return "#000" if isinstance(value, str) and value.startswith("--") else value


def test_plotly_knows_every_key(make_content: Callable[..., Content]) -> None:
    figures, _ = make_parts(make_content(trials=30, profile=True), {})
    assert len(figures) == 6
    for figure in figures.values():
        plotly.graph_objects.Figure(painted(figure))


def test_rates_stand_in_network_order(make_content: Callable[..., Content]) -> None:
    content = make_content(groups=5)
    (heat,) = further_figures.rates_figure(content)["data"]
    assert heat["y"] == [f"{place + 1}. layer{place}" for place in range(5)]
    for place, group in enumerate(content.widths):
        assert heat["z"][place] == pytest.approx([p.rates[group] for p in content.front], abs=1e-3)


def test_names_that_look_alike_keep_their_rows(make_content: Callable[..., Content]) -> None:
    (heat,) = further_figures.rates_figure(make_content(prefix="x" * 200))["data"]
    assert len(set(heat["y"])) == 4


def test_hypervolume_never_falls(make_content: Callable[..., Content]) -> None:
    content = make_content(trials=50)
    for made in (further_figures.volume_by_trial(content), further_figures.volume_by_time(content)):
        (trace,) = made["data"]
        assert len(trace["x"]) == 50 and trace["y"] == sorted(trace["y"])


def test_the_budget_is_a_line(make_content: Callable[..., Content]) -> None:
    (line,) = front_figure(make_content())["layout"]["shapes"]
    assert line["x0"] == line["x1"] == 0.8
    assert "shapes" not in front_figure(make_content(IDENTITY={"budget": {"params": 0.5}}))["layout"]


def test_a_proxy_that_is_no_number_is_left_out(make_content: Callable[..., Content]) -> None:
    (trace,) = further_figures.proxy_figure(make_content(trials=6), "additive")["data"]
    assert [row[0] for row in trace["customdata"]] == [0, 2, 3, 4, 5]


def test_text_is_escaped_unless_it_is_markup() -> None:
    assert tag("a", "<b>", tag("i", "&"), title='"x"', hidden=True, id=None) == (
        '<a title="&quot;x&quot;" hidden>&lt;b&gt;<i>&amp;</i></a>'
    )
    assert "\x1b" not in text("a\x1b[1m") and plain("<a&b>") == "&lt;a&amp;b&gt;"
    assert len(plain("x" * 500, 26)) <= 26
    assert "<" not in embedded_json({"</script>": "<!--"})


def test_spreading_keeps_both_ends() -> None:
    assert spread(3, 5) == [0, 1, 2] and spread(101, 5) == [0, 25, 50, 75, 100]


def test_the_same_content_gives_the_same_page(make_content: Callable[..., Content]) -> None:
    content = make_content()
    lines = [make_page(content).split("Written ")[1][20:] for _ in range(2)]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("objective", ["macs", "params"])
def test_hypervolume_is_that_of_the_front(make_content: Callable[..., Content], objective: str) -> None:
    content = make_content(trials=20, IDENTITY={"objective": objective})
    sizes = [point.params for point in content.front.trials]
    # Parameters that do not follow the MACs.
    trials = [replace(p, params=n) for p, n in zip(content.front.trials, reversed(sizes), strict=True)]
    front = replace(content.front, trials=trials)
    (trace,) = further_figures.volume_by_trial(replace(content, front=front))["data"]
    floor, shares = front.metric.floor or 0.0, [*(front.share(point) for point in front), 1.0]
    steps = zip(front, shares[:-1], shares[1:], strict=True)
    area = sum((point.accuracy - floor) * (after - here) for point, here, after in steps)
    assert front.objective == objective and trace["y"][-1] == pytest.approx(area)


def test_a_trial_that_was_measured_too_slow_is_on_no_front(make_content: Callable[..., Content]) -> None:
    content = make_content(trials=6)
    slow = replace(content.front.trials[0], accuracy=0.99, latency_ms=9.0)
    trials = [slow, *(replace(point, latency_ms=1.0) for point in content.front.trials[1:])]
    front = replace(content.front, trials=trials, latency_bound=5.0)
    without = replace(front, trials=trials[1:])
    volumes = [
        further_figures.volume_by_trial(replace(content, front=one))["data"][0]["y"][-1]
        for one in (front, without)
    ]
    assert front.too_slow == [slow] and volumes[0] == pytest.approx(volumes[1])
