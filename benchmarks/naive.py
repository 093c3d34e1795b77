"""Batch endpoints as one would write them in an afternoon: the baselines.

They check nothing, have no limits, and answer in the same form. Do not use them: apart from the
time, most of them give members less of the outer request than they need, and one gives too much.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.test import Client, EnvironBuilder, run_wsgi_app

from .apps import App, Environ

Answer = tuple[str, Iterable[tuple[str, str]], bytes]
"""Status line or code, headers, body."""


class Naive:
    """`app` with a batch endpoint for all paths; `send` makes one sub-request."""

    def __init__(self, app: App, send: Callable[[App, Environ, Environ], Answer]) -> None:
        self.app = app
        self.send = send

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        entries = [
            entry(item, *self.send(self.app, environ, item))
            for item in json.loads(body)["requests"]
        ]
        reply = json.dumps({"responses": entries}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(reply)))]
        start_response("200 OK", headers)
        return [reply]


def entry(
    item: Environ, status: str, headers: Iterable[tuple[str, str]], body: bytes
) -> dict[str, Any]:
    """The reply to one item; its body is decoded here and encoded again with the whole."""
    return {
        "method": item["method"],
        "uri": item["uri"],
        "status_code": status[:3],
        "headers": dict(headers),
        "body": json.loads(body),
    }


def by_client(app: App, environ: Environ, item: Environ) -> Answer:
    """With `werkzeug.test.Client`, which `app.test_client()` is in Flask."""
    headers = {"Authorization": environ["HTTP_AUTHORIZATION"]}
    response = Client(app).open(item["uri"], method=item["method"].upper(), headers=headers)
    return response.status, response.headers, response.get_data()


def by_builder(app: App, environ: Environ, item: Environ) -> Answer:
    """With the two parts that the test client is made of."""
    child = _built(environ, item)
    iterable, status, headers = run_wsgi_app(app, child)
    try:
        return status, headers, b"".join(iterable)
    finally:
        close = getattr(iterable, "close", None)
        if close:
            close()


def _built(environ: Environ, item: Environ) -> Environ:
    headers = {"Authorization": environ["HTTP_AUTHORIZATION"]}
    builder = EnvironBuilder(item["uri"], method=item["method"].upper(), headers=headers)
    try:
        return builder.get_environ()
    finally:
        builder.close()


def by_copy(app: App, environ: Environ, item: Environ) -> Answer:
    """With a copy of the outer environ: fast, and it hands over what it must not."""
    path, _, query = item["uri"].partition("?")
    child = environ.copy()
    child |= {
        "REQUEST_METHOD": item["method"].upper(),
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_LENGTH": "0",
        "wsgi.input": io.BytesIO(),
    }
    started: list[Any] = []
    iterable = app(child, lambda status, headers, exc_info=None: started.extend([status, headers]))
    try:
        return started[0], started[1], b"".join(iterable)
    finally:
        close = getattr(iterable, "close", None)
        if close:
            close()


def add_original(app: Any) -> None:
    """The original design, a view in a Flask application: `POST /app/batch`."""
    from flask import Response, request

    @app.post("/app/batch")
    def app_batch() -> Any:
        entries = []
        for item in request.get_json()["requests"]:
            with app.request_context(_built(request.environ, item)):
                response = app.full_dispatch_request()
            entries.append(entry(item, response.status, response.headers, response.get_data()))
        return Response(json.dumps({"responses": entries}), mimetype="application/json")


WAYS: dict[str, Callable[[App, Environ, Environ], Answer]] = {
    "werkzeug.test.Client": by_client,
    "EnvironBuilder + run_wsgi_app": by_builder,
    "copied environ, JSON decoded and encoded": by_copy,
}
ORIGINAL = "the original design, a Flask view"
