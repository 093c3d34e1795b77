"""CORS (Fetch Standard §3.2): wsgicors outside; what is inside never sees the preflight."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from batchwsgi import BatchMiddleware

from ..servers.harness import ROOT
from ..support import Reply, ask, batch, environ, post

PAGE, STRANGER = "https://app.example", "https://evil.example"
FIELDS = {"Content-Type": "application/json"}
ALLOWED = {
    "Access-Control-Allow-Origin": PAGE,
    "Access-Control-Allow-Credentials": "true",
}


@pytest.fixture
def app():
    from . import recipe_cors

    return recipe_cors.application


def preflight(app, origin=PAGE, path="/batch") -> Reply:
    """What a browser asks before a page of that origin may post a batch."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    return ask(app, environ("OPTIONS", path, headers=headers))


def cors(reply: Reply) -> dict[str, str]:
    """The headers by which a browser decides."""
    return {
        name.title(): value
        for name, value in reply.headers
        if name.lower().startswith("access-control-allow-")
    }


def test_a_preflight(app):
    reply = preflight(app)
    assert reply.status == 204
    assert cors(reply) == ALLOWED | {
        "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
        "Access-Control-Allow-Headers": "Content-Type, Authorization",
    }
    assert reply.headers["Access-Control-Max-Age"] == "600"
    assert "Access-Control-Allow-Origin" not in preflight(app, STRANGER).headers


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_a_batch(app, accept):
    """Answered whole, and streamed."""
    for _ in range(2):
        reply = batch(app, "/hello", "/hello", headers={"Origin": PAGE, "Accept": accept})
        assert reply.status == 200
        assert reply.headers["Content-Type"] == accept
        assert cors(reply) == ALLOWED
        assert reply.headers["Vary"] == "Origin"
        assert reply.body.count(b'{"hello":"world"}') == 2
    foreign = batch(app, "/hello", headers={"Origin": STRANGER, "Accept": accept})
    assert (foreign.status, cors(foreign)) == (200, {})


def test_refusals(app):
    """A page can read them too."""
    origin = {"Origin": PAGE}
    for reply, status in [
        (post(app, b"{}", headers=origin), 400),
        (post(app, b"{}", headers={**origin, "Content-Type": "text/csv"}), 415),
        (ask(app, environ("PUT", "/batch", b"{}", {**origin, **FIELDS})), 405),
        (post(app, b"{}", headers=origin, CONTENT_LENGTH="9999999"), 413),
    ]:
        assert (reply.status, cors(reply)) == (status, ALLOWED)


@pytest.mark.parametrize("known", [{}, {"If-None-Match": "*"}])
def test_the_module_for_browsers(known):
    """What one page is answered is not added to what the next one is."""
    from wsgicors import CORS

    app = CORS(BatchMiddleware(lambda *_: [], client=True), origin=f"{PAGE} {STRANGER}")
    for origin in (PAGE, STRANGER):
        reply = ask(app, environ(path="/batch.js", headers={"Origin": origin, **known}))
        assert reply.headers.getlist("Access-Control-Allow-Origin") == [origin]


# --- Inside ------------------------------------------------------------------------------------


def test_flask_cors_inside_sees_members_alone(app):
    from flask import Flask
    from flask_cors import CORS

    app = Flask(__name__)
    CORS(app, origins=[PAGE])
    app.get("/hello")(lambda: "hello")
    app.wsgi_app = BatchMiddleware(app.wsgi_app)
    assert preflight(app, path="/hello").headers["Access-Control-Allow-Origin"] == PAGE
    assert cors(preflight(app)) == {}
    reply = batch(app, "/hello", headers={"Origin": PAGE})
    assert cors(reply) == {}
    assert reply.entries[0]["headers"]["Access-Control-Allow-Origin"] == PAGE


def test_inside_and_outside_requests_alone_have_the_headers_twice():
    """Browsers refuse that (Fetch Standard §4.9): one of them has to go."""
    from flask import Flask
    from flask_cors import CORS
    from wsgicors import CORS as Outside

    app = Flask(__name__)
    CORS(app, origins=[PAGE])
    app.get("/hello")(lambda: "hello")
    reply = ask(Outside(app, origin=PAGE), environ(path="/hello", headers={"Origin": PAGE}))
    assert reply.headers.getlist("Access-Control-Allow-Origin") == [PAGE, PAGE]


DJANGO = """
import json
import django
from django.conf import settings
settings.configure(
    ALLOWED_HOSTS=["localhost"],
    ROOT_URLCONF="__main__",
    INSTALLED_APPS=["corsheaders"],
    MIDDLEWARE=["corsheaders.middleware.CorsMiddleware"],
    CORS_ALLOWED_ORIGINS=["https://app.example"],
)
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from batchwsgi import BatchMiddleware
from tests.places.test_cors import PAGE, cors, preflight
from tests.support import batch

urlpatterns = [path("hello", lambda request: HttpResponse("hello"))]
app = BatchMiddleware(get_wsgi_application())
reply = batch(app, "/hello", headers={"Origin": PAGE})
print(json.dumps([
    cors(preflight(app, path="/hello"))["Access-Control-Allow-Origin"],
    cors(preflight(app)),
    cors(reply),
    reply.entries[0]["headers"]["access-control-allow-origin"],
]))
"""
"""In a process of its own: Django has one configuration for each."""


def test_django_cors_headers_inside_sees_members_alone():
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", DJANGO], cwd=ROOT, check=True, capture_output=True
    )
    assert json.loads(run.stdout) == [PAGE, {}, {}, PAGE]
