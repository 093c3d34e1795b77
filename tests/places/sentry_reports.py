"""`python -m tests.places.sentry_reports`: what Sentry's SDK reports, as JSON, by place.

A process of its own, because the SDK patches Flask and Django, and keeps its client for good. The
reports go to a transport of ours instead of a server.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import threading
from typing import Any

import sentry_sdk
from sentry_sdk.transport import Transport

from batchwsgi import BatchMiddleware

from ..support import batch

USER = "X-Request-Id"
"""The header that stands for a login here."""

ITEMS = [
    {"uri": "/orders?n=1", "method": "post", "body": {"sku": "A1"}, "headers": {USER: "ada"}},
    {"uri": "/fail?n=2"},
    {"uri": "/fail?n=3", "method": "post", "body": {"sku": "B2"}, "headers": {USER: "bob"}},
]

reports: list[dict[str, Any]] = []


class Kept(Transport):
    """A transport that keeps what it should send."""

    def capture_envelope(self, envelope: Any) -> None:
        reports.extend(item.payload.json for item in envelope.items if item.type == "event")


def told() -> list[list[Any]]:
    """Of each report since the last call: method, URL, query, body, user and tags."""
    seen = [
        [
            report["request"]["method"],
            report["request"]["url"].removeprefix("http://localhost"),
            report["request"]["query_string"],
            report["request"].get("data"),
            report.get("user", {}).get("id"),
            sorted(report.get("tags", {})),
        ]
        for report in reports
    ]
    reports.clear()
    return seen


def flask_app() -> Any:
    from flask import Flask, request

    app = Flask(__name__)

    @app.before_request
    def user() -> None:
        if name := request.headers.get(USER):
            sentry_sdk.set_user({"id": name})
        sentry_sdk.set_tag(f"n{request.args['n']}", "seen")

    @app.post("/orders")
    def orders() -> dict[str, str]:
        return {}

    @app.route("/fail", methods=["GET", "POST"])
    def fail() -> None:
        raise RuntimeError

    meeting = threading.Barrier(2)

    @app.get("/meet")
    def meet() -> None:
        meeting.wait(10)
        raise RuntimeError

    return app


def django_app() -> Any:
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.urls import path

    def fail(request: Any) -> None:
        sentry_sdk.set_tag(f"n{request.GET['n']}", "seen")
        if name := request.headers.get(USER):
            sentry_sdk.set_user({"id": name})
        raise RuntimeError

    settings.configure(ALLOWED_HOSTS=["localhost"], ROOT_URLCONF=__name__, MIDDLEWARE=[])
    sys.modules[__name__].urlpatterns = [path("fail", fail)]  # type: ignore[attr-defined]
    return get_wsgi_application()


def main() -> None:
    logging.disable()
    os.environ["SENTRY_DSN"] = "http://key@127.0.0.1:9/1"
    sentry_sdk.init = functools.partial(sentry_sdk.init, transport=Kept, send_default_pii=True)
    from . import recipe_sentry

    batch(recipe_sentry.application, "/orders/1", "/orders/0")
    answer: dict[str, Any] = {"recipe": [[r["request"]["url"], r["transaction"]] for r in reports]}
    reports.clear()

    batch(BatchMiddleware(flask_app()), *ITEMS)
    answer["around the Flask object"] = told()
    batch(BatchMiddleware(flask_app(), threads=2), "/meet?n=1", "/meet?n=2")
    answer["side by side"] = sorted(told())
    app = flask_app()
    app.wsgi_app = BatchMiddleware(app.wsgi_app)
    batch(app, *ITEMS)
    answer["app.wsgi_app"] = told()
    batch(BatchMiddleware(django_app()), *ITEMS[1:])
    answer["Django"] = told()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
