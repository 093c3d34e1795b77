"""The Django recipe under a real server, whose threads serve one request after another.

Django's test client does not tell whether a recipe works: it has `close_old_connections`
disconnected while it sends a request. `runserver` does not tell whether it cleans up: it has a new
thread, with new connections, for each connection of a client.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..support import ask, environ, post
from . import django_shop
from .database import Database
from .serving import Server, gunicorn
from .shop import Shop, kinds, order, rollback

CLIENTS = 8


@pytest.fixture
def shop(sqlite: Database) -> Iterator[Shop]:
    with django_shop.opened(sqlite) as shop:
        yield shop


@pytest.fixture
def server(shop: Shop) -> Iterator[Server]:
    """One process with four threads."""
    environment = {"DATABASE_FILE": shop.database.name}
    options = ["--worker-class=gthread", "--threads=4"]
    with gunicorn(
        "tests.databases.django_served:application", *options, environment=environment
    ) as server:
        yield server


def test_recipe_on_gunicorn(shop, server):
    def client(number: int) -> None:
        """All that can happen, by turns; only the first batch is kept."""
        assert kinds(post(server, rollback(order(f"{number}"), "/big")).entries) == ["201", "200"]
        undone = post(server, rollback(order("a"), order("b"), "/teapot", order("c")))
        assert kinds(undone.entries) == ["rolled-back", "rolled-back", "418", "stopped"]
        line = {"method": "post", "uri": "/lines", "body": {"order": 999}}
        assert kinds(post(server, rollback(order("d"), line)).entries) == ["rolled-back"] * 2
        assert f"{number}" in ask(server, environ("GET", "/orders")).json()["orders"]

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(client, range(CLIENTS)))
    assert sorted(shop.skus()) == [str(number) for number in range(CLIENTS)]


def test_bare_atomic_on_gunicorn(shop, server):
    reply = post(server, rollback(order("a"), "/orders"), "/atomic")
    assert kinds(reply.entries) == ["500", "stopped"]
    assert shop.skus() == []
    assert kinds(post(server, rollback(order("a"))).entries) == ["201"]
    assert shop.skus() == ["a"]
