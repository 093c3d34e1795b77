"""`threads` under gunicorn's gevent worker, where the pool's threads are greenlets."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..support import ask, batch, environ
from .gevent_app import AT_ONCE
from .serving import Server, gunicorn

CONF = """\
from batchwsgi import BatchMiddleware


def post_worker_init(worker):
    worker.wsgi = BatchMiddleware(worker.wsgi, threads=4)
"""

HOW = {
    "module": ("application", [], ""),
    "module-before-patching": ("application", ["--preload"], ""),
    "gunicorn.conf.py": ("app", [], CONF),
}


@pytest.fixture(scope="module", params=HOW)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The application, with the endpoint added in each way; one server for all tests."""
    attribute, options, conf = HOW[request.param]
    app = f"tests.databases.gevent_app:{attribute}"
    with gunicorn(app, "--worker-class=gevent", *options, conf=conf) as server:
        yield server


def bodies(reply):
    assert [entry["status_code"] for entry in reply.entries] == ["200"] * len(reply.entries)
    return [entry["body"] for entry in reply.entries]


def test_members_run_side_by_side(server):
    """None of them is done before all have begun."""
    assert bodies(batch(server, *["/meet"] * AT_ONCE)) == [True] * AT_ONCE


def test_no_more_than_the_pool_and_the_caller_run_at_once(server):
    assert max(bodies(batch(server, *["/sleep"] * 20))) == AT_ONCE


def test_hub_is_not_blocked(server):
    """While members wait in all of the pool, other requests are served, and batches too."""
    with ThreadPoolExecutor(1) as other:
        held = other.submit(batch, server, *["/hold"] * AT_ONCE)
        assert bodies(batch(server, "/release", "/sleep"))[0] is True
        assert bodies(held.result()) == [True] * AT_ONCE
    assert ask(server, environ("GET", "/sleep")).status == 200
