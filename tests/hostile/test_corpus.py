"""Hostile requests: a clear refusal, nothing executed, and the next request served.

Each file of `corpus/` in process, and on a socket under every server.
"""

from __future__ import annotations

import http.client
from time import perf_counter

import pytest

from batchwsgi import BatchMiddleware

from .. import support
from ..servers import client
from ..servers.harness import Server
from ..support import Reply
from .answers import compare, is_ours
from .app import LIMITS, Calls, app
from .corpus import CASES, Case, environ, expanded

SECONDS, TIMES = 3.0, 3
"""How long any of these requests may take, and how often it is tried: others use the machine."""

NEXT = [{"uri": "/good?n=0"}, {"method": "post", "uri": "/next", "args": {"n": 1}}]
NEXT_CALLS = ["GET /good?n=0", "POST /next"]


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 150


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a\nb", b"a\nb"),
        ("«00 fF»", b"\x00\xff"),
        ("é«C3 A9»", b"\xc3\xa9\xc3\xa9"),
        ("[«repeat 3 ab»]", b"[ababab]"),
        ("«repeat 2 «0A» »", b"\n \n "),
        ('«count 3 "#":#»', b'"0":0"1":1"2":2'),
        ('«repeat 2 "«repeat 2 \\»"»', b'"\\\\""\\\\"'),
    ],
    ids=ascii,
)
def test_notation(text: str, meant: bytes) -> None:
    assert expanded(text.encode()) == meant


@pytest.mark.parametrize("text", ["«»", "«0»", "«00FF»", "«repeat x»", "«length»"])
def test_notation_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no directive"):
        expanded(text.encode())


# --- In process --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.only != "wire"])
def test_in_process(calls: Calls, name: str) -> None:
    case = CASES[name]
    middleware = BatchMiddleware(app, **{"limits": LIMITS, **case.options})
    for _ in range(TIMES):
        calls.forget()
        request = {**environ(case.request), **case.environ}
        before = dict(request)
        started = perf_counter()
        reply = support.ask(middleware, request)
        taken = perf_counter() - started
        compare(reply, case, head=request["REQUEST_METHOD"] == "HEAD")
        assert calls() == case.called
        assert request == before
        if taken < SECONDS:
            break
    assert taken < SECONDS
    _served(support.batch(middleware, *NEXT))


def _served(reply: Reply) -> None:
    first, second = reply.entries
    assert (first["status_code"], second["status_code"]) == ("200", "200")
    assert first["body"]["QUERY_STRING"] == "n=0"
    assert second["body"]["body"] == "n=1"


# --- On a socket -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.only != "process"])
def test_on_a_socket(server: Server, calls: Calls, name: str) -> None:
    case, own = CASES[name].under(server.name)
    method = case.request.partition(b" ")[0].decode("latin-1")
    for _ in range(TIMES):
        calls.forget()
        reply, rest, taken = _exchange(server, case, method)
        called = case.called
        if reply is not None and is_ours(reply):
            compare(reply, case, head=method == "HEAD")
        else:
            assert (reply.status if reply else "closed") in own
            called = []
        if rest:  # another refusal of what is left, or one without a status line (HTTP/0.9)
            assert case.may_refuse
            assert rest.startswith(b"HTTP/1.1 4") or reply is None
        _served(client.batch(server, *NEXT))
        assert calls() == [*called, *NEXT_CALLS]
        assert server.alive()
        if taken < SECONDS:
            break
    assert taken < SECONDS


def _exchange(server: Server, case: Case, method: str) -> tuple[Reply | None, bytes, float]:
    """Send the request of a case: the reply, what comes after it, and how many seconds it took."""
    request = case.request
    with client.Connection(server) as connection:
        started = perf_counter()
        connection.send(request)
        if case.ends:
            connection.finish()
        reply = _reply(connection, method)
        taken = perf_counter() - started
        # What is left of the request must not be taken for another one, now or later.
        connection.finish()
        rest = connection.rest()
        assert connection.ended
    return reply, rest, taken


def _reply(connection: client.Connection, method: str) -> Reply | None:
    """The reply, or None if the server closes, or writes what is no HTTP, instead."""
    try:
        return connection.reply(method)
    except http.client.HTTPException:
        return None
