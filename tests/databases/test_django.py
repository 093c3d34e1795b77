"""The Django recipe: signals, connections, and what Django does at the end of a transaction."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core import signals
from django.db import (
    DatabaseError,
    close_old_connections,
    connections,
    transaction,
)
from django.db.backends.signals import connection_created
from django.http import HttpRequest, JsonResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from ..support import ask, batch, environ, post
from . import django_shop, recipe_django
from .database import Database
from .django_shop import Order, ordered
from .shop import Shop, kinds, order, rollback

WAIT = 20
"""Seconds that a thread may wait for another."""


@pytest.fixture
def open_shop():
    """The shops of `conftest`, with Django alone."""
    return django_shop.opened


@pytest.fixture
def settings() -> dict[str, Any]:
    """More settings of the database, for `configured`."""
    return {}


@pytest.fixture
def configured(database: Database, settings) -> Iterator[Shop]:
    """The shop on each database, with `settings`."""
    with django_shop.opened(database, **settings) as shop:
        yield shop


def with_settings(**settings: Any):
    ids = [" ".join(f"{name}={value}" for name, value in settings.items())]
    return pytest.mark.parametrize("settings", [settings], ids=ids)


def is_open() -> bool:
    """Whether this thread's connection is open."""
    return connections["default"].connection is not None


# --- Signals -----------------------------------------------------------------------------------


def test_bare_atomic_does_not_survive_the_signals(shop, wrap):
    """Why there is a recipe: each request closes a connection that is in a transaction."""
    app = wrap(shop.app, transaction=transaction.atomic)
    for members in (["/orders", order("a")], [order("a"), "/orders"]):
        assert kinds(post(app, rollback(*members)).entries) == ["500", "stopped"]
    # A member that makes no query does not notice.
    assert kinds(post(app, rollback("/big", order("a"))).entries) == ["rolled-back", "500"]
    assert shop.skus() == []


def test_signals_stay_connected(shop, wrap):
    """They are sent for each member, with Django's own receiver among theirs."""
    seen = []

    def receiver(sender, **signal):
        seen.append(close_old_connections in signal["signal"]._live_receivers(sender)[0])

    both = [signals.request_started, signals.request_finished]
    for signal in both:
        signal.connect(receiver)
    try:
        post(wrap(shop.app, transaction=shop.transaction), rollback(order("a"), "/orders"))
    finally:
        for signal in both:
            assert signal.disconnect(receiver)
    assert seen == [True] * 4


def test_other_threads_are_served_as_ever(shop, wrap):
    """While a batch is in its transaction, their connections are closed after each request."""
    inside, go_on = threading.Event(), threading.Event()

    def pause():
        inside.set()
        return go_on.wait(WAIT)

    shop.looks["pause"] = pause
    app = wrap(shop.looking, transaction=shop.transaction)

    def other() -> tuple[int, bool, Any]:
        reply = ask(app, environ("GET", "/orders"))
        return reply.status, is_open(), reply.json()

    with ThreadPoolExecutor(1) as batches, ThreadPoolExecutor(1) as others:
        running = batches.submit(post, app, rollback(order("a"), "/look/pause", "/orders"))
        assert inside.wait(WAIT)
        during = others.submit(other).result(WAIT)
        go_on.set()
        reply = running.result(WAIT)
        after = others.submit(other).result(WAIT)
    assert kinds(reply.entries) == ["201", "200", "200"]
    assert during == (200, False, {"orders": []})
    assert after == (200, False, {"orders": ["a"]})


# --- Connections -------------------------------------------------------------------------------


ENDINGS = {
    "committed": ([order("a")], ["201"]),
    "undone": ([order("a"), "/teapot"], ["rolled-back", "418"]),
    "commit-fails": (
        [{"method": "post", "uri": "/lines", "body": {"order": 999}}],
        ["rolled-back"],
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("settings", "stays"),
    [({"CONN_MAX_AGE": 0}, False), ({"CONN_MAX_AGE": None}, True)],
    ids=["CONN_MAX_AGE=0", "CONN_MAX_AGE=None"],
)
def test_connection_is_closed_afterwards_as_conn_max_age_says(configured, wrap, stays, ending):
    members, expected = ENDINGS[ending]
    app = wrap(configured.app, transaction=configured.transaction)
    assert kinds(post(app, rollback(*members)).entries) == expected
    assert is_open() is stays
    assert connections["default"].get_autocommit()
    assert ask(app, environ("GET", "/orders")).status == 200
    assert is_open() is stays
    # What the recipe did to the connection is undone.
    assert "close_if_unusable_or_obsolete" not in vars(connections["default"])


def test_connection_is_as_ever_after_a_transaction_that_was_not_entered(missing_shop, wrap):
    app = wrap(missing_shop.app, transaction=missing_shop.transaction)
    assert post(app, rollback("/orders")).status == 503
    assert "close_if_unusable_or_obsolete" not in vars(connections["default"])


@with_settings(CONN_MAX_AGE=60)
def test_connection_that_is_too_old_is_replaced(configured, wrap):
    """As before any request: what closed idle connections in between may be a proxy."""
    opened = []

    def connected(**signal: Any) -> None:
        opened.append(True)

    app = wrap(configured.app, transaction=configured.transaction)
    connection_created.connect(connected)
    try:
        for name in "ab":
            assert kinds(post(app, rollback(order(name))).entries) == ["201"]
        assert len(opened) == 1
        connections["default"].close_at -= 60
        assert kinds(post(app, rollback(order("c"))).entries) == ["201"]
        assert len(opened) == 2
    finally:
        connection_created.disconnect(connected)


@with_settings(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_connection_that_broke_between_requests_is_replaced(configured, wrap):
    """As in any request: the batch is the first to notice."""
    app = wrap(configured.app, transaction=configured.transaction)
    assert kinds(post(app, rollback(order("a"))).entries) == ["201"]
    configured.database.disconnect_all()
    assert kinds(post(app, rollback(order("b"))).entries) == ["201"]
    assert configured.skus() == ["a", "b"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_connection_that_breaks_inside(shop, wrap):
    shop.looks["break"] = shop.database.disconnect_all
    app = wrap(shop.looking, transaction=shop.transaction)
    reply = post(app, rollback(order("a"), "/look/break", "/orders"))
    assert kinds(reply.entries) == ["rolled-back", "rolled-back", "500"]
    reply = post(app, rollback(order("a"), "/look/break"))
    assert kinds(reply.entries) == ["rolled-back", "rolled-back"]
    assert shop.skus() == []
    assert kinds(post(app, rollback(order("a"))).entries) == ["201"]


def test_transaction_inside_another_is_not_entered(shop, wrap):
    """Its end would commit nothing."""
    app = wrap(shop.app, transaction=shop.transaction)
    with transaction.atomic():
        assert post(app, rollback(order("a"))).status == 503
    assert kinds(post(app, rollback(order("a"))).entries) == ["201"]
    assert shop.skus() == ["a"]


@with_settings(ATOMIC_REQUESTS=True)
def test_atomic_requests(configured, wrap):
    """Each view is a savepoint then; and batches that are not for rollback are as ever."""
    app = wrap(configured.app, transaction=configured.transaction)
    crash = {"method": "post", "uri": "/crash"}
    tolerant = {"method": "post", "uri": "/orders/tolerant", "body": {"sku": "a"}}
    reply = post(app, rollback(order("a"), tolerant, crash, order("b")))
    assert kinds(reply.entries) == ["rolled-back", "rolled-back", "500", "stopped"]
    assert configured.skus() == []
    reply = post(app, rollback(order("a"), tolerant, order("b")))
    assert kinds(reply.entries) == ["201", "200", "201"]
    assert configured.skus() == ["a", "b"]
    assert kinds(batch(app, order("c"), crash, order("d")).entries) == ["201", "500", "201"]
    assert configured.skus() == ["a", "b", "c", "d"]


# --- The end of the transaction ----------------------------------------------------------------

called: list[str] = []


def swallow(request: HttpRequest):
    """An error inside the transaction, of which the view tells nobody."""
    try:
        if request.GET["how"] == "save":
            Order.objects.create(sku="a")
        else:
            with connections["default"].cursor() as cursor:
                cursor.execute("SELECT nothing FROM nowhere")
    except DatabaseError:
        return JsonResponse({"swallowed": True})
    raise AssertionError("no error")


def hook(request: HttpRequest):
    def call() -> None:
        called.append(request.GET["name"])
        if request.GET["name"] == "fails":
            raise LookupError("hook")

    transaction.on_commit(call)
    return JsonResponse({"hooks": called})


def durable(request: HttpRequest):
    with transaction.atomic(durable=True):
        return ordered(request)


urlpatterns = [
    *django_shop.urlpatterns,
    path("swallow", swallow),
    path("hook", hook),
    path("durable", csrf_exempt(durable)),
]


@pytest.fixture
def more_views(shop) -> Iterator[None]:
    """The views above; `shop` has its own."""
    called.clear()
    with override_settings(ROOT_URLCONF=__name__):
        yield


@pytest.mark.usefixtures("more_views")
@pytest.mark.parametrize("how", ["save", "cursor"])
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_error_that_a_member_swallows_fails_the_commit(shop, wrap, how):
    """`atomic`, or PostgreSQL itself, rolls such a transaction back and reports no error."""
    app = wrap(shop.app, transaction=shop.transaction)
    assert kinds(post(app, rollback(order("a"))).entries) == ["201"]
    assert kinds(batch(app, f"/swallow?how={how}").entries) == ["200"]
    reply = post(app, rollback(order("b"), f"/swallow?how={how}"))
    assert kinds(reply.entries) == ["rolled-back", "rolled-back"]
    assert reply.entries[0]["body"]["detail"] == "The transaction could not be committed."
    assert shop.skus() == ["a"]


@pytest.mark.usefixtures("more_views")
@pytest.mark.parametrize(
    ("how", "expected", "skus"),
    [
        # Model.save() marks the transaction as broken, whatever the database says.
        pytest.param("save", ["rolled-back", "rolled-back"], ["a"], id="save"),
        # In SQLite a statement that failed breaks nothing.
        pytest.param("cursor", ["201", "200"], ["a", "b"], id="cursor"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_error_that_a_member_swallows_on_sqlite(shop, wrap, how, expected, skus):
    app = wrap(shop.app, transaction=shop.transaction)
    assert kinds(post(app, rollback(order("a"))).entries) == ["201"]
    assert kinds(post(app, rollback(order("b"), f"/swallow?how={how}")).entries) == expected
    assert shop.skus() == skus


@pytest.mark.usefixtures("more_views")
def test_hooks_run_after_the_commit_alone(shop, wrap):
    app = wrap(shop.app, transaction=shop.transaction)
    reply = post(app, rollback("/hook?name=one", order("a"), "/hook?name=two"))
    assert [entry["body"].get("hooks") for entry in reply.entries] == [[], None, []]
    assert called == ["one", "two"]
    post(app, rollback("/hook?name=three", "/teapot"))
    assert called == ["one", "two"]
    assert kinds(batch(app, "/hook?name=four").entries) == ["200"]
    assert called == ["one", "two", "four"]


@pytest.mark.usefixtures("more_views")
def test_hook_that_fails_does_not_make_a_committed_batch_undone(shop, wrap, caplog):
    app = wrap(shop.app, transaction=shop.transaction)
    reply = post(app, rollback(order("a"), "/hook?name=fails"))
    assert kinds(reply.entries) == ["201", "200"]
    assert shop.skus() == ["a"]
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is LookupError
    assert kinds(post(app, rollback(order("b"))).entries) == ["201"]
    assert called == ["fails"]


@pytest.mark.usefixtures("more_views")
def test_durable_block_is_refused_inside(shop, wrap):
    """Django's own rule: it cannot be, as it would be a savepoint."""
    item = {"method": "post", "uri": "/durable", "body": {"sku": "a"}}
    app = wrap(shop.app, transaction=shop.transaction)
    assert kinds(post(app, rollback("/big", item)).entries) == ["rolled-back", "500"]
    assert kinds(batch(app, item).entries) == ["201"]
    assert shop.skus() == ["a"]


def test_session_is_undone(shop, wrap):
    """Its row is written by a middleware, after the view."""
    login = {"method": "post", "uri": "/login?user=ada"}
    sessions = "SELECT count(*) FROM django_session"
    app = wrap(shop.app, transaction=shop.transaction)
    assert kinds(post(app, rollback(login, "/teapot")).entries) == ["rolled-back", "418"]
    assert shop.database.query(sessions) == [0]
    assert kinds(post(app, rollback(login)).entries) == ["200"]
    assert shop.database.query(sessions) == [1]


# --- More than one database --------------------------------------------------------------------


class Second:
    """Requests that have `?second` in their path are for the second database."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "second" if current.get("second") else None

    db_for_write = db_for_read


current: dict[str, bool] = {}


def to_second(app):
    def routed(request, start_response):
        current["second"] = request["QUERY_STRING"] == "second"
        return app(request, start_response)

    return routed


@contextmanager
def both():
    with recipe_django.batch_transaction("default"), recipe_django.batch_transaction("second"):
        yield


def test_two_databases(shop, tmp_path: Path, wrap):
    """Each is in the transaction if it is named; there is no commit of both at once."""
    second = Database("sqlite", str(tmp_path / "second.sqlite3"))
    second_shop = Shop(shop.app, shop.transaction, second)
    to_first = order("a")
    to_other = order("b") | {"uri": "/orders?second"}
    with ExitStack() as stack:
        settings = {"default": shop.database.settings(), "second": second.settings()}
        stack.enter_context(django_shop.databases(**settings))
        stack.enter_context(override_settings(DATABASE_ROUTERS=[Second()]))
        django_shop.create_tables("second")
        app = wrap(to_second(shop.app), transaction=both)
        reply = post(app, rollback(to_first, to_other, "/teapot"))
        assert kinds(reply.entries) == ["rolled-back", "rolled-back", "418"]
        assert (shop.skus(), second_shop.skus()) == ([], [])
        assert kinds(post(app, rollback(to_first, to_other)).entries) == ["201", "201"]
        assert (shop.skus(), second_shop.skus()) == (["a"], ["b"])
        assert all(connection.connection is None for connection in connections.all())
        # A database that is not named is not undone.
        app = wrap(to_second(shop.app), transaction=shop.transaction)
        again = [item | {"body": {"sku": "c"}} for item in (to_first, to_other)]
        post(app, rollback(*again, "/teapot"))
        assert (shop.skus(), second_shop.skus()) == (["a"], ["b", "c"])


# --- As it is in the README --------------------------------------------------------------------


def test_recipe_as_it_is(shop):
    app = recipe_django.application
    assert kinds(post(app, rollback(order("a"), "/teapot")).entries) == ["rolled-back", "418"]
    assert kinds(post(app, rollback(order("a"), "/orders")).entries) == ["201", "200"]
    assert shop.skus() == ["a"]
