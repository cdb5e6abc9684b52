from __future__ import annotations

from optuna import Study

from autoprune.storing.stopping import StopRequests, request_stop


def test_a_request_stops_those_at_work_and_not_those_that_come_later(study: Study) -> None:
    early, mine, other = StopRequests(study), StopRequests(study, "mine"), StopRequests(study, "other")
    assert not early.asked()
    request_stop(study, "mine")
    assert mine.asked() and not other.asked() and not early.asked()
    request_stop(study)
    assert early.asked() and mine.asked() and other.asked()
    late = StopRequests(study)
    assert not late.asked()
    request_stop(study)
    assert late.asked()
