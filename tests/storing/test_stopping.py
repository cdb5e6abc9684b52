from __future__ import annotations

from optuna import Study

from autoprune.storing.stopping import StopRequests, request_stop, stop_count


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


def test_a_watch_may_look_back_to_when_the_search_began(study: Study) -> None:
    before = stop_count(study)
    request_stop(study)
    assert StopRequests(study, since=before).asked() and not StopRequests(study).asked()
