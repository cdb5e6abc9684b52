from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import growth
from growth import CASES, Watch, exponents, slope


def point(value: int, seconds: float) -> growth.Point:
    times = dict.fromkeys(growth.STAGES, seconds)
    return {"value": value, "groups": 3, "seconds": times, "profile_mb": 10.0 * value, "peak_mb": 900.0}


def test_the_exponent_of_a_power_is_the_power() -> None:
    assert slope([1, 2, 4, 8], [3.0, 12.0, 48.0, 192.0]) == pytest.approx(2.0)
    found = exponents([point(value, value**1.5) for value in (64, 128, 512)])
    assert found["second moments"] == pytest.approx(1.5) and found["memory"] == pytest.approx(1.0)
    assert exponents([point(64, 1.0)]) == {}, "one point has no slope"


def test_table_and_plot_show_every_point_and_exponent() -> None:
    points = [point(value, value**2 / 100) for value in (20, 56)]
    lines = growth.table("depth", points).splitlines()
    assert len(lines) == 5 and len({line.count("|") for line in lines}) == 1
    assert "31.36" in lines[3] and lines[4].count("2.00") == len(growth.STAGES)
    (panel,) = growth.panels({"depth": points, "images": points[:1]})
    labels = [series.label for series in panel.series]
    assert labels[-1] == "linear" and len(labels) == len(growth.STAGES)


def test_a_watch_counts_calls_inside_and_none_outside() -> None:
    class Worker:
        def work(self) -> str:
            end = time.process_time() + 0.02
            while time.process_time() < end:
                pass
            return "done"

    watch, worker = Watch(), Worker()
    with watch.on(Worker, "work"):
        assert worker.work() == "done"
    counted = watch.seconds
    worker.work()
    assert counted == watch.seconds >= 0.02


def test_depths_and_widths_are_what_they_say() -> None:
    for depth in CASES["depth"].values:
        convolutions = [m for m in CASES["depth"].network(depth).modules() if type(m).__name__ == "Conv2d"]
        assert len(convolutions) + 1 == depth
    assert CASES["images"].images(512) == 512 and CASES["width"].network(64)[3].weight.shape[:2] == (64, 64)


def test_a_point_has_all_stages_and_they_add_up() -> None:
    measured = growth.measure(CASES["width-1x1"], 8)
    assert measured["groups"] == 3 and measured["peak_mb"] >= measured["before_mb"] > 0
    times = measured["seconds"]
    parts = sum(times[stage] for stage in ("second moments", "orders and layer curves", "output errors"))
    assert times["profile"] == pytest.approx(parts) and min(times.values()) > 0


def test_a_series_stops_at_the_limit_and_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(name: str, value: int) -> growth.Point:
        time.sleep({20: 0.01, 32: 0.1}[value])
        return point(value, value)

    out = tmp_path / "growth.json"
    monkeypatch.setattr(growth, "in_own_process", slow)
    monkeypatch.setattr(growth.torch, "set_num_threads", lambda threads: None)
    asked = ["--series", "depth", "--limit-seconds", "0.3", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["growth.py", *asked])
    growth.main()
    found = json.loads(out.read_text())
    assert [one["value"] for one in found["series"]["depth"]] == [20, 32]
    assert found["exponents"]["depth"]["profile"] == pytest.approx(1.0)
