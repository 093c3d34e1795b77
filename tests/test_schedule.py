from __future__ import annotations

from time import monotonic

import pytest

from batchwsgi import Request, Response
from batchwsgi.executors import one_after_another
from batchwsgi.model import Batch, Member, OnFail, Problem
from batchwsgi.schedule import Schedule


def run(statuses, on_fail=OnFail.IGNORE, before=lambda schedule, member: None):
    """Finish members with these statuses; gives the status or the problem of each."""
    members = [Member(index, Request("GET", "/"), {}) for index in range(len(statuses))]
    schedule = Schedule(Batch(members, on_fail))
    dealt_with = []
    while (member := schedule.next()) is not None:
        before(schedule, member)
        if member.response is None:
            member.response = Response(statuses[member.index], "", [], b"")
            schedule.done(member)
        dealt_with.append(member)
    assert dealt_with == members
    return [member.response.problem or member.response.status for member in members]


def test_ignore():
    assert run([200, 500, 404, 201]) == [200, 500, 404, 201]


@pytest.mark.parametrize("status", [400, 404, 500, 599])
def test_stop(status):
    stopped = Problem.STOPPED
    assert run([200, 302, status, 201, 200], OnFail.STOP) == [200, 302, status, stopped, stopped]


def test_nothing_stops_where_nothing_fails():
    assert run([200, 204, 304, 399], OnFail.STOP) == [200, 204, 304, 399]


def test_a_batch_ends_once():
    def end(schedule, member):
        if member.index == 1:
            schedule.end(Problem.DEADLINE, "first")
            schedule.end(Problem.REPLY_LIMIT, "second")

    assert run([200, 500, 200], OnFail.STOP, end) == [200, 500, Problem.DEADLINE]


def test_executor_is_lazy():
    members = [Member(index, Request("GET", "/"), {}) for index in range(3)]
    schedule = Schedule(Batch(members, OnFail.IGNORE))
    sent = []

    def finish(member):
        sent.append(member.index)
        member.response = Response(200, "OK", [], b"")

    running = one_after_another(schedule, finish, monotonic() + 60)
    assert next(running) is members[0]
    assert sent == [0]
    running.close()
    assert sent == [0]
