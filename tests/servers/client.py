"""Talking to a server over a socket: whole requests, batches, and bytes as they are."""

from __future__ import annotations

import http.client
import io
import json
import select
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Self, cast

from werkzeug.datastructures import Headers

from ..support import Reply
from .harness import Server

TIMEOUT = 10.0
"""Seconds that any one exchange may take."""


def ask(
    server: Server,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request under the server's mount, on a connection of its own."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT)
    try:
        connection.request(
            method, server.mount + path, body, {"Connection": "close", **(headers or {})}
        )
        return _reply(connection.getresponse())
    finally:
        connection.close()


def post(
    server: Server,
    document: Any,
    headers: Mapping[str, str] | None = None,
    path: str = "/batch",
) -> Reply:
    """Post a batch: bytes as they are, anything else as JSON."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = {"Content-Type": "application/json", **(headers or {})}
    return ask(server, "POST", path, body, headers)


def batch(server: Server, *items: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """Post a batch of these items; one that is a string is a GET of that path."""
    requests = [{"uri": item} if isinstance(item, str) else item for item in items]
    return post(server, {"requests": requests}, headers)


def calls(server: Server) -> int:
    """How often the application was called before this call of it, members included."""
    return int(ask(server, "GET", "/progress").json()["calls"])


def head(server: Server, *fields: str, method: str = "POST", path: str = "/batch") -> bytes:
    """A request's head under the server's mount, with these header lines, as it is sent."""
    lines = [
        f"{method} {server.mount}{path} HTTP/1.1",
        f"Host: {server.host}:{server.port}",
        *fields,
    ]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def framed(body: bytes, content_type: str = "application/json") -> tuple[str, str]:
    """The header lines that go with a body."""
    return f"Content-Type: {content_type}", f"Content-Length: {len(body)}"


def chunked(body: bytes, size: int = 65536) -> bytes:
    """`body` in chunks (RFC 9112 §7.1)."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def raw(server: Server, *parts: bytes, timeout: float = TIMEOUT) -> bytes:
    """Send these bytes, and return what comes back until the server closes the connection.

    A server that ends the connection while it is written to is no error: what it said before that
    is the reply. After `timeout` seconds without an end, what came so far is the reply.
    """
    with Connection(server) as connection:
        for part in parts:
            if not connection.send(part):
                break
        return connection.rest(timeout)


class Connection:
    """One connection, for bytes as they are, and one reply after the other."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection((server.host, server.port), timeout=TIMEOUT)
        # One reader for all replies: none may swallow what comes after it.
        self._reader = _KeptOpen(self._socket.makefile("rb", buffering=0))
        self.ended = False
        """Whether `rest` has seen the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        io.BufferedReader.close(self._reader)
        self._socket.close()

    def send(self, *parts: bytes) -> bool:
        """Send all of it; False if the server has ended the connection."""
        try:
            self._socket.sendall(b"".join(parts))
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def first(self, timeout: float = TIMEOUT) -> bytes:
        """What has come before anything was read, left where it is; b"" if nothing has in time."""
        if not select.select([self._socket], [], [], timeout)[0]:
            return b""
        return self._socket.recv(65536, socket.MSG_PEEK)

    def reply(self, method: str = "POST") -> Reply | None:
        """The next reply, to a request of that method; None if the server closed instead."""
        source = cast(socket.socket, SimpleNamespace(makefile=lambda mode: self._reader))
        with http.client.HTTPResponse(source, method=method) as response:
            try:
                response.begin()
            except ConnectionResetError:  # http.client.RemoteDisconnected is one, too
                return None
            return _reply(response)

    def finish(self) -> None:
        """Tell the server that nothing more will be sent."""
        with suppress(OSError):  # the server was faster
            self._socket.shutdown(socket.SHUT_WR)

    def rest(self, timeout: float = TIMEOUT) -> bytes:
        """All that comes until the server closes the connection, or for `timeout` seconds."""
        deadline = time.monotonic() + timeout
        parts = []
        while not self.ended and (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                parts.append(self._reader.read1())
            except TimeoutError:
                break
            except ConnectionResetError:
                self.ended = True
            else:
                self.ended = not parts[-1]
        return b"".join(parts)


class _KeptOpen(io.BufferedReader):
    """A reader that `HTTPResponse`, which closes its own after each reply, leaves open."""

    def close(self) -> None:
        pass


def _reply(response: http.client.HTTPResponse) -> Reply:
    """The reply, read to its end."""
    body = response.read()
    return Reply(response.status, Headers(response.getheaders()), body)
