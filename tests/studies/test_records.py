from __future__ import annotations

import datetime
import json
from pathlib import Path

import torch

from records import Record, cpu_model


def test_numbers_stand_beside_what_they_depend_on(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    record = Record(path, {"study": "studies/digits.toml", "repeats": 3, "out": path, "plot": None})
    record.write(points=[1])
    record.write(points=[1, 2])
    found = json.loads(path.read_text())
    assert found["points"] == [1, 2]
    assert found["arguments"] == {"study": "studies/digits.toml", "repeats": 3}
    assert found["threads"] == torch.get_num_threads() and found["hardware"]["device"] == "cpu"
    assert found["hardware"]["cpu"] and found["versions"]["torch"].startswith(torch.__version__[:4])
    assert datetime.date.fromisoformat(found["date"]) <= datetime.datetime.now(datetime.UTC).date()
    assert [file.name for file in tmp_path.iterdir()] == ["found.json"], "no half-written file stays"


def test_the_processor_has_a_name_with_or_without_the_listing(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: another\n")
    assert cpu_model(listing) == "Some CPU @ 2 GHz"
    assert cpu_model(tmp_path / "absent")
