"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from wsgiref.validate import validator

import pytest

from batchwsgi import BatchMiddleware
from batchwsgi.dialects import embedding

from .support import App


@pytest.fixture
def wrap() -> Callable[..., App]:
    """Wrap an application in the middleware, with the linter on both faces.

    `wsgiref.validate` checks what the middleware sends to the application, and what it answers to
    the server.
    """

    def wrapped(app: App, *args: Any, **options: Any) -> App:
        return validator(BatchMiddleware(validator(app), *args, **options))

    return wrapped


@pytest.fixture(params=["msgspec", "standard library"])
def checker(request, monkeypatch):
    """What checks JSON replies; the answers are the same."""
    if request.param == "standard library":
        monkeypatch.setattr(embedding, "_raw", None)
    else:
        assert embedding._raw is not None
    return request.param


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a failure")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Under --no-skips (`.ci/run`), where everything is installed, a skip hides something."""
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped under --no-skips: {report.longrepr}"
    return report
