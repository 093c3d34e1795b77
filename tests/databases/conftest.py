"""Fixtures: the PostgreSQL server, databases, and the shop with each framework on each of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ..frameworks import django_app  # noqa: F401 # has Django configured
from . import django_shop, flask_shop
from .database import Database, postgresql_server
from .shop import Shop

VENDORS = ["sqlite", "postgresql"]
numbers = itertools.count()


@pytest.fixture(scope="session")
def postgresql_databases() -> Iterator[Callable[[], AbstractContextManager[Database]]]:
    """A way to get a database without tables, of a server that runs until all tests are over."""
    with postgresql_server() as host:
        yield partial(emptied, Database("postgresql", "postgres", host), [])


@contextmanager
def emptied(maintenance: Database, idle: list[Database]) -> Iterator[Database]:
    """A database, one of those that are idle or a new one, which is idle again afterwards.

    It is renamed in between, which PostgreSQL refuses while anybody is connected to it: no test
    leaves a connection open.
    """
    database, renamed = (replace(maintenance, name=f"shop{next(numbers)}") for _ in range(2))
    if idle:
        database = idle.pop()
    else:
        maintenance.query(f"CREATE DATABASE {database.name}")
    yield database
    maintenance.query(f"ALTER DATABASE {database.name} RENAME TO {renamed.name}")
    renamed.query("DROP SCHEMA public CASCADE")
    renamed.query("CREATE SCHEMA public")
    idle.append(renamed)


@pytest.fixture
def sqlite(tmp_path: Path) -> Database:
    """A database of SQLite, without tables."""
    return Database("sqlite", str(tmp_path / "shop.sqlite3"))


@pytest.fixture
def postgresql(postgresql_databases) -> Iterator[Database]:
    """A database of PostgreSQL, without tables. A connection that is left open is an error."""
    with postgresql_databases() as database:
        yield database


@pytest.fixture(params=VENDORS)
def database(request: pytest.FixtureRequest) -> Database:
    """Each kind of database."""
    return request.getfixturevalue(request.param)


@contextmanager
def open_flask(database: Database, tables: bool = True) -> Iterator[Shop]:
    with flask_shop.opened(database, tables) as (shop, _):
        yield shop


OPEN = {"django": django_shop.opened, "sqlalchemy": open_flask}


@pytest.fixture(params=OPEN)
def open_shop(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[Shop]]:
    """Each framework's way to make the shop."""
    return OPEN[request.param]


@pytest.fixture
def shop(open_shop, database: Database) -> Iterator[Shop]:
    """The shop with each framework on each database."""
    with open_shop(database) as shop:
        yield shop


@pytest.fixture
def missing_shop(open_shop, database: Database) -> Iterator[Shop]:
    """The same, on a database that cannot be connected to."""
    with open_shop(database.missing(), tables=False) as shop:
        yield shop


@pytest.fixture
def serve(shop: Shop, wrap):
    """Wrap the shop in the middleware with its transaction, between linters; more options."""
    return partial(wrap, shop.looking, transaction=shop.transaction)
