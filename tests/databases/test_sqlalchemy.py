"""The SQLAlchemy recipe, under Flask: sessions, savepoints, connections, and SQLite."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType

import pytest
from flask import request
from sqlalchemy import event, text
from sqlalchemy.exc import SQLAlchemyError

from batchwsgi import subrequest

from ..support import ask, batch, environ, post
from . import flask_shop
from .database import Database
from .flask_shop import Order
from .shop import Shop, kinds, order, rollback


@pytest.fixture
def opened(database: Database) -> Iterator[tuple[Shop, ModuleType]]:
    with flask_shop.opened(database) as opened:
        yield opened


@pytest.fixture
def shop(opened) -> Shop:
    return opened[0]


@pytest.fixture
def recipe(opened) -> ModuleType:
    """The recipe's names."""
    return opened[1]


@pytest.fixture
def statements(recipe) -> list[str]:
    """What begins and ends transactions and savepoints, in order."""
    sent: list[str] = []
    names = ["begin", "commit", "rollback", "savepoint", "release_savepoint", "rollback_savepoint"]
    for name in names:
        event.listen(recipe.engine, name, lambda *args, name=name: sent.append(name))
    return sent


# --- Sessions and savepoints -------------------------------------------------------------------


def test_commits_of_members_are_savepoints(shop, recipe, statements, wrap):
    app = wrap(shop.app, transaction=recipe.batch_transaction)
    assert kinds(post(app, rollback(order("a"), order("b"))).entries) == ["201", "201"]
    # The reply needs the id, which is read in another savepoint, that no commit() releases.
    one = ["savepoint", "release_savepoint", "savepoint", "rollback_savepoint"]
    assert statements == ["begin", *one, *one, "commit"]


def test_sessions_outside_are_as_ever(shop, recipe, statements, wrap):
    app = wrap(shop.app, transaction=recipe.batch_transaction)
    for _ in range(2):
        statements.clear()
        assert kinds(batch(app, order("a"), "/orders").entries)[1] == "200"
        assert "savepoint" not in statements
        shop.database.query("DELETE FROM shop_order")
        assert kinds(post(app, rollback(order("b"), "/teapot")).entries) == ["rolled-back", "418"]


def test_session_after_a_transaction_is_in_none(recipe):
    """In the same context too, where members of another group may come."""
    for error in (None, LookupError):
        with suppress(LookupError), recipe.batch_transaction():
            assert recipe.new_session().bind is recipe.batch_connection.get()
            if error:
                raise error
        assert recipe.new_session().bind is recipe.engine


def test_writes_without_commit_are_lost_as_ever(shop, recipe, wrap):
    """A view that forgets `commit()` loses its own, and no more."""

    @recipe.app.post("/forgets")
    def forgets():
        recipe.session.add(Order(sku="forgotten"))
        recipe.session.flush()
        return {}

    app = wrap(shop.app, transaction=recipe.batch_transaction)
    item = {"method": "post", "uri": "/forgets"}
    assert kinds(batch(app, item).entries) == ["200"]
    assert kinds(post(app, rollback(order("a"), item, order("b"))).entries) == ["201", "200", "201"]
    assert shop.skus() == ["a", "b"]


def test_error_that_a_view_swallows_is_its_own(shop, recipe, wrap):
    """Without a `rollback()`: the session's end goes back to its savepoint."""

    @recipe.app.get("/swallow")
    def swallow():
        try:
            recipe.session.execute(text("SELECT nothing FROM nowhere"))
        except SQLAlchemyError:
            return {"swallowed": True}
        raise AssertionError("no error")

    app = wrap(shop.app, transaction=recipe.batch_transaction)
    reply = post(app, rollback(order("a"), "/swallow", order("b"), "/swallow"))
    assert kinds(reply.entries) == ["201", "200", "201", "200"]
    assert shop.skus() == ["a", "b"]


def test_sub_request_inside(shop, recipe, wrap):
    """A view's `subrequest` has a new context, and so a session that is in no batch."""

    @recipe.app.get("/sub")
    def sub():
        reply = subrequest(shop.app, request.environ, "GET", "/orders")
        return reply.json(), reply.status

    app = wrap(shop.app, transaction=recipe.batch_transaction)
    reply = post(app, rollback(order("a"), "/sub"))
    assert reply.entries[1]["body"] == {"orders": []}


# --- Connections -------------------------------------------------------------------------------

LINE_OF_NO_ORDER = {"method": "post", "uri": "/lines", "body": {"order": 999}}


@pytest.mark.parametrize(
    "members",
    [
        [order("a")],
        [order("a"), "/teapot"],
        [order("a"), {"method": "post", "uri": "/crash"}],
        [LINE_OF_NO_ORDER],
    ],
    ids=["committed", "undone", "crash", "commit-fails"],
)
def test_connection_is_given_back(shop, recipe, wrap, members):
    app = wrap(shop.app, transaction=recipe.batch_transaction)
    for _ in range(3):
        post(app, rollback(*members))
        assert recipe.engine.pool.checkedout() == 0
        assert recipe.engine.pool.checkedin() == 1
        assert ask(app, environ("GET", "/orders")).status == 200


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_connection_that_breaks_inside(shop, recipe, wrap):
    shop.looks["break"] = shop.database.disconnect_all
    app = wrap(shop.looking, transaction=recipe.batch_transaction)
    for last, expected in (("/orders", "500"), ("/look/break", "rolled-back")):
        reply = post(app, rollback(order("a"), "/look/break", last))
        assert kinds(reply.entries) == ["rolled-back", "rolled-back", expected]
        assert shop.skus() == []
    assert kinds(post(app, rollback(order("a"))).entries) == ["201"]
    assert shop.skus() == ["a"]


# --- SQLite ------------------------------------------------------------------------------------


def test_sqlite_without_its_listeners_is_not_undone(sqlite, wrap):
    """Why the recipe has them: sqlite3 begins no transaction before a SAVEPOINT.

    The first savepoint is then the transaction, and its release a commit.
    """
    source = flask_shop.RECIPE.read_text()
    without = re.sub(r"\nif engine\.dialect.*?\n(?=\w)", "\n", source, flags=re.DOTALL)
    assert "BEGIN" in source
    assert "BEGIN" not in without
    with flask_shop.opened(sqlite, source=without) as (shop, recipe):
        app = wrap(shop.app, transaction=recipe.batch_transaction)
        reply = post(app, rollback(order("a"), order("b"), "/teapot"))
        assert kinds(reply.entries) == ["rolled-back", "rolled-back", "418"]
        assert shop.skus() == ["a"]


# --- As it is in the README --------------------------------------------------------------------


def test_recipe_as_it_is(shop, recipe):
    app = recipe.app
    assert kinds(post(app, rollback(order("a"), "/teapot")).entries) == ["rolled-back", "418"]
    assert kinds(post(app, rollback(order("a"), "/orders")).entries) == ["201", "200"]
    assert shop.skus() == ["a"]
    assert app.test_client().get("/orders").json == {"orders": ["a"]}
