"""`threads` with Django: connections belong to threads, and are kept or closed as ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db.backends.signals import connection_created

from ..support import App, Environ, batch
from . import django_shop
from .database import Database
from .django_shop import Order
from .shop import Shop, kinds, order

THREADS, CALLERS, BATCHES = 4, 4, 200
WAIT = 20
"""Seconds that a thread may wait for another."""


@pytest.fixture
def made() -> Iterator[list[Any]]:
    """Django's connections, each as often as it was opened."""
    made = []

    def connected(connection: Any, **signal: Any) -> None:
        made.append(connection)

    connection_created.connect(connected)
    yield made
    connection_created.disconnect(connected)


@pytest.fixture
def max_age() -> int | None:
    """`CONN_MAX_AGE`, seconds."""
    return 0


@pytest.fixture
def shop(database: Database, max_age, made) -> Iterator[Shop]:
    """The shop, with ten orders."""
    with django_shop.opened(database, CONN_MAX_AGE=max_age) as shop:
        Order.objects.bulk_create(Order(sku=f"sku {number}") for number in range(1, 11))
        django_shop.connections.close_all()
        made.clear()
        yield shop


def ask_for_orders(app: App, first: int) -> None:
    """Ask for all orders in one batch, from that one on, and look at each reply."""
    numbers = [(first + place) % 10 + 1 for place in range(10)]
    entries = batch(app, *[f"/orders/{number}" for number in numbers]).entries
    assert [entry["body"] for entry in entries] == [{"sku": f"sku {number}"} for number in numbers]


def with_pool(app: App) -> App:
    """The same, with its pool made: not by several batches at once, one of which makes another."""
    assert kinds(batch(app, "/teapot", "/teapot").entries) == ["418", "418"]
    return app


def in_threads(count: int, job: Callable[[int], None]) -> None:
    """Run `job` in that many threads, which begin together."""
    start = threading.Barrier(count)

    def begin(number: int) -> None:
        start.wait(WAIT)
        job(number)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(begin, range(count)))


def open_in(database: Database, made: list[Any]) -> int:
    """How many connections are open, as the server says it if there is one."""
    if database.vendor == "postgresql":
        return len(database.states())
    return len([connection for connection in made if connection.connection is not None])


@pytest.mark.parametrize("max_age", [None], ids=["CONN_MAX_AGE=None"])
def test_persistent_connections_are_as_many_as_threads(shop, made, wrap):
    app = with_pool(wrap(shop.app, threads=THREADS))
    seen = []

    def caller(number: int) -> None:
        for turn in range(BATCHES // CALLERS):
            ask_for_orders(app, number + turn)
            if turn % 10 == 9:
                seen.append(open_in(shop.database, made))

    in_threads(CALLERS, caller)
    assert len(seen) == BATCHES // 10
    assert CALLERS <= max(seen) <= THREADS + CALLERS
    assert len(made) == len(set(made)) <= THREADS + CALLERS  # none was opened twice


def test_connections_that_do_not_persist_are_closed(shop, made, wrap):
    app = wrap(shop.app, threads=THREADS)
    in_threads(CALLERS, lambda number: [ask_for_orders(app, number) for _ in range(10)])
    assert len(made) == CALLERS * 10 * 10  # one for each member
    assert [connection for connection in made if connection.connection is not None] == []
    deadline = time.monotonic() + WAIT
    while open_in(shop.database, made):  # a backend of PostgreSQL takes a moment to end
        assert time.monotonic() < deadline


@pytest.mark.parametrize("max_age", [0, None], ids=["CONN_MAX_AGE=0", "CONN_MAX_AGE=None"])
def test_many_batches_at_once(shop, made, wrap):
    app = with_pool(wrap(shop.app, threads=THREADS))
    in_threads(32, lambda number: ask_for_orders(app, number))
    assert len(set(made)) <= 32 + THREADS


def test_members_are_told_of_threads(shop, wrap):
    seen = []

    def noting(environ: Environ, start_response: Any) -> Any:
        seen.append(environ["wsgi.multithread"])
        return shop.app(environ, start_response)

    for threads, expected in ((0, False), (THREADS, True)):
        seen.clear()
        batch(wrap(noting, threads=threads), "/orders", order("a"), "/orders")
        assert seen == [expected] * 3


def test_writes_hold_reads(shop, wrap):
    """What `threads` does not change: reads after a write see it, those before do not."""
    app = wrap(shop.app, threads=THREADS)
    reads = ["/orders"] * 4
    reply = batch(app, *reads, order("a"), *reads, order("b"), *reads)
    seen = [len(e["body"]["orders"]) for e in reply.entries if "orders" in e["body"]]
    assert seen == [10] * 4 + [11] * 4 + [12] * 4
