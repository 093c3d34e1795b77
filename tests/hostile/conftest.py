"""Each server once, with the application under attack, and what that application was called for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..servers.conftest import pytest_runtest_makereport  # noqa: F401 # shows the server's output
from ..servers.harness import SERVERS, Server, start
from .app import CALLS, Calls

WRAPPED, UNWRAPPED = "tests.hostile.app:application", "tests.hostile.app:app"


@pytest.fixture(scope="session")
def _all_calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    file = tmp_path_factory.mktemp("hostile") / "calls"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CALLS, str(file))  # for this process, and for servers that it starts
        yield Calls(file)


@pytest.fixture
def calls(_all_calls: Calls) -> Calls:
    """The calls of the application since the test began."""
    _all_calls.forget()
    return _all_calls


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, _all_calls: Calls) -> Iterator[Server]:
    """A running server with the application under attack, started once for all tests."""
    name = str(request.param)
    with start(name, UNWRAPPED if SERVERS[name].wraps else WRAPPED) as server:
        yield server
