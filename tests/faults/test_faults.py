"""Workers that die, clients that go, time that runs out: no entry claims what did not happen.

Each batch is one of members whose application writes down what it does; what the client is told is
compared with that record.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ..servers import client
from ..servers.harness import Server, start
from .record import Record, until

APP = "tests.faults.apps:application"
GUNICORN = ["gunicorn_sync", "gunicorn_gthread", "gunicorn_gevent"]

STARTED, FINISHED, NOTHING = ["started"], ["started", "finished"], []


def document(*uris: str, **more: Any) -> bytes:
    return json.dumps({"requests": [{"uri": uri} for uri in uris], **more}).encode()


def request(server: Server, body: bytes, path: str = "/batch") -> bytes:
    """A batch as it is sent."""
    return client.head(server, *client.framed(body), path=path) + body


@contextmanager
def gunicorn(name: str, record: Record, options: str = "") -> Iterator[Server]:
    """A gunicorn of one worker, with these options."""
    with start(name, APP, GUNICORN_CMD_ARGS=options, RECORD=str(record.path)) as server:
        yield server


@contextmanager
def batch_under_way(
    server: Server, record: Record, names: list[str], view: str = "wait"
) -> Iterator[tuple[client.Connection, int]]:
    """The connection of a batch whose second member of three is being run, and its worker's id."""
    a, b, c = names
    with client.Connection(server) as connection:
        connection.send(request(server, document(f"/run/{a}", f"/{view}/{b}", f"/run/{c}")))
        yield connection, record.wait_for("started", b)


def serves(server: Server, record: Record) -> int:
    """Show that `server` serves a batch; the id of its worker."""
    name = f"next{len(record.lines())}"
    entries = client.batch(server, f"/run/{name}").entries
    record.check(entries)
    assert entries[0]["status_code"] == "200"
    return int(entries[0]["body"]["pid"])


def complete(connection: client.Connection, record: Record) -> None:
    """The reply is whole, every member ran, and then the connection ends."""
    reply = connection.reply()
    assert reply is not None
    record.check(reply.entries)
    assert [entry["status_code"] for entry in reply.entries] == ["200"] * 3
    assert connection.rest() == b""
    assert connection.ended


def no_reply(connection: client.Connection) -> None:
    """The server has ended the connection, and has said nothing on it."""
    assert connection.rest() == b""
    assert connection.ended


def no_reply_but_gunicorns(connection: client.Connection) -> None:
    """gunicorn's sync worker answers 500 itself for a `SystemExit`, without a word of the batch."""
    answer = connection.rest()
    assert connection.ended
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"<h1><p>Internal Server Error</p></h1>" in answer
    assert b"status_code" not in answer


# --- The worker ends --------------------------------------------------------------------------


@pytest.mark.parametrize("name", GUNICORN)
def test_worker_killed_in_the_middle_of_a_batch(name, record, names):
    a, b, c = names
    with gunicorn(name, record) as server:
        with batch_under_way(server, record, names) as (connection, worker):
            os.kill(worker, signal.SIGKILL)
            no_reply(connection)
        assert serves(server, record) != worker
    assert [record.events(member) for member in (a, b, c)] == [FINISHED, STARTED, NOTHING]


def test_worker_that_gunicorn_aborts_for_its_timeout(record, names):
    """The sync worker ends by `SystemExit`, raised in the member that hangs.

    The other workers of gunicorn go on: `--timeout` is not about their requests.
    """
    a, b, c = names
    with gunicorn("gunicorn_sync", record, "--timeout=1") as server:
        with batch_under_way(server, record, names, "hang") as (connection, worker):
            no_reply_but_gunicorns(connection)
        assert "WORKER TIMEOUT" in server.output()
        assert serves(server, record) != worker
    assert [record.events(member) for member in (a, b, c)] == [FINISHED, STARTED, NOTHING]


@pytest.mark.parametrize(
    ("name", "ended"),
    [("gunicorn_sync", no_reply_but_gunicorns), ("gunicorn_gevent", no_reply)],
    ids=["sync", "gevent"],
)
def test_quick_shutdown_starts_no_further_member(name, ended, record, names):
    a, b, c = names
    with (
        gunicorn(name, record) as server,
        batch_under_way(server, record, names, "hang") as (connection, _),
    ):
        os.kill(server.pid, signal.SIGQUIT)
        ended(connection)
        until(lambda: not server.alive())
    assert [record.events(member) for member in (a, b, c)] == [FINISHED, STARTED, NOTHING]


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        pytest.param("gunicorn_sync", signal.SIGTERM, id="sync"),
        pytest.param("gunicorn_gthread", signal.SIGTERM, id="gthread"),
        pytest.param("gunicorn_gevent", signal.SIGTERM, id="gevent"),
        # Its quick shutdown too waits for the threads, until the graceful timeout.
        pytest.param("gunicorn_gthread", signal.SIGQUIT, id="gthread-SIGQUIT"),
    ],
)
def test_graceful_shutdown_lets_a_batch_complete(name, sign, record, names):
    with gunicorn(name, record) as server:
        with batch_under_way(server, record, names) as (connection, _):
            os.kill(server.pid, sign)
            until(lambda: "Handling signal: " in server.output())
            record.gate(names[1]).touch()
            complete(connection, record)
        until(lambda: not server.alive())


@pytest.mark.parametrize("name", GUNICORN)
def test_graceful_shutdown_that_takes_too_long(name, record, names):
    a, b, c = names
    with (
        gunicorn(name, record, "--graceful-timeout=1") as server,
        batch_under_way(server, record, names, "hang") as (connection, _),
    ):
        os.kill(server.pid, signal.SIGTERM)
        no_reply(connection)
        until(lambda: not server.alive())
    assert [record.events(member) for member in (a, b, c)] == [FINISHED, STARTED, NOTHING]


@pytest.mark.parametrize("name", GUNICORN[:2])
def test_reload_lets_a_batch_complete(name, record, names):
    with (
        gunicorn(name, record) as server,
        batch_under_way(server, record, names) as (connection, worker),
    ):
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: "Handling signal: hup" in server.output())
        record.gate(names[1]).touch()
        complete(connection, record)
        assert {line.pid for line in record.lines()} == {worker}
        until(lambda: serves(server, record) != worker)


# --- The client ends --------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["closes", "resets"])
def test_client_gone_in_the_middle_of_a_batch(served, way, names):
    """No server tells the application: what was begun is completed, in order, and once."""
    server, record = served
    a, b, c = names
    body = document(f"/run/{a}", f"/wait/{b}", f"/run/{c}")
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(request(server, body))
        record.wait_for("started", b)
        if way == "resets":
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    record.gate(b).touch()
    record.wait_for("finished", c)
    serves(server, record)
    seen = [line[:2] for line in record.lines() if line.name in names]
    assert seen == [(event, name) for name in names for event in FINISHED]


JSON, CHUNKED = "Content-Type: application/json", "Transfer-Encoding: chunked"


def half_closed(server: Server, fields: tuple[str, ...], body: bytes) -> bytes:
    """All that `server` answers to a client that has no more to send than this."""
    with client.Connection(server) as connection:
        connection.send(client.head(server, *fields), body)
        connection.finish()
        answer = connection.rest()
        assert connection.ended
    return answer


@pytest.mark.parametrize("sent", [0.0, 0.5, 1.0], ids=["none", "half", "all-but-one-byte"])
def test_body_shorter_than_its_length(served, sent, names):
    """What came is JSON in the last case: it is the length that says that something is missing."""
    server, record = served
    body = document(*(f"/run/{name}" for name in names))
    body = body[: int(len(body) * sent)]
    answer = half_closed(server, (JSON, f"Content-Length: {len(body) + 1}"), body)
    if server.name == "waitress":  # it waits for the whole body before it calls the application
        assert answer == b""
    else:
        assert answer[8:13] == b" 400 "
        assert b"The body ended early. Nothing was executed." in answer
    serves(server, record)
    assert [record.events(name) for name in names] == [NOTHING] * 3


@pytest.mark.parametrize("left_out", [0.5, 1.0], ids=["half", "last-chunk"])
def test_chunked_body_without_its_end(served, left_out, names):
    """Half a document runs nothing. For a whole one without the last chunk, the server decides.

    granian lets the application take it for complete, and it is: JSON says where it ends.
    """
    server, record = served
    whole = document(*(f"/run/{name}" for name in names))
    body = client.chunked(whole[: int(len(whole) * left_out)]).removesuffix(b"0\r\n\r\n")
    answer = half_closed(server, (JSON, CHUNKED), body)
    if server.name == "granian" and left_out == 1.0:
        record.check(json.loads(answer.partition(b"\r\n\r\n")[2])["responses"])
        assert [record.events(name) for name in names] == [FINISHED] * 3
    else:
        assert answer[8:13] in ((b"",) if server.name == "waitress" else (b" 400 ", b" 411 "))
        assert [record.events(name) for name in names] == [NOTHING] * 3
    serves(server, record)


# --- Time ends --------------------------------------------------------------------------------


def test_deadline_passed(served, names):
    """What ran says how it went; what the time was over for did not run, and says so."""
    server, record = served
    a, b, c = names
    body = document(f"/fail/{a}", f"/pause/{b}", f"/run/{c}", f"/fail/{c}")
    entries = client.post(server, body, path="/short").entries
    record.check(entries)
    assert [entry["status_code"] for entry in entries] == ["500", "200", "503", "503"]
    for entry in entries[2:]:
        assert entry["body"]["type"] == "urn:problem-type:batchwsgi:deadline"
        assert entry["body"]["title"].startswith("Not executed")
    assert [record.events(name) for name in names] == [STARTED, FINISHED, NOTHING]


def test_deadline_comes_before_gunicorns_timeout(record):
    """Many slow members: a whole reply with a deadline below the worker's timeout, else none."""
    body = document(*(f"/pause/m{number}" for number in range(8)))
    with gunicorn("gunicorn_sync", record, "--timeout=2") as server:
        entries = client.post(server, body, path="/short").entries
        record.check(entries)
        assert [entry["status_code"] for entry in entries] == ["200"] + ["503"] * 7
        with client.Connection(server) as connection:
            connection.send(request(server, body.replace(b"/m", b"/n")))
            no_reply_but_gunicorns(connection)
        serves(server, record)
    assert record.events("n0") == FINISHED
    assert record.events("n7") == NOTHING
