"""A small HTTP/1.1 client that counts bytes and does as little else as it can."""

from __future__ import annotations

import socket
import time

from .server import HOST

LEAN = (
    "Host: shop.example\r\nUser-Agent: Shop/4.2\r\nAccept-Encoding: identity\r\n"
    "Authorization: Bearer 0d2f3c4b5a69788796a5b4c3d2e1f00f\r\n"
)
"""The headers of an app that sends no more than it must."""

BROWSER = (
    "Host: shop.example\r\n"
    "Connection: keep-alive\r\n"
    'sec-ch-ua-platform: "Android"\r\n'
    "User-Agent: Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/131.0.0.0 Mobile Safari/537.36\r\n"
    'sec-ch-ua: "Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"\r\n'
    "sec-ch-ua-mobile: ?1\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: cors\r\n"
    "Sec-Fetch-Dest: empty\r\n"
    "Referer: https://shop.example/basket\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
)
"""The headers of a `fetch` in Chrome."""


def get(path: str, headers: str = BROWSER) -> bytes:
    return f"GET {path} HTTP/1.1\r\nAccept: application/json\r\n{headers}\r\n".encode()


def post(body: bytes, accept: str = "application/json", headers: str = BROWSER) -> bytes:
    """A batch."""
    head = f"POST /batch HTTP/1.1\r\nAccept: {accept}\r\n{headers}"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection:
    """A connection that is kept as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self.bytes = 0
        """Sent and received, from the first line of a message to the end of its body."""
        self.first_byte = 0.0
        """When the first byte of the last body was there."""

    def ask(self, request: bytes) -> bytes:
        """The body of the response, as it came: still chunked if it was. Only a 200 will do."""
        if self._socket is None:
            self._socket = socket.create_connection((HOST, self._port))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise AssertionError(received)
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", -1))
        body = body or self._more()
        self.first_byte = time.perf_counter()
        parts, have, end = [body], len(body), body[-5:]
        while end != b"0\r\n\r\n" if length < 0 else have < length:
            parts.append(self._more())
            have += len(parts[-1])
            end = (end + parts[-1])[-5:]
        self.bytes += len(request) + len(head) + 4 + have
        if fields.get(b"connection") == b"close":
            self.close()
        return b"".join(parts)

    def _more(self) -> bytes:
        assert self._socket is not None
        received = self._socket.recv(262144)
        if not received:
            raise ConnectionError("the server closed the connection")
        return received

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
