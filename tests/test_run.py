"""One batch on its way, with an application and a dialect that are lists."""

from __future__ import annotations

import random
from contextvars import copy_context

import pytest

from batchwsgi import Limits, Request, Response
from batchwsgi.errors import BatchError
from batchwsgi.executors import Pool
from batchwsgi.model import Batch, Member, OnFail, OuterRequest, Problem
from batchwsgi.run import Run

PLAIN = [("Content-Type", "text/plain")]


class Application:
    """Stands for an `Outer`: replies as many bytes as a member's target says."""

    outer = OuterRequest(host="shop.example")
    context = copy_context()

    def __init__(self, fields=lambda request: PLAIN):
        self.sent = []
        self.fields = fields

    def send(self, request, limit, cookie):
        self.sent.append((request.target, limit, cookie))
        size = int(request.target.strip("/"))
        if size > limit:
            return cut_off()
        return Response(200, "OK", self.fields(request), b"x" * size)


def cut_off():
    response = Response(200, "OK", PLAIN, b"")
    response.unfit = Problem.TOO_LARGE
    return response


class Writer:
    """Writes an entry of the status and the body."""

    status = "200 OK"
    headers = ()

    def __init__(self, streamed=False):
        self.streamed = streamed

    def entry(self, member):
        return b"%d %b" % (member.response.status, member.response.body)

    def longest(self, response):
        return len(response.body) + 4

    def parts(self, members):
        for member in members:
            yield member.entry


def batch(sizes, method="GET", on_fail=OnFail.IGNORE):
    made = [Member(index, Request(method, f"/{size}"), {}) for index, size in enumerate(sizes)]
    return Batch(made, on_fail, 10 * len(made))


def running(made, application=None, limits=Limits(), pool=None, streamed=False):  # noqa: B008 # frozen
    outer = application or Application()
    more = {"limits": limits, "deadline": float("inf"), "pool": pool, "transaction": None}
    return Run(made, outer, Writer(streamed), **more)


def test_one_after_the_other_is_lazy():
    application, made = Application(), batch([1, 2, 3])
    members = running(made, application).members()
    assert application.sent == []
    assert next(members) is made.members[0]
    assert len(application.sent) == 1
    members.close()
    assert len(application.sent) == 1


@pytest.mark.parametrize("pool", [None, Pool(2)])
def test_members_of_one_wave_see_the_cookies_of_all_before_it(pool):
    def fields(request):
        return [("Set-Cookie", f"a={request.target.strip('/')}; Path=/")]

    application, made = Application(fields), batch(range(5))
    made.members[2].request = Request("POST", "/2")
    going = running(made, application, pool=pool)
    assert len(list(going.members())) == 5
    seen = {target: cookie for target, _, cookie in application.sent}
    if pool is None:
        assert seen == {"/0": None, "/1": "a=0", "/2": "a=1", "/3": "a=2", "/4": "a=3"}
    else:
        assert seen == {"/0": None, "/1": None, "/2": "a=1", "/3": "a=2", "/4": "a=2"}
        for executor in pool._executors.values():
            executor.shutdown()
    assert going.jar.promoted() == ["a=4; Path=/"]


def test_entries_that_wait_are_written_in_the_end():
    made = batch([1, 2, 3])
    members = running(made).members()
    assert next(members).entry == b""
    assert [member.entry for member in members] == [b"", b""]
    assert [member.entry for member in made.members] == [b"200 x", b"200 xx", b"200 xxx"]


def test_a_group_without_a_transaction_is_refused():
    """Whichever dialect lets it through."""
    made = batch([1, 2])._replace(needs_transaction=True)
    with pytest.raises(BatchError, match="A group of several requests needs a transaction"):
        running(made)


def test_the_entry_of_a_line_does_not_wait():
    members = running(batch([1, 2, 3]), streamed=True).members()
    assert next(members).entry == b"200 x"
    assert [member.entry for member in members] == [b"200 xx", b"200 xxx"]


@pytest.mark.parametrize("on_fail", OnFail)
@pytest.mark.parametrize("seed", range(100))
def test_waiting_changes_nothing_but_the_time(seed, on_fail):
    """What is sent, what it may answer, and what counts are as if each entry came at once."""
    chance = random.Random(seed)
    sizes = [chance.choice([0, 3, 40, 400, 4000, 29_996, 30_000]) for _ in range(60)]
    limits = Limits(
        max_member_size=chance.choice([100, 3000, 30_000]),
        max_reply_size=chance.choice([20_000, 60_000, 90_000]),
    )

    def outcome(waiting):
        application, made = Application(), batch(sizes, on_fail=on_fail)
        going = running(made, application, limits, streamed=not waiting)
        assert len(list(going.members())) == 60
        return application.sent, [(member.entry, member.response) for member in made.members]

    assert outcome(waiting=True) == outcome(waiting=False)


def test_what_waits_after_a_large_entry_counts_for_the_next():
    limits = Limits(max_member_size=2**20, max_reply_size=2**21)
    made = batch([2**20 - 300, *[4000] * 9, 2**20 - 300])
    assert len(list(running(made, limits=limits).members())) == 11
    assert [member.response.status for member in made.members] == [200] * 10 + [502]
