"""Fixtures for all tests."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import process_time
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


@pytest.fixture(autouse=True, scope="session")
def both_checkers() -> None:
    """In every test both ways to check a JSON reply are asked, and have to give one answer.

    It is all that the extra `fast` changes, so that the bytes of every reply are the same.
    """
    assert embedding._is_json is embedding.is_json_by_msgspec

    def agreed(body: bytes) -> bool:
        answer = embedding.is_json(body)
        assert embedding.is_json_by_msgspec(body) == answer, body[:1000]
        return answer

    embedding._is_json = agreed


@pytest.fixture
def memory() -> Callable[..., AbstractContextManager[None]]:
    """Fail where a block allocates more than so many bytes beyond what there was before it."""

    @contextmanager
    def measured(below: int) -> Iterator[None]:
        gc.collect()
        tracemalloc.start()
        try:
            yield
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < below, f"{peak:,} bytes"

    return measured


@pytest.fixture
def processor_time() -> Callable[..., AbstractContextManager[None]]:
    """Fail where a block takes so many seconds of processor time or more.

    The limits are for what takes minutes where it is not linear: a slow machine under coverage, or
    under the tracing of memory, stays far below them.
    """

    @contextmanager
    def measured(below: float) -> Iterator[None]:
        started = process_time()
        yield
        taken = process_time() - started
        assert taken < below, f"{taken:.2f} seconds"

    return measured


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
