"""Services behind a gateway, on sockets: what each is sent is seen byte for byte.

`PATHS` says what they answer, by the last segment of the path. Everything else is answered with the
name of the service.
"""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

HOST = "127.0.0.1"
SLOW = 0.1
"""Seconds that a request for `slow` takes."""


class Seen(NamedTuple):
    """A request as the service got it."""

    service: str
    lines: list[str]
    body: bytes

    @property
    def target(self) -> str:
        return self.lines[0].split(" ")[1]

    def values(self, name: str) -> list[str]:
        """Of all header lines of that name."""
        pairs = (line.partition(":") for line in self.lines[1:])
        return [value.strip() for key, _, value in pairs if key.lower() == name.lower()]

    def header(self, name: str) -> str:
        (value,) = self.values(name)
        return value


def _reply(body: bytes = b"", status: str = "200 OK", *lines: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", "Connection: close", *lines, f"Content-Length: {len(body)}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode() + body


def named(seen: Seen) -> bytes:
    return _reply(json.dumps(seen.service).encode(), "200 OK", "Content-Type: application/json")


def head_only(seen: Seen) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"


def created(seen: Seen) -> bytes:
    """With an absolute `Location` of the host that it was told, as many frameworks make it."""
    scheme, host = seen.header("X-Forwarded-Proto"), seen.header("Host")
    return _reply(b"", "201 Created", f"Location: {scheme}://{host}/orders/7")


def cookies(seen: Seen) -> bytes:
    return _reply(
        b"",
        "200 OK",
        "Set-Cookie: session=s1; Path=/; HttpOnly",
        "Set-Cookie: basket=b1; Path=/orders",
        "Set-Cookie: tracker=t1; Domain=internal.example",
    )


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"

PATHS: dict[str, Callable[[Seen], bytes]] = {
    "204": lambda seen: b"HTTP/1.1 204 No Content\r\n\r\n",
    "head": head_only,
    "chunked": lambda seen: CHUNKED + b"3\r\none\r\n4\r\n two\r\n0\r\n\r\n",
    "short": lambda seen: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\none",
    "short-chunked": lambda seen: CHUNKED + b"A\r\none",
    "no-reason": lambda seen: b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    "hop-by-hop": lambda seen: _reply(b"ok", "200 OK", "Keep-Alive: x", "Upgrade: h2c"),
    "error": lambda seen: _reply(b"no", "503 Service Unavailable", "Retry-After: 3"),
    "garbage": lambda seen: b"garbage\r\n\r\n",
    "hangs-up": lambda seen: b"",
    "redirect": lambda seen: _reply(b"", "302 Found", "Location: /users/me"),
    "created": created,
    "cookies": cookies,
}


class Service(socketserver.ThreadingTCPServer):
    """A service of that name; `with` runs it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str) -> None:
        super().__init__((HOST, 0), _Exchange)
        self.name = name
        self.seen: list[Seen] = []
        self.released = threading.Event()
        """Until then, what a path beginning with `wait` answers does not go on."""

    @property
    def target(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"


class _Exchange(socketserver.StreamRequestHandler):
    """One request, one reply, and the connection is closed."""

    server: Service
    timeout = 30

    def handle(self) -> None:
        lines = []
        while line := self.rfile.readline().rstrip(b"\r\n"):
            lines.append(line.decode("latin-1"))
        seen = Seen(self.server.name, lines, b"")
        length = int((seen.values("Content-Length") or ["0"])[0])
        seen = seen._replace(body=self.rfile.read(length))
        self.server.seen.append(seen)
        name = seen.target.rpartition("/")[2]
        if name == "wait":
            self.server.released.wait(self.timeout)
        elif name == "slow":
            time.sleep(SLOW)
        elif name == "wait-in-the-middle":
            self.wfile.write(CHUNKED + b"3\r\none\r\n")
            self.server.released.wait(self.timeout)
        self.wfile.write(PATHS.get(name, named)(seen))


@contextmanager
def running(name: str) -> Iterator[Service]:
    """That service, in threads of this process."""
    with Service(name) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield service
        finally:
            service.released.set()
            service.shutdown()
            thread.join()
