"""Rules of frameworks hold for each member, and the recipes for `authorize` add what they lack."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from flask import Flask, current_app, jsonify, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from batchwsgi import BatchMiddleware, subrequest

from ..servers import client
from ..servers.harness import Server, start
from ..support import ask, batch, environ, post
from .recipes import RateLimit, limited, no_admin

# --- `authorize` alone ------------------------------------------------------------------------


def test_path_rules(wrap):
    called = []

    def app(environ, start_response):
        called.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    uris = ["/page", "/admin", "/%61dmin/users", "/page/admin"]
    reply = batch(wrap(app, authorize=no_admin), *uris)
    assert [entry["status_code"] for entry in reply.entries] == ["200", "403", "403", "200"]
    assert called == ["/page", "/page/admin"]


# --- Flask-Limiter ----------------------------------------------------------------------------


@pytest.fixture
def app() -> Flask:
    """An application with Flask-Limiter, and the endpoint outside Flask, as everywhere."""
    app = Flask(__name__)
    limiter = Limiter(get_remote_address, app=app, storage_uri="memory://", headers_enabled=True)

    @app.get("/report")
    @limiter.limit("5 per minute")
    def report():
        return jsonify(number=1)

    @app.get("/free")
    def free():
        return jsonify(number=2)

    @app.post("/app/batch")
    @limiter.limit("2 per minute")
    def app_batch():
        replies = [
            subrequest(current_app.wsgi_app, request.environ, "GET", item["uri"])
            for item in request.get_json()["requests"]
        ]
        return jsonify([reply.status for reply in replies])

    app.wsgi_app = BatchMiddleware(app.wsgi_app)
    return app


def test_flask_limiter_counts_each_member(app):
    entries = batch(app, *["/report"] * 8, "/free").entries
    assert [entry["status_code"] for entry in entries] == ["200"] * 5 + ["429"] * 3 + ["200"]
    for left, entry in zip([4, 3, 2, 1, 0, 0, 0, 0], entries, strict=False):
        assert entry["headers"]["X-RateLimit-Remaining"] == str(left)
    assert 0 < int(entries[5]["headers"]["Retry-After"]) <= 60


def test_flask_limiter_counts_members_together_with_requests_sent_alone(app):
    for _ in range(3):
        assert ask(app, environ("GET", "/report")).status == 200
    entries = batch(app, *["/report"] * 4).entries
    assert [entry["status_code"] for entry in entries] == ["200", "200", "429", "429"]
    assert ask(app, environ("GET", "/report")).status == 429
    assert batch(app, "/report", REMOTE_ADDR="192.0.2.8").entries[0]["status_code"] == "200"


def test_flask_limiter_does_not_see_batches_themselves(app):
    for _ in range(10):
        assert batch(app, "/free").status == 200


def test_a_limit_for_batches_themselves(app):
    app.wsgi_app = limited(app.wsgi_app, RateLimit("2/minute").count)
    replies = [batch(app, "/free") for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert 0 < int(replies[2].headers["Retry-After"]) <= 60
    assert ask(app, environ("GET", "/free")).status == 200


def test_flask_limiter_counts_a_batch_view_and_its_subrequests(app):
    document = {"requests": [{"uri": "/report"}] * 4}
    replies = [post(app, document, "/app/batch") for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert replies[0].json() == [200] * 4
    assert replies[1].json() == [200, 429, 429, 429]


# --- Django's users and permissions -----------------------------------------------------------

PAGES = ["/whoami", "/own", "/report", "/staff", "/orders", "/admin/", "/admin/forgotten"]

ANSWERS = {
    "": ["200", "302", "403", "302", "403", "302", "200"],
    "bob": ["200", "200", "403", "302", "200", "302", "200"],
    "ada": ["200", "200", "200", "200", "200", "200", "200"],
}
"""What each user gets; the last page is one whose author forgot every check."""


def signed_in(server: Server, name: str) -> dict[str, str]:
    """The headers of that user's requests."""
    if not name:
        return {}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = client.ask(server, "POST", "/sign-in", urlencode({"name": name}).encode(), form)
    (cookie,) = (c for c in reply.headers.getlist("Set-Cookie") if "sessionid=" in c)
    return {"Cookie": cookie.strip().partition(";")[0]}


def statuses(server: Server, name: str) -> list[str]:
    entries = client.batch(server, *PAGES, headers=signed_in(server, name)).entries
    for entry in entries:
        if entry["status_code"] == "200" and entry.get("encoding") is None:
            assert name in entry["body"].values()
    return [entry["status_code"] for entry in entries]


@pytest.fixture(scope="module", params=["", "authorize", "middleware"], ids=lambda r: r or "none")
def django_server(request, site) -> Iterator[Server]:
    """The site with no recipe, with the hook, and with the Django middleware."""
    app = "tests.faults.django_site:application"
    with start("gunicorn_gthread", app, DATABASE=site, RECIPE=request.param) as server:
        server.recipe = request.param
        yield server


@pytest.mark.parametrize("name", ANSWERS, ids=lambda name: name or "anonymous")
def test_django_checks_each_member(django_server, name):
    expected = ANSWERS[name].copy()
    if django_server.recipe and name != "ada":
        expected[-2:] = ["403", "403"]
    assert statuses(django_server, name) == expected


@pytest.mark.parametrize("name", ANSWERS, ids=lambda name: name or "anonymous")
def test_django_answers_members_as_requests_alone(django_server, name):
    headers = signed_in(django_server, name)
    alone = [client.ask(django_server, "GET", page, headers=headers).status for page in PAGES]
    assert [str(status) for status in alone] == ANSWERS[name]
