"""What stops a worker, raised by a member: nothing of the batch runs after it, the server goes on.

Each server does with the batch what it does with the same request sent alone: some answer 500
themselves, some close the connection, gunicorn may replace the worker.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator

import pytest

from ..servers import client
from ..servers.harness import SERVERS, Server, start
from ..support import Reply
from .answers import is_ours
from .app import STOPS, Calls
from .conftest import UNWRAPPED, WRAPPED

# Left out: waitress loses a thread and never answers, cheroot loses a thread; uwsgi and gevent's
# own server end with SystemExit, as they do when the request is sent alone.
GOES_ON = [
    *["gunicorn_sync", "gunicorn_gthread", "gunicorn_gevent", "gunicorn_conf"],
    *["granian", "werkzeug", "wsgiref"],
]


@pytest.fixture(scope="module", params=GOES_ON)
def stopped(request: pytest.FixtureRequest, _all_calls: Calls) -> Iterator[Server]:
    """A server of its own, whose workers may be replaced."""
    name = str(request.param)
    with start(name, UNWRAPPED if SERVERS[name].wraps else WRAPPED) as server:
        yield server


@pytest.mark.parametrize("stop", STOPS)
def test_what_stops_a_worker(stopped: Server, calls: Calls, stop: str) -> None:
    alone = _answer(stopped, None, f"/stop/{stop}")
    _next_is_served(stopped)
    calls.forget()
    reply = _answer(stopped, "/good?n=0", f"/stop/{stop}", "/good?n=2")
    assert reply is None or not is_ours(reply)
    assert (reply and reply.status) == (alone and alone.status)
    _next_is_served(stopped)
    first, second, *others = calls()
    assert (first, second) == ("GET /good?n=0", f"GET /stop/{stop}")
    assert set(others) == {"GET /good?n=3"}
    assert stopped.alive()


def _answer(server: Server, *uris: str | None) -> Reply | None:
    """The reply to a batch of these, or to the last alone if the first is None; None if closed."""
    try:
        if uris[0] is None:
            return client.ask(server, "GET", str(uris[-1]))
        return client.batch(server, *uris)
    except (ConnectionError, http.client.BadStatusLine):
        return None


def _next_is_served(server: Server) -> None:
    """Ask until a worker answers: what a worker that ends had accepted is lost."""
    deadline = time.monotonic() + client.TIMEOUT
    while (reply := _answer(server, "/good?n=3")) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert reply.entries[0]["body"]["QUERY_STRING"] == "n=3"
