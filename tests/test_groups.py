"""Groups: done all or none, several of them in one batch, whatever fails and wherever."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from batchwsgi import BatchMiddleware, Limits
from batchwsgi.dialects import ODataJSON

from .support import post
from .test_program import Clock

PATH = "/$batch"


class Ledger:
    """An application that books, a transaction that takes back, and what may fail of both."""

    def __init__(self, enter=(), commit=()):
        self.booked = []
        self.events = []
        self.enter = enter  # the transactions, by number, that cannot be entered
        self.commit = commit  # those that cannot be committed

    def __call__(self, environ, start_response):
        status, _, size = environ["PATH_INFO"][1:].partition("/")
        self.booked.append(environ["PATH_INFO"])
        fields = [("Content-Type", "text/plain"), ("Set-Cookie", f"last={status}; Path=/")]
        start_response(f"{status} Status", fields)
        return [b"x" * int(size or 0)]

    @contextmanager
    def transaction(self):
        number = self.events.count("begin")
        self.events.append("begin")
        if number in self.enter:
            raise RuntimeError("no connection")
        before = [*self.booked]
        try:
            yield
            if number in self.commit:
                raise RuntimeError("constraint")
        except BaseException:
            self.booked[:] = before
            self.events.append("rollback")
            raise
        self.events.append("commit")


def batch(ledger, *items, prefer="", limits=Limits(), transaction=True, threads=0):  # noqa: B008
    """Post a batch; each item is a path, or a group's name, a path and what it depends on."""
    requests = []
    for number, item in enumerate(items):
        group, url, *depends_on = item if isinstance(item, tuple) else (None, item)
        requests.append(
            {
                "id": f"r{number}",
                "method": "POST",
                "url": url,
                "atomicityGroup": group,
                "dependsOn": depends_on,
            }
        )
    app = BatchMiddleware(
        ledger,
        PATH,
        dialects=(ODataJSON(),),
        limits=limits,
        transaction=ledger.transaction if transaction else None,
        threads=threads,
    )
    return post(app, {"requests": requests}, PATH, {"Prefer": prefer})


def kinds(reply):
    """Of each response its kind of problem, or its status."""
    assert reply.status == 200, reply.body
    return [
        response["body"]["type"].rpartition(":")[2]
        if response["headers"].get("Content-Type") == "application/problem+json"
        else response["status"]
        for response in reply.json()["responses"]
    ]


@pytest.mark.parametrize("threads", [0, 2])
def test_several_groups(threads):
    ledger = Ledger()
    items = [("g", "200"), ("g", "201"), "202", ("h", "200"), ("h", "404"), ("h", "200"), "204"]
    reply = batch(ledger, *items, threads=threads)
    assert kinds(reply) == [200, 201, 202, "rolled-back", 404, "stopped", 204]
    assert ledger.booked == ["/200", "/201", "/202", "/204"]
    assert ledger.events == ["begin", "commit", "begin", "rollback"]
    # Of one name the last; the group that was undone set none.
    assert reply.headers.getlist("Set-Cookie") == ["last=204; Path=/"]


def test_a_failed_group_stops_what_depends_on_it():
    ledger = Ledger()
    reply = batch(
        ledger, ("g", "200"), ("g", "500"), (None, "200", "g"), (None, "201", "r0"), "202"
    )
    assert kinds(reply) == ["rolled-back", 500, "dependency-failed", "dependency-failed", 202]
    assert ledger.booked == ["/202"]


def test_where_the_batch_stops_at_failures():
    ledger = Ledger()
    reply = batch(
        ledger,
        ("g", "200"),
        ("g", "500"),
        "200",
        ("h", "200"),
        ("h", "200"),
        prefer="continue-on-error=false",
    )
    assert kinds(reply) == ["rolled-back", 500, "stopped", "stopped", "stopped"]
    assert ledger.events == ["begin", "rollback"]


@pytest.mark.parametrize("prefer", ["", "continue-on-error=false"])
def test_a_commit_that_fails(prefer):
    ledger = Ledger(commit=[0])
    reply = batch(ledger, ("g", "200"), ("g", "201"), (None, "200", "g"), "202", prefer=prefer)
    after = "stopped" if prefer else 202
    skipped = "stopped" if prefer else "dependency-failed"
    assert kinds(reply) == ["rolled-back", "rolled-back", skipped, after]
    assert "could not be committed" in reply.json()["responses"][1]["body"]["detail"]
    assert ledger.booked == ([] if prefer else ["/202"])


def test_the_transaction_of_a_later_group_cannot_be_entered():
    ledger = Ledger(enter=[1])
    items = [("g", "200"), ("g", "201"), ("h", "200"), ("h", "200"), (None, "200", "h"), "202"]
    reply = batch(ledger, *items)
    assert kinds(reply) == [200, 201, "unavailable", "unavailable", "dependency-failed", 202]
    assert [response["status"] for response in reply.json()["responses"]][2:4] == [503, 503]
    assert ledger.booked == ["/200", "/201", "/202"]


def test_where_nothing_has_run_the_batch_is_refused():
    ledger = Ledger(enter=[0])
    reply = batch(ledger, ("g", "200"), ("g", "200"), "200")
    assert reply.status == 503
    assert reply.json()["error"]["code"] == "503"
    assert ledger.booked == []


def test_a_group_that_was_undone_has_run():
    ledger = Ledger(enter=[1])
    reply = batch(ledger, ("g", "200"), ("g", "500"), ("h", "200"), ("h", "200"))
    assert kinds(reply) == ["rolled-back", 500, "unavailable", "unavailable"]


@pytest.mark.parametrize("prefer", ["", "continue-on-error=false"])
def test_a_group_does_not_begin_where_one_of_it_cannot_run(prefer):
    ledger = Ledger()
    items = ["404", ("g", "200"), ("g", "200", "r0"), ("g", "200"), (None, "200", "g")]
    reply = batch(ledger, *items, prefer=prefer)
    rest = ["stopped", "dependency-failed", "stopped", "dependency-failed"]
    assert kinds(reply) == [404, *(["stopped"] * 4 if prefer else rest)]
    assert ledger.events == []


def test_a_deadline_in_the_middle_of_a_group(monkeypatch):
    clock, ledger = Clock(monkeypatch), Ledger()

    def slow(environ, start_response):
        clock.now += 3
        return ledger(environ, start_response)

    slow.transaction = ledger.transaction
    items = [("g", "200"), ("g", "200"), ("g", "200"), ("h", "200"), ("h", "200")]
    reply = batch(slow, *items, limits=Limits(deadline=5))
    assert kinds(reply) == ["rolled-back", "rolled-back", "deadline", "deadline", "stopped"]
    assert ledger.events == ["begin", "rollback"]
    assert ledger.booked == []


def test_what_was_undone_leaves_its_room():
    ledger = Ledger()
    limits = Limits(max_reply_size=3000)
    items = [("g", "200/2000"), ("g", "404"), "200/2000", "200/2000"]
    reply = batch(ledger, *items, limits=limits)
    assert kinds(reply) == ["rolled-back", 404, 200, "too-large"]


def test_a_group_that_fills_the_reply_is_undone_and_leaves_its_room():
    ledger = Ledger()
    limits = Limits(max_reply_size=3000)
    items = [("g", "200/2000"), ("g", "200/2000"), ("g", "200"), "200/2000", "200"]
    reply = batch(ledger, *items, limits=limits)
    assert kinds(reply) == ["rolled-back", "too-large", "stopped", 200, 200]


def test_the_reply_of_what_failed_counts():
    ledger = Ledger()
    limits = Limits(max_reply_size=3000)
    items = [("g", "200"), ("g", "404/2000"), "200/2000"]
    assert kinds(batch(ledger, *items, limits=limits)) == ["rolled-back", 404, "too-large"]


def test_a_group_that_fills_the_reply_to_the_last_byte():
    ledger = Ledger()
    size = len(batch(ledger, ("g", "200/500"), ("g", "200/500")).body) - len('{"responses":[,]}')
    limits = Limits(max_reply_size=size)
    reply = batch(Ledger(), ("g", "200/500"), ("g", "200/500"), "200", limits=limits)
    assert kinds(reply) == [200, 200, "reply-limit"]


@pytest.mark.parametrize("transaction", [False, True])
def test_a_group_of_one(transaction):
    ledger = Ledger()
    items = [("g", "200"), ("h", "404"), (None, "200", "g"), (None, "200", "h")]
    reply = batch(ledger, *items, transaction=transaction)
    assert kinds(reply) == [200, 404, 200, "dependency-failed"]
    assert ledger.events == (["begin", "commit", "begin", "rollback"] if transaction else [])


def test_a_reference_out_of_a_group_that_cannot_be_filled_in_undoes_it():
    ledger = Ledger()
    reply = batch(ledger, "200", ("g", "200"), ("g", "$r0"))
    assert kinds(reply) == [200, "rolled-back", "reference"]
    assert ledger.booked == ["/200"]


def test_a_group_after_the_reply_is_full():
    """The first of it says why, the rest follow."""
    ledger = Ledger()
    limits = Limits(max_reply_size=3000)
    reply = batch(ledger, "200/4000", ("g", "200"), ("g", "200"), limits=limits)
    assert kinds(reply) == ["too-large", "reply-limit", "stopped"]
    assert ledger.events == []
