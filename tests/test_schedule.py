from __future__ import annotations

import pytest

from batchwsgi import Request, Response
from batchwsgi.model import Batch, Member, OnFail, Problem
from batchwsgi.schedule import Schedule

STOPPED, DEPENDENCY, DEADLINE = Problem.STOPPED, Problem.DEPENDENCY_FAILED, Problem.DEADLINE


def members(*methods, depends_on=None, groups=None):
    made = [Member(index, Request(method, "/"), {}) for index, method in enumerate(methods)]
    for index, places in (depends_on or {}).items():
        made[index].depends_on = places
    for index, group in (groups or {}).items():
        made[index].group = group
    return made


def waves(made, on_fail=OnFail.IGNORE, side_by_side=True):
    schedule = Schedule(Batch(made, on_fail, 0), side_by_side)
    return [[member.index for member in wave] for wave in schedule.waves()]


def run(statuses, on_fail=OnFail.IGNORE, before=lambda schedule, member: None, **more):
    """Finish members with these statuses; gives the status or the problem of each."""
    made = members(*["GET"] * len(statuses), **more)
    schedule = Schedule(Batch(made, on_fail, 0))
    for wave in schedule.waves():
        for member in wave:
            before(schedule, member)
            reason = schedule.reason_against(member)
            if reason is None:
                member.response = Response(statuses[member.index], "")
            else:
                problem, detail = reason
                member.response = problem.response(detail)
            if member.failed:
                schedule.note_failure(member)
    return [member.response.problem or member.response.status for member in made]


# --- Waves -------------------------------------------------------------------------------------


def test_one_after_the_other():
    assert waves(members(*"GGG", groups={}), side_by_side=False) == [[0], [1], [2]]
    assert waves(members("GET", "GET"), side_by_side=False) == [[0], [1]]


def test_neighbours_with_safe_methods():
    made = members("GET", "HEAD", "OPTIONS", "POST", "GET", "DELETE", "PUT", "GET", "GET", "REPORT")
    assert waves(made) == [[0, 1, 2], [3], [4], [5], [6], [7, 8], [9]]


def test_a_dependency_inside_a_wave_ends_it():
    made = members(*["GET"] * 6, depends_on={2: [0], 3: [1], 4: [2], 5: [0]})
    assert waves(made) == [[0, 1], [2, 3], [4, 5]]


def test_no_wave_under_stop():
    assert waves(members("GET", "GET"), OnFail.STOP) == [[0], [1]]


def test_a_group_is_one_wave():
    made = members("GET", "POST", "GET", "PUT", "GET", "GET", groups={1: 0, 2: 0, 3: 1})
    assert waves(made) == [[0], [1, 2], [3], [4, 5]]
    made = members("GET", "POST", "GET", groups={0: 0, 1: 0, 2: 0})
    assert waves(made, side_by_side=False) == [[0, 1, 2]]


# --- What is not sent --------------------------------------------------------------------------


def test_ignore():
    assert run([200, 500, 404, 201]) == [200, 500, 404, 201]


@pytest.mark.parametrize("status", [400, 404, 500, 599])
def test_stop(status):
    assert run([200, 302, status, 201, 200], OnFail.STOP) == [200, 302, status, STOPPED, STOPPED]


def test_nothing_stops_where_nothing_fails():
    assert run([200, 204, 304, 399], OnFail.STOP) == [200, 204, 304, 399]


def test_a_failure_runs_down_the_chain():
    depends_on = {1: [0], 2: [1], 3: [], 4: [3, 2]}
    assert run([404, 200, 200, 200, 200], depends_on=depends_on) == [
        *[404, DEPENDENCY, DEPENDENCY, 200, DEPENDENCY]
    ]
    assert run([302, 200, 200, 200, 200], depends_on=depends_on) == [302, 200, 200, 200, 200]


def test_a_batch_ends_once():
    def end(schedule, member):
        if member.index == 1:
            schedule.end(DEADLINE, "first")
            schedule.end(Problem.REPLY_LIMIT, "second")

    assert run([200, 500, 200], OnFail.STOP, end) == [200, DEADLINE, DEADLINE]
    assert run([500, 200, 200], OnFail.STOP, end) == [500, STOPPED, STOPPED]
    assert run([200, 200], before=end, depends_on={1: [0]}) == [200, DEADLINE]


def test_a_failure_ends_its_group():
    groups = {1: 0, 2: 0, 3: 0, 4: 1, 5: 1}
    assert run([500, 200, 404, 200, 200, 200, 200], groups=groups) == [
        *[500, 200, 404, STOPPED, 200, 200, 200]
    ]


@pytest.mark.parametrize("on_fail", [OnFail.IGNORE, OnFail.ROLLBACK])
def test_a_group_ends_once(on_fail):
    """The first that is not sent says why, the rest are stopped; a batch says one reason."""

    def end(schedule, member):
        if member.index == 2:
            schedule.end(DEADLINE, "")

    more = {"before": end, "groups": dict.fromkeys(range(4), 0), "on_fail": on_fail}
    rest = DEADLINE if on_fail is OnFail.ROLLBACK else STOPPED
    assert run([200, 404, 200, 200], **more) == [200, 404, STOPPED, STOPPED]
    assert run([200, 200, 404, 200], **more) == [200, 200, DEADLINE, rest]


def test_the_detail_names_the_member():
    made = members("GET", "GET", depends_on={1: [0]})
    schedule = Schedule(Batch(made, OnFail.IGNORE, 0))
    made[0].response = Response(404, "Not Found", [], b"")
    _, detail = schedule.reason_against(made[1])
    assert detail == "It depends on the request at index 0, which failed."
