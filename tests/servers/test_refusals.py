"""What is refused, or no batch, runs nothing, and its server goes on with the next request."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import NamedTuple

import pytest

from batchwsgi import Limits

from . import client
from .harness import Server

STRAY = b"GET /stray HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""A body that is a request, in case a server takes what was left unread for one."""

BATCH = b'{"requests": [{"uri": "/text"}]}'
TOO_LONG = (STRAY * (Limits().max_body_size // len(STRAY) + 1))[: Limits().max_body_size + 1]
TOO_MANY = json.dumps({"requests": [{}] * (Limits().max_requests + 1)}).encode()

JSON, CHUNKED = "Content-Type: application/json", "Transfer-Encoding: chunked"


class Refusal(NamedTuple):
    """A request, and the status that refuses it."""

    status: int
    fields: tuple[str, ...]
    body: bytes = b""
    method: str = "POST"
    read: bool = False
    """Whether the middleware reads all of the body before it refuses."""


REFUSALS = {
    "get": Refusal(405, (), method="GET", read=True),
    "head": Refusal(405, (), method="HEAD", read=True),
    "put": Refusal(405, client.framed(BATCH), BATCH, method="PUT"),
    "put-stray": Refusal(405, client.framed(STRAY), STRAY, method="PUT"),
    "media-type": Refusal(415, client.framed(BATCH, "text/plain"), BATCH),
    "media-type-stray": Refusal(415, client.framed(STRAY, "text/plain"), STRAY),
    "media-type-chunked": Refusal(
        415, ("Content-Type: text/plain", CHUNKED), client.chunked(STRAY)
    ),
    "content-encoding": Refusal(415, (*client.framed(BATCH), "Content-Encoding: gzip"), BATCH),
    "not-json": Refusal(400, client.framed(STRAY), STRAY, read=True),
    "empty": Refusal(400, client.framed(b""), read=True),
    "too-many": Refusal(413, client.framed(TOO_MANY), TOO_MANY, read=True),
    "too-long": Refusal(413, client.framed(TOO_LONG), TOO_LONG),
    "too-long-chunked": Refusal(413, (JSON, CHUNKED), client.chunked(TOO_LONG)),
}

DISCOVERIES = {
    "bare": ((), b""),
    "preflight": (("Origin: https://evil.test", "Access-Control-Request-Method: POST"), b""),
    "stray": (client.framed(STRAY), STRAY),
    "stray-chunked": ((CHUNKED,), client.chunked(STRAY)),
}
"""Header lines and body of `OPTIONS`, which the middleware answers without reading the body."""


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_batch_runs_nothing_and_spoils_nothing(server: Server, name: str) -> None:
    status, fields, body, method, read = REFUSALS[name]
    if CHUNKED in fields and status == 413 and not server.kind.takes_chunks:
        status = 411
    before = client.calls(server)
    with client.Connection(server) as connection:
        connection.send(client.head(server, *fields, method=method), body)
        reply = connection.reply(method)
        assert reply is not None
        assert reply.status == status
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert method == "HEAD" or reply.json()["status"] == status
        assert reply.headers.get("Allow") == ("OPTIONS, POST" if status == 405 else None)
        executed = _next_on(connection, server, reply.headers.get("Connection") == "close", read)
    assert client.batch(server, "/text").entries[0]["status_code"] == "200"
    assert client.calls(server) == before + 1 + executed + 1


@pytest.mark.parametrize("fields_and_body", DISCOVERIES.values(), ids=DISCOVERIES)
def test_discovery_runs_nothing_and_spoils_nothing(
    server: Server, fields_and_body: tuple[tuple[str, ...], bytes]
) -> None:
    fields, body = fields_and_body
    before = client.calls(server)
    with client.Connection(server) as connection:
        connection.send(client.head(server, *fields, method="OPTIONS"), body)
        reply = connection.reply("OPTIONS")
        assert reply is not None
        assert reply.status == 200
        assert reply.json()["limits"] == asdict(Limits())
        assert reply.headers["Allow"] == "OPTIONS, POST"
        assert "Access-Control-Allow-Origin" not in reply.headers
        ends = reply.headers.get("Connection") == "close"
        executed = _next_on(connection, server, ends, read=not body)
    assert client.batch(server, "/text").entries[0]["status_code"] == "200"
    assert client.calls(server) == before + 1 + executed + 1


def _next_on(connection: client.Connection, server: Server, ends: bool, read: bool) -> int:
    """Send one more batch on a connection that need not end; how many of its members ran.

    Where a body was left unread, a server may end the connection, with or without a 400 of its own
    (cheroot reads an unread chunk as a request line). It never lets the application answer it.
    """
    if ends or not server.kind.keeps_alive:
        # werkzeug's server waits for the client: it drains what may still come (10 ms, 10 MB).
        connection.finish()
        assert connection.rest() == b""
        assert connection.ended
        return 0
    connection.send(client.head(server, *client.framed(BATCH)), BATCH)
    reply = connection.reply()
    if reply is None or reply.status == 400:
        assert not read
        assert connection.rest() == b""
        assert connection.ended
        return 0
    assert [entry["status_code"] for entry in reply.entries] == ["200"]
    return 1


def test_a_body_over_the_limit_is_refused_before_it_comes(server: Server) -> None:
    with client.Connection(server) as connection:
        connection.send(client.head(server, *client.framed(TOO_LONG)))
        if server.kind.buffers:
            assert connection.first(timeout=0.1) == b""
            connection.send(TOO_LONG)
        reply = connection.reply()
    assert reply is not None
    assert reply.status == 413
    assert "Limits.max_body_size" in reply.json()["detail"]


def test_a_put_that_expects_100_continue(server: Server) -> None:
    with client.Connection(server) as connection:
        fields = (*client.framed(BATCH), "Expect: 100-continue")
        connection.send(client.head(server, *fields, method="PUT"))
        if connection.first().startswith(b"HTTP/1.1 100 "):
            connection.send(BATCH)
        reply = connection.reply("PUT")
    assert reply is not None
    assert reply.status == 405
    assert client.batch(server, "/text").entries[0]["status_code"] == "200"


def test_a_client_that_goes_away_in_the_middle_of_its_batch(server: Server) -> None:
    before = client.calls(server)
    with client.Connection(server) as connection:
        connection.send(client.head(server, JSON, "Content-Length: 1000"), BATCH)
    assert client.batch(server, "/text").entries[0]["status_code"] == "200"
    assert client.calls(server) == before + 1 + 1
    assert server.alive()
