"""Each server twice: as it is, and with the application mounted under a prefix."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from .harness import SERVERS, Server, start

MOUNT = "/api"


@pytest.fixture(scope="session", params=["", MOUNT], ids=["root", "mounted"])
def mount(request: pytest.FixtureRequest) -> str:
    """Where the application is."""
    return str(request.param)


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, mount: str) -> Iterator[Server]:
    """A running server with the application of `apps` at `mount`, started once for all tests."""
    with start(request.param, mount=mount) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the servers of a failed test wrote."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            server = getattr(value, "server", value)
            if isinstance(server, Server) and server.log.exists():
                report.sections.append((f"{name}: {server.name}", server.output()))
    return report
