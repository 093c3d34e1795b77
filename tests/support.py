"""What many tests use: requests made by hand, and an application that shows what it was sent."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from werkzeug.datastructures import Headers

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Reply(NamedTuple):
    """What an application answered, as a server would have passed it on."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The entries of a batch's reply."""
        assert self.status == 200, self.body
        entries: list[dict[str, Any]] = self.json()["responses"]
        return entries

    @property
    def pointers(self) -> list[str]:
        """The JSON Pointers of a refusal's faults."""
        assert self.status == 400, self.body
        return [error["pointer"] for error in self.json()["errors"]]


def environ(
    method: str = "GET",
    path: str = "/",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Environ:
    """An environ like a server's (PEP 3333); `path` is `PATH_INFO`, with its query."""
    made = bare_environ(method, path, io.BytesIO(body))
    made["HTTP_HOST"] = "localhost"
    if body or method in ("POST", "PUT", "PATCH"):
        made["CONTENT_LENGTH"] = str(len(body))
    for name, value in (headers or {}).items():
        made[header_key(name)] = value
    made.update(more)
    return made


def bare_environ(method: str, target: str, body: io.BytesIO) -> Environ:
    """An environ without any header."""
    path, _, query = target.partition("?")
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": body,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def header_key(name: str) -> str:
    """The key of a header in an environ (RFC 3875 §4.1.18)."""
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def ask(app: App, request: Environ) -> Reply:
    """Call `app` as a server does, and close what it returns."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        assert exc_info or not started
        started.append((status, headers))
        return written.append

    iterable = app(request, start_response)
    try:
        body = b"".join(iterable)
    finally:
        close = getattr(iterable, "close", None)
        if close:
            close()
    status, headers = started[-1]
    return Reply(int(status[:3]), Headers(headers), b"".join(written) + body)


def post(
    app: App,
    document: Any,
    path: str = "/batch",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Reply:
    """Post a batch: bytes as they are, anything else as JSON."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = {"Content-Type": "application/json", **(headers or {})}
    return ask(app, environ("POST", path, body, headers, **more))


def batch(app: App, *items: Any, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    """Post a batch of these items; one that is a string is a GET of that path."""
    requests = [{"uri": item} if isinstance(item, str) else item for item in items]
    return post(app, {"requests": requests}, headers=headers, **more)


def echo(request: Environ, start_response: Any) -> list[bytes]:
    """An application that answers with what it was sent, as JSON."""
    seen = {key: value for key, value in request.items() if isinstance(value, str)}
    body = request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0))
    seen["body"] = body.decode(errors="backslashreplace")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]
