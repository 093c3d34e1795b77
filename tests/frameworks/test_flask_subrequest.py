"""A Flask view that answers a batch itself, behind the application's own login check.

This is what `subrequest` was asked for first: no middleware, and not a second login check.
"""

from __future__ import annotations

import json
import logging
from typing import Any
from wsgiref.validate import validator

import pytest
from flask import Flask, Response, current_app, g, has_app_context, request, session

from batchwsgi import subrequest

from ..support import Reply, ask, batch, environ
from .sized_reads import sized_reads

COLLECT = "/app/batch"


@pytest.fixture
def app() -> Flask:
    """An application with a login check for all of `/app/`, and a batch view of its own there."""
    made = Flask(__name__)
    made.secret_key = "for tests only"
    made.called = []

    @made.before_request
    def check_login():
        made.called.append(request.path)
        if request.path.startswith("/app/") and "user" not in session:
            return {"error": "log in first"}, 401
        g.user = session.get("user")
        return None

    @made.post(COLLECT)
    def collect():
        g.outer = "kept"
        g_before = vars(g._get_current_object()).copy()
        replies = []
        for item in request.json:
            reply = subrequest(
                current_app.wsgi_app,
                request.environ,
                item.get("method", "GET"),
                item["target"],
                headers=item.get("headers", {}),
                body=item.get("body", "").encode(),
            )
            replies.append({"status": reply.status, "body": reply.body.decode()})
        assert vars(g._get_current_object()) == g_before
        assert request.path == COLLECT
        return {"replies": replies, "g": g_before}

    @made.get("/app/me")
    def me():
        found = {"user": g.user, "outer": g.get("outer"), "q": request.args.get("q")}
        g.outer = "changed"
        return found

    @made.post("/app/items")
    def items():
        return {"made": request.json}, 201

    @made.get("/app/crash")
    def crash():
        raise LookupError("crash")

    @made.get("/app/nested")
    def nested():
        reply = subrequest(current_app.wsgi_app, request.environ, "GET", "/app/me?q=inner")
        return {"inner": reply.json(), "own": {"user": g.user, "outer": g.get("outer")}}

    @made.get("/app/cookie")
    def cookie():
        session["seen"] = True
        return {}

    # The linter sees what the server sends, and each sub-request too.
    made.wsgi_app = validator(sized_reads(made.wsgi_app))
    return made


def logged_in(app: Flask, user: str = "ada") -> dict[str, str]:
    session = app.session_interface.get_signing_serializer(app).dumps({"user": user})
    return {"Cookie": f"session={session}"}


def collect(app: Flask, *items: Any, headers: dict[str, str] | None = None) -> Reply:
    """Post these items to the application's own batch view."""
    document = [{"target": item} if isinstance(item, str) else item for item in items]
    headers = {"Content-Type": "application/json", **(headers or {})}
    return ask(app, environ("POST", COLLECT, json.dumps(document).encode(), headers))


def test_not_logged_in_calls_nothing(app):
    reply = collect(app, "/app/me", "/app/me")
    assert (reply.status, reply.json()) == (401, {"error": "log in first"})
    assert app.called == [COLLECT]


def test_logged_in_gets_the_replies(app):
    create = {
        "method": "POST",
        "target": "/app/items",
        "headers": {"Content-Type": "application/json"},
        "body": '{"sku": "A1"}',
    }
    reply = collect(app, "/app/me?q=1", create, "/nowhere", headers=logged_in(app))
    assert reply.status == 200
    me, made, nowhere = reply.json()["replies"]
    assert (me["status"], json.loads(me["body"])) == (
        200,
        {"user": "ada", "outer": None, "q": "1"},
    )
    assert (made["status"], json.loads(made["body"])) == (201, {"made": {"sku": "A1"}})
    assert nowhere["status"] == 404
    assert app.called == [COLLECT, "/app/me", "/app/items", "/nowhere"]


def test_login_check_sees_each_subrequest_with_its_own_identity(app):
    """A sub-request that brings another cookie is judged by that one."""
    nobody = {"target": "/app/me", "headers": {"Cookie": "session=forged"}}
    bob = {"target": "/app/me", "headers": logged_in(app, "bob")}
    replies = collect(app, nobody, bob, "/app/me", headers=logged_in(app)).json()["replies"]
    assert [reply["status"] for reply in replies] == [401, 200, 200]
    assert '"user":"bob"' in replies[1]["body"]
    assert '"user":"ada"' in replies[2]["body"]


def test_g_of_the_view_is_not_seen_and_not_changed(app):
    document = collect(app, "/app/me", "/app/me", headers=logged_in(app)).json()
    for reply in document["replies"]:
        assert json.loads(reply["body"])["outer"] is None
    assert document["g"] == {"user": "ada", "outer": "kept"}


@pytest.mark.parametrize("testing", [False, True], ids=["handled", "propagated"])
def test_exception_is_a_500_response(app, testing, caplog):
    app.testing = testing
    with caplog.at_level(logging.ERROR):
        reply = collect(app, "/app/me", "/app/crash", "/app/me", headers=logged_in(app))
    assert [reply["status"] for reply in reply.json()["replies"]] == [200, 500, 200]
    loggers = [record.name for record in caplog.records]
    assert loggers == ["batchwsgi" if testing else app.name]


def test_nested_subrequest(app):
    reply = collect(app, "/app/nested", headers=logged_in(app))
    [nested] = reply.json()["replies"]
    assert json.loads(nested["body"]) == {
        "inner": {"user": "ada", "outer": None, "q": "inner"},
        "own": {"user": "ada", "outer": None},
    }
    assert app.called == [COLLECT, "/app/nested", "/app/me"]


def test_cookies_are_on_the_response_for_the_view_to_pass_on(app):
    @app.get("/app/forward")
    def forward():
        reply = subrequest(current_app.wsgi_app, request.environ, "GET", "/app/cookie")
        return Response(
            reply.body, reply.status, [("Set-Cookie", reply.headers["set-cookie"])], "text/plain"
        )

    reply = ask(app, environ("GET", "/app/forward", headers=logged_in(app)))
    [cookie] = reply.headers.getlist("Set-Cookie")
    assert cookie.startswith("session=")


def test_member_of_a_batch_makes_subrequests(app, wrap):
    create = {"target": "/app/items", "method": "POST", "body": "[7]"} | {
        "headers": {"Content-Type": "application/json"}
    }
    members = [
        "/app/nested",
        {"method": "post", "uri": COLLECT, "body": [{"target": "/app/me?q=2"}, create]},
        "/app/me?q=3",
    ]
    reply = batch(wrap(app), *members, headers=logged_in(app))
    nested, collected, plain = [entry["body"] for entry in reply.entries]
    assert nested["inner"] == {"user": "ada", "outer": None, "q": "inner"}
    me, made = collected["replies"]
    assert json.loads(me["body"]) == {"user": "ada", "outer": None, "q": "2"}
    assert (made["status"], json.loads(made["body"])) == (201, {"made": [7]})
    assert plain == {"user": "ada", "outer": None, "q": "3"}


def test_subrequest_to_the_batch_endpoint_is_refused(app, wrap):
    """Neither a view nor a member opens a batch inside."""

    @app.get("/app/around")
    def around():
        reply = subrequest(
            current_app.wsgi_app,
            request.environ,
            "POST",
            "/batch",
            headers={"Content-Type": "application/json"},
            body=b'{"requests": [{"uri": "/app/me"}]}',
        )
        return {"status": reply.status, "detail": reply.json()["detail"]}

    app.wsgi_app = wrap(app.wsgi_app)
    refused = {
        "status": 400,
        "detail": "A batch cannot be part of a batch. Nothing was executed.",
    }
    headers = logged_in(app)
    assert ask(app, environ("GET", "/app/around", headers=headers)).json() == refused
    assert batch(app, "/app/around", headers=headers).entries[0]["body"] == refused
    assert app.called == ["/app/around"] * 2


def test_no_context_is_left_behind(app):
    collect(app, "/app/me", "/app/nested", "/app/crash", headers=logged_in(app))
    assert not has_app_context()
