"""Each server once, with the application of `apps` and a record of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import pytest

from ..servers.conftest import pytest_runtest_makereport  # noqa: F401 # shows the server's output
from ..servers.harness import ROOT, SERVERS, Server, start
from .record import Record


class Served(NamedTuple):
    """A server and the record of what its application did."""

    server: Server
    record: Record


@pytest.fixture
def record(tmp_path) -> Record:
    """A record for a server that the test starts itself."""
    return Record(tmp_path / "record")


@pytest.fixture(scope="session", params=SERVERS)
def served(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Served]:
    """Each server, started once for all tests."""
    record = Record(tmp_path_factory.mktemp("record") / "record")
    kind = SERVERS[request.param]
    app = "tests.faults.apps:short" if kind.wraps else "tests.faults.apps:application"
    with start(request.param, app, RECORD=str(record.path)) as server:
        yield Served(server, record)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The database of `django_site`, with its users."""
    database = str(tmp_path_factory.mktemp("site") / "database")
    subprocess.run(
        [sys.executable, "-m", "tests.faults.django_site"],
        cwd=ROOT,
        env={**os.environ, "DATABASE": database},
        check=True,
    )
    return database


_numbers = count(1)


@pytest.fixture
def names() -> list[str]:
    """Three names of members that no other test has."""
    number = next(_numbers)
    return [f"{letter}{number}" for letter in "abc"]
