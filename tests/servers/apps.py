"""The application that the servers serve: every kind of reply, in plain WSGI."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any
from wsgiref.validate import validator

from batchwsgi import BatchMiddleware

from ..support import App, Environ

calls = count()  # of this application, members included
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))

Field = tuple[str, str]
Answer = tuple[str, list[Field], Iterable[bytes]]


def _json(value: object, status: str = "200 OK", *fields: Field) -> Answer:
    return status, [("Content-Type", "application/json"), *fields], [json.dumps(value).encode()]


def _body(request: Environ) -> bytes:
    return bytes(request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0)))


def environ(request: Environ) -> Answer:
    """What the request's environ has, strings as they are and the names of all other types."""
    seen = {key: value if isinstance(value, str) else None for key, value in request.items()}
    return _json(seen)


def progress(request: Environ) -> Answer:
    """Which process serves this, and how many requests it had before."""
    return _json({"pid": os.getpid(), "calls": request["tests.calls"]})


def echo(request: Environ) -> Answer:
    """What came as the body, and as what."""
    return _json(
        {
            "method": request["REQUEST_METHOD"],
            "type": request.get("CONTENT_TYPE"),
            "length": request.get("CONTENT_LENGTH"),
            "query": request.get("QUERY_STRING", ""),
            "body": _body(request).decode("latin-1"),
        },
        "201 Created",
        ("Location", "/echo/7"),
    )


def text(request: Environ) -> Answer:
    body = "Größe – 好\n".encode()
    fields = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    return "200 OK", [*fields, ("X-Two", "a"), ("X-Two", "b")], [body]


def large(request: Environ) -> Answer:
    return "200 OK", [("Content-Type", "text/plain")], [b"0123456789abcde\n" * 100] * 200


def binary(request: Environ) -> Answer:
    return "200 OK", [("Content-Type", "image/png"), ("Content-Length", str(len(PNG)))], [PNG]


def empty(request: Environ) -> Answer:
    return "204 No Content", [], []


def moved(request: Environ) -> Answer:
    fields = [("Location", "/text?from=moved"), ("Content-Type", "text/plain")]
    return "302 Found", fields, [b"moved\n"]


def cookies(request: Environ) -> Answer:
    fields = [
        ("Set-Cookie", "plain=1"),
        ("Set-Cookie", "all=2; Path=/; HttpOnly; SameSite=Lax"),
    ]
    return _json(request.get("HTTP_COOKIE", ""), "200 OK", *fields)


def stream(request: Environ) -> Answer:
    """A body in many pieces, some of them empty, its length not known beforehand."""

    def pieces() -> Iterator[bytes]:
        for number in range(100):
            yield f"line {number}\n".encode()
            yield b""

    return "200 OK", [("Content-Type", "text/plain")], pieces()


def error(request: Environ) -> Answer:
    raise RuntimeError("This view always fails.")


def error_midway(request: Environ) -> Answer:
    def pieces() -> Iterator[bytes]:
        yield b"so far so good\n"
        raise RuntimeError("This view always fails midway.")

    return "200 OK", [("Content-Type", "text/plain")], pieces()


ROUTES: dict[str, Callable[[Environ], Answer]] = {
    "/environ": environ,
    "/caf\xc3\xa9 a%b/environ": environ,
    "/progress": progress,
    "/echo": echo,
    "/text": text,
    "/large": large,
    "/binary": binary,
    "/empty": empty,
    "/moved": moved,
    "/account/cookies": cookies,
    "/stream": stream,
    "/error": error,
    "/error/midway": error_midway,
}


def _routes(request: Environ, start_response: Any) -> Iterable[bytes]:
    view = ROUTES.get(request["PATH_INFO"])
    status, fields, body = view(request) if view else _json("no such page", "404 Not Found")
    start_response(status, fields)
    return body  # to HEAD, too, as many applications do


_linted = validator(_routes)


def app(request: Environ, start_response: Any) -> Iterable[bytes]:
    """The application. What it gets from the middleware passes through the linter.

    Requests from the server do not: werkzeug's has an `int` in `REMOTE_PORT`.
    """
    request["tests.calls"] = next(calls)
    handler: App = _linted if "batchwsgi.request" in request else _routes
    return handler(request, start_response)


application = BatchMiddleware(app)
