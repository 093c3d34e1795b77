"""Fixtures: the service on a server, its database, and what npm installs."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..servers.harness import Server, start

HERE = Path(__file__).parent
TABLE = """
CREATE TABLE record (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    note TEXT,
    boss INTEGER REFERENCES record DEFERRABLE INITIALLY DEFERRED
)
"""
TIMEOUT = 60.0
"""Seconds that a script may take."""


@dataclass(frozen=True)
class Services:
    """The services on a running server, and their database as it is seen from outside."""

    server: Server
    database: Path

    @property
    def url(self) -> str:
        return f"http://{self.server.host}:{self.server.port}{self.server.mount}"

    def query(self, statement: str) -> list[Any]:
        """What `statement` selects; where that is one column, its values."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            rows = connection.execute(statement).fetchall()
        return [row[0] if len(row) == 1 else row for row in rows]

    def names(self) -> list[str]:
        """Who is there, by number; Ada always is."""
        return self.query("SELECT name FROM record ORDER BY id")

    def note(self, name: str) -> str | None:
        """The note of the record of that name."""
        [note] = self.query(f"SELECT note FROM record WHERE name = '{name}'")
        return note

    def log(self) -> list[str]:
        """The requests that arrived at the application."""
        return [line for line in self.server.output().splitlines() if line.endswith("in a batch")]

    def reset(self) -> None:
        """As it was in the beginning."""
        self.query("DELETE FROM record")
        self.query("INSERT INTO record VALUES (1, 'Ada', 'first', NULL)")


@pytest.fixture(
    scope="session",
    params=[("waitress", ""), ("gunicorn_gthread", "/company")],
    ids=["waitress", "gunicorn-mounted"],
)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    """The services on a server, at the root or under a mount, started once for all tests."""
    name, mount = request.param
    database = tmp_path_factory.mktemp("clients") / "staff.sqlite3"
    app = "tests.clients.service:application"
    with start(name, app, mount=mount, DATABASE_FILE=str(database)) as server:
        running = Services(server, database)
        running.query(TABLE)
        yield running


@pytest.fixture
def services(running: Services) -> Services:
    """The services with nobody but Ada."""
    running.reset()
    return running


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of `package.json`, installed for this session."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}, which runs the clients of npm")
    folder = tmp_path_factory.mktemp("npm")
    shutil.copy(HERE / "package.json", folder)
    command = ["npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund"]
    installed = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=5 * TIMEOUT, check=False
    )
    assert installed.returncode == 0, installed.stderr
    return folder / "node_modules"


@pytest.fixture
def node(node_modules: Path, services: Services) -> Callable[..., Any]:
    """Run a function of a script on the services, and return what it returns."""

    def run(script: str, function: str, *arguments: Any) -> Any:
        environment = {**os.environ, "NODE_PATH": str(node_modules)}
        call = json.dumps([services.url, *arguments])
        done = subprocess.run(
            ["node", HERE / "run.js", HERE / script, function, call],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
