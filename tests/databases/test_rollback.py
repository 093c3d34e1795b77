"""A batch that is all or nothing, in a database's own transaction, with both recipes."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from batchwsgi import BatchMiddleware, Limits

from ..support import ask, batch, environ, post
from .shop import kind, kinds, order, rollback

WAIT = 20
"""Seconds that a thread may wait for another."""

NDJSON = {"Accept": "application/x-ndjson"}
CRASH = {"method": "post", "uri": "/crash"}
LINE_OF_NO_ORDER = {"method": "post", "uri": "/lines", "body": {"order": 999}}


def direct(app, method, path, body=None):
    """A request that is in no batch."""
    body = b"" if body is None else json.dumps(body).encode()
    return ask(app, environ(method, path, body, {"Content-Type": "application/json"}))


def lines(reply):
    """The entries of a streamed reply."""
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.body.splitlines()]


# --- Committed, or undone ----------------------------------------------------------------------


def test_success_is_committed(shop, serve):
    reply = post(serve(), rollback(order("a"), order("b")))
    assert kinds(reply.entries) == ["201", "201"]
    assert shop.skus() == ["a", "b"]


def test_members_see_each_other_and_nobody_else_does(shop, serve):
    shop.looks["outside"] = shop.skus
    reply = post(
        serve(), rollback(order("a"), "/orders", "/look/outside", order("b"), "/look/outside")
    )
    assert kinds(reply.entries) == ["201", "200", "200", "201", "200"]
    assert reply.entries[1]["body"] == {"orders": ["a"]}
    assert [reply.entries[index]["body"] for index in (2, 4)] == [[], []]
    assert shop.skus() == ["a", "b"]


@pytest.mark.parametrize(
    ("failing", "status"),
    [
        pytest.param("/teapot", "418", id="reply"),
        pytest.param("/orders/999", "404", id="not-found"),
        pytest.param(order("a"), "500", id="constraint"),
        pytest.param(CRASH, "500", id="exception-after-its-own-commit"),
    ],
)
def test_failure_undoes_everything(shop, serve, failing, status):
    shop.looks["last"] = lambda: pytest.fail("it was sent")
    app = serve()
    reply = post(app, rollback(order("a"), order("b"), failing, order("c"), "/look/last"))
    assert kinds(reply.entries) == ["rolled-back", "rolled-back", status, "stopped", "stopped"]
    assert [entry["status_code"] for entry in reply.entries] == ["424", "424", status, "424", "424"]
    assert {entry["body"]["detail"] for entry in reply.entries if kind(entry) != status} == {
        "The request at index 2 failed."
    }
    assert shop.skus() == []
    assert kinds(post(app, rollback(order("a"), order("b"))).entries) == ["201", "201"]
    assert shop.skus() == ["a", "b"]


def test_failure_in_every_place(shop, serve):
    app = serve()
    for place in range(3):
        items = [order("a"), order("b"), order("c")]
        items[place] = CRASH
        expected = ["rolled-back"] * place + ["500"] + ["stopped"] * (2 - place)
        assert kinds(post(app, rollback(*items)).entries) == expected
        assert shop.skus() == []


def test_failed_dependency_undoes_what_went_before(shop, serve):
    reference = {"uri": "/orders/{$responses.first.body#/nothing}"}
    reply = post(serve(), rollback(order("a", id="first"), reference, "/orders"))
    assert kinds(reply.entries) == ["rolled-back", "reference", "stopped"]
    assert shop.skus() == []


def test_error_that_a_member_deals_with_is_its_own(shop, serve):
    """Its own savepoint is rolled back; what went before stays, on PostgreSQL too."""
    again = {"method": "post", "uri": "/orders/tolerant", "body": {"sku": "a"}}
    app = serve()
    reply = post(app, rollback(order("a"), again, order("b")))
    assert kinds(reply.entries) == ["201", "200", "201"]
    assert reply.entries[1]["body"] == {"duplicate": True}
    assert shop.skus() == ["a", "b"]


def test_requests_before_and_after_are_as_ever(shop, serve):
    app = serve()
    assert direct(app, "POST", "/orders", {"sku": "before"}).status == 201
    for member in ("/orders", "/teapot"):
        post(app, rollback(order("in " + member), member))
        assert direct(app, "POST", "/orders", {"sku": "after " + member}).status == 201
        assert direct(app, "POST", "/crash").status == 500
        assert shop.skus()[-1] == "crash"  # no transaction around it
        shop.database.query("DELETE FROM shop_order WHERE sku = 'crash'")
    assert shop.skus() == ["before", "in /orders", "after /orders", "after /teapot"]


def test_a_worker_that_is_stopped_undoes(shop):
    """`SystemExit` and the like: gunicorn raises them in the thread that serves."""

    def stopped():
        raise SystemExit(1)

    shop.looks["stop"] = stopped
    app = BatchMiddleware(shop.looking, transaction=shop.transaction)
    with pytest.raises(SystemExit):
        post(app, rollback(order("a"), "/look/stop"))
    assert shop.skus() == []
    assert kinds(post(app, rollback(order("a"))).entries) == ["201"]
    assert shop.skus() == ["a"]


# --- The ends of the transaction ---------------------------------------------------------------


def test_commit_that_fails(shop, serve, caplog):
    """A constraint that is looked at last: every member has succeeded."""
    app = serve()
    for _ in range(2):
        reply = post(app, rollback(order("a"), LINE_OF_NO_ORDER, "/orders"))
        assert kinds(reply.entries) == ["rolled-back"] * 3
        assert [entry["status_code"] for entry in reply.entries] == ["424"] * 3
        assert {entry["body"]["detail"] for entry in reply.entries} == {
            "The transaction could not be committed."
        }
        assert shop.skus() == []
    [record, _] = [record for record in caplog.records if record.name == "batchwsgi"]
    assert record.levelno == logging.ERROR
    assert "IntegrityError" in record.exc_text
    assert kinds(post(app, rollback(order("a"))).entries) == ["201"]
    assert shop.skus() == ["a"]


def test_commit_that_does_not_fail(shop, serve):
    """The same constraint, kept by the time it is looked at."""
    reply = post(serve(), rollback({**LINE_OF_NO_ORDER, "body": {"order": 1}}, order("a")))
    assert kinds(reply.entries) == ["201", "201"]
    assert shop.skus() == ["a"]


@pytest.mark.parametrize("accept", [{}, NDJSON], ids=["whole", "streamed"])
def test_transaction_that_cannot_be_entered(missing_shop, wrap, caplog, accept):
    missing_shop.looks["first"] = lambda: pytest.fail("it was sent")
    app = wrap(missing_shop.looking, transaction=missing_shop.transaction)
    for _ in range(2):
        reply = post(app, rollback("/look/first", order("a")), headers=accept)
        assert reply.status == 503
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert "The transaction could not be entered." in reply.json()["detail"]
    assert batch(app, "/teapot").entries[0]["status_code"] == "418"
    [record, _] = [record for record in caplog.records if record.name == "batchwsgi"]
    assert "OperationalError" in record.exc_text


def test_only_rollback_has_a_transaction(shop, serve):
    """`ignore` and `stop` on the same endpoint: each member commits by itself."""
    shop.looks["outside"] = shop.skus
    app = serve()
    for number, on_fail in enumerate(("ignore", "stop")):
        items = [order(on_fail), {"uri": "/look/outside"}, {"uri": "/teapot"}, order("last")]
        reply = post(app, {"on-fail": on_fail, "requests": items})
        assert kinds(reply.entries) == ["201", "200", "418", ["201", "stopped"][number]]
        assert on_fail in reply.entries[1]["body"]
    assert shop.skus() == ["ignore", "last", "stop"]


# --- Limits ------------------------------------------------------------------------------------


def test_deadline_undoes(shop, serve, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("batchwsgi.middleware.monotonic", lambda: now[0])
    monkeypatch.setattr("batchwsgi.run.monotonic", lambda: now[0])

    def later():
        now[0] += 10
        return now[0]

    shop.looks["later"] = later
    app = serve(limits=Limits(deadline=15))
    reply = post(app, rollback(order("a"), "/look/later", order("b")))
    assert kinds(reply.entries) == ["201", "200", "201"]
    reply = post(app, rollback(order("c"), "/look/later", "/look/later", order("d"), "/orders"))
    assert kinds(reply.entries) == ["rolled-back"] * 3 + ["deadline"] * 2
    assert shop.skus() == ["a", "b"]


def test_reply_that_is_too_large_undoes(shop, serve):
    app = serve(limits=Limits(max_member_size=5000))
    reply = post(app, rollback(order("a"), "/big", order("b")))
    assert kinds(reply.entries) == ["rolled-back", "too-large", "stopped"]
    assert shop.skus() == []


def test_reply_limit_undoes(shop, serve):
    app = serve(limits=Limits(max_reply_size=5000))
    reply = post(app, rollback(order("a"), "/big", order("b")))
    assert kinds(reply.entries) == ["rolled-back", "too-large", "reply-limit"]
    assert shop.skus() == []


# --- References and cookies --------------------------------------------------------------------

BY_REFERENCE = [order("a", id="order"), "{$responses.order.location}"]

PROGRAM = [
    {"method": "post", "uri": "/login?user=ada"},
    "/me",
    order("{$responses.1.body#/user}", id="order"),
    "{$responses.order.location}",
]


def test_references(shop, serve):
    app = serve()
    reply = post(app, rollback(*BY_REFERENCE))
    assert kinds(reply.entries) == ["201", "200"]
    assert reply.entries[1]["body"] == {"sku": "a"}
    shop.database.query("DELETE FROM shop_order")
    reply = post(app, rollback(*BY_REFERENCE, "/teapot"))
    assert kinds(reply.entries) == ["rolled-back", "rolled-back", "418"]
    assert shop.skus() == []


def test_no_cookie_of_a_batch_that_was_undone(shop, serve):
    """Nor the failing member's; the session that it names may not be there."""
    login = {"method": "post", "uri": "/login?user=ada"}
    refused = {"method": "post", "uri": "/login?user=bob&status=403"}
    app = serve()
    [cookie] = post(app, rollback(login)).headers.getlist("Set-Cookie")
    assert "session" in cookie.partition("=")[0]
    for members, expected in (
        ([login, "/teapot"], ["rolled-back", "418"]),
        ([login, refused], ["rolled-back", "403"]),
        ([refused, login], ["403", "stopped"]),
        ([login, LINE_OF_NO_ORDER], ["rolled-back", "rolled-back"]),
    ):
        reply = post(app, rollback(*members))
        assert kinds(reply.entries) == expected
        assert "Set-Cookie" not in reply.headers


def test_log_in_order_and_read_back(shop, serve):
    reply = post(serve(), rollback(*PROGRAM))
    assert kinds(reply.entries) == ["200", "200", "201", "200"]
    assert reply.entries[1]["body"] == {"user": "ada"}
    assert reply.entries[3]["body"] == {"sku": "ada"}
    assert shop.skus() == ["ada"]
    [cookie] = reply.headers.getlist("Set-Cookie")
    later = ask(serve(), environ("GET", "/me", headers={"Cookie": cookie.partition(";")[0]}))
    assert later.json() == {"user": "ada"}


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param("/teapot", id="member"),
        pytest.param(
            {"method": "post", "uri": "/login?user=bob&status=403"}, id="member-with-a-cookie"
        ),
        pytest.param(LINE_OF_NO_ORDER, id="commit"),
    ],
)
def test_log_in_and_order_undone(shop, serve, failing):
    reply = post(serve(), rollback(*PROGRAM, failing))
    assert kinds(reply.entries)[:4] == ["rolled-back"] * 4
    assert shop.skus() == []
    assert "Set-Cookie" not in reply.headers


# --- Streaming ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "expected", "skus"),
    [
        ("/orders", ["201", "201", "200"], ["a", "b"]),
        ("/teapot", ["rolled-back", "rolled-back", "418"], []),
        (LINE_OF_NO_ORDER, ["rolled-back"] * 3, []),
    ],
    ids=["committed", "undone", "commit-fails"],
)
def test_streamed_entries_come_after_the_end(shop, serve, last, expected, skus):
    ended = []

    @contextmanager
    def transaction():
        try:
            with shop.transaction():
                yield
        finally:
            ended.append(shop.skus())

    app = BatchMiddleware(shop.looking, transaction=transaction)
    body = json.dumps(rollback(order("a"), order("b"), last)).encode()
    headers = {"Content-Type": "application/json", **NDJSON}
    stream = app(environ("POST", "/batch", body, headers), lambda *start: None)
    assert ended == [skus]  # before a line is taken, however slow the client
    if shop.database.vendor == "postgresql":
        assert not any("transaction" in state for state in shop.database.states())
    assert kinds(json.loads(line) for line in stream) == expected
    stream.close()
    assert shop.skus() == skus

    shop.database.query("DELETE FROM shop_order")
    reply = post(serve(), body, headers=NDJSON)
    assert kinds(lines(reply)) == expected
    assert [entry["index"] for entry in lines(reply)] == [0, 1, 2]
    assert shop.skus() == skus


# --- Threads -----------------------------------------------------------------------------------


def test_one_thread_whatever_the_pool(shop, serve):
    shop.looks["thread"] = threading.get_ident
    for threads in (0, 4):
        reply = post(serve(threads=threads), rollback(*["/look/thread"] * 8, "/orders"))
        assert {entry["body"] for entry in reply.entries[:-1]} == {threading.get_ident()}


def test_two_batches_at_once(shop, serve):
    """Each in a thread and a transaction of its own; one of them fails."""
    inside = threading.Barrier(2)
    if shop.database.vendor == "sqlite":  # there it has one writer, and the other waits
        inside = threading.Barrier(1)
    shop.looks["meet"] = lambda: inside.wait(WAIT) and None
    app = serve()
    documents = [
        rollback(order("a"), "/look/meet", "/orders", order("b"), "/look/meet"),
        rollback(order("c"), "/look/meet", "/orders", order("d"), "/look/meet", "/teapot"),
    ]
    start = threading.Barrier(2)

    def send(document):
        start.wait(WAIT)
        return post(app, document)

    with ThreadPoolExecutor(2) as pool:
        kept, undone = pool.map(send, documents)
    assert kinds(kept.entries) == ["201", "200", "200", "201", "200"]
    assert kept.entries[2]["body"] == {"orders": ["a"]}
    assert kinds(undone.entries) == ["rolled-back"] * 5 + ["418"]
    assert shop.skus() == ["a", "b"]
