"""What is asked in the benchmarks: four applications with the same resource, and their requests.

`GET /items/<n>` answers with 200 bytes of JSON, different for each n, in all of them. The
bare function has its replies ready, so that next to nothing is its own time.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

MEMBERS = 100


def record(n: int) -> dict[str, object]:
    """An item; as compact JSON it has 200 bytes, with the line break that Flask adds."""
    item = {
        "id": n,
        "name": f"Item number {n}",
        "price": "19.90",
        "currency": "EUR",
        "tags": ["new", "blue", "large"],
        "stock": {"here": 3, "there": 12},
        "description": "",
    }
    item["description"] = "x" * (199 - len(_compact(item)))
    return item


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def trivial(replies: int = MEMBERS) -> App:
    """A bare function: a look-up and two headers. A POST is answered like a GET."""
    bodies = {f"/items/{n}": _compact(record(n)).encode() + b"\n" for n in range(replies)}

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = bodies[environ["PATH_INFO"]]
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "200")])
        return [body]

    return app


def flask_app() -> Any:
    """A Flask application with JSON views; `/slow/<ms>` waits so long."""
    from flask import Flask, jsonify, request

    app = Flask(__name__)

    @app.get("/items/<int:n>")
    def item(n: int) -> Any:
        return jsonify(record(n))

    @app.post("/items/<int:n>")
    def change(n: int) -> Any:
        return jsonify(id=n, sku=request.get_json()["sku"])

    @app.get("/slow/<int:ms>")
    def slow(ms: int) -> Any:
        time.sleep(ms / 1000)
        return jsonify(waited=ms)

    return app


def django_app() -> App:
    """A Django application with one JSON view and no middleware."""
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import JsonResponse
    from django.urls import path

    def item(request: object, n: int) -> JsonResponse:
        return JsonResponse(record(n))

    if not settings.configured:
        patterns = (path("items/<int:n>", item),)
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=patterns)
        django.setup()
    return WSGIHandler()


def bottle_app() -> App:
    """A Bottle application with one JSON view."""
    import bottle

    app = bottle.Bottle()
    app.get("/items/<n:int>", callback=record)
    return app


def outer(method: str = "GET", path: str = "/", body: bytes = b"", **more: str) -> Environ:
    """The environ of a request as gunicorn makes it: 27 keys if it has a body."""
    environ: Environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "RAW_URI": path,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "gunicorn/23.0.0",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "51234",
        "HTTP_HOST": "shop.example",
        "HTTP_USER_AGENT": "Shop/4.2 (Android 14; Mobile)",
        "HTTP_AUTHORIZATION": "Bearer 0d2f3c4b5a69788796a5b4c3d2e1f00f",
        "HTTP_COOKIE": "session=0123456789abcdef0123456789abcdef; theme=dark",
        "gunicorn.socket": None,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.file_wrapper": None,
        "wsgi.input_terminated": True,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **more,
    }
    if body:
        environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
    return environ


def items(count: int = MEMBERS) -> list[dict[str, Any]]:
    """The members of the usual batch: plain GETs, each of its own item."""
    return [{"method": "get", "uri": f"/items/{n}"} for n in range(count)]


def document(members: list[dict[str, Any]]) -> bytes:
    """A batch of these members."""
    return json.dumps({"requests": members}).encode()


def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
    """A server that does nothing."""


def direct(app: App, count: int = MEMBERS) -> Callable[[], None]:
    """A call that asks `app` directly for each item: the floor, below which no batch can be.

    An iterable is closed only where the application has one to close, as Django has.
    """
    environs = [outer("GET", f"/items/{n}") for n in range(count)]

    def floor() -> None:
        for environ in environs:
            for _ in app(environ.copy(), start_response):
                pass

    def closing_floor() -> None:
        for environ in environs:
            iterable = app(environ.copy(), start_response)
            for _ in iterable:
                pass
            iterable.close()

    return closing_floor if hasattr(app(environs[0].copy(), start_response), "close") else floor


def batch(app: App, body: bytes, path: str = "/batch", **more: str) -> Callable[[], bytes]:
    """A call that posts the batch `body` to `app`, and gives its reply."""
    environ = outer("POST", path, body, **more)

    def post() -> bytes:
        iterable = app({**environ, "wsgi.input": io.BytesIO(body)}, start_response)
        reply = b"".join(iterable)
        if hasattr(iterable, "close"):
            iterable.close()
        return reply

    return post
