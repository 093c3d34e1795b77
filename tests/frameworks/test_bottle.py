"""What is particular to Bottle: one request and one response for each thread, used in turn."""

from __future__ import annotations

import bottle
import pytest
from bottle import Bottle, HTTPError, HTTPResponse, abort, request, response

from ..support import ask, batch, environ


@pytest.fixture
def app() -> Bottle:
    """An application that notes in `app.events` what happened, in order."""
    made = Bottle()
    made.events = []

    @made.hook("before_request")
    def before_request():
        made.events.append(f"before_request {request.path}")
        if "early" in request.query:
            raise HTTPResponse("early", 202)

    @made.hook("after_request")
    def after_request():
        made.events.append(f"after_request {request.path} {response.status_code}")
        response.set_header("X-Path", request.path)

    @made.error(404)
    def not_found(error: HTTPError):
        made.events.append("error 404")
        return f"no {request.path}"

    @made.error(500)
    def failed(error: HTTPError):
        made.events.append(f"error 500 {error.exception!r}")
        return "failed"

    @made.get("/hello/<name>")
    def hello(name: str):
        return {"hello": name, "q": dict(request.query), "cookies": dict(request.cookies)}

    @made.get("/mark")
    def mark():
        response.status = 203
        response.set_header("X-Mark", "yes")
        response.set_cookie("marked", "yes", path="/nowhere")
        response.content_type = "text/plain"
        return "marked"

    @made.get("/crash")
    def crash():
        response.set_header("X-Crash", "yes")
        raise LookupError("crash")

    @made.get("/gone")
    def gone():
        abort(410, "gone")

    return made


def test_request_is_each_members_own(app, wrap):
    reply = batch(wrap(app), "/hello/ada?a=1", "/hello/bob", "/hello/eve?e=3")
    assert [(entry["body"]["hello"], entry["body"]["q"]) for entry in reply.entries] == [
        ("ada", {"a": "1"}),
        ("bob", {}),
        ("eve", {"e": "3"}),
    ]


@pytest.mark.parametrize("leaver", ["/mark", "/crash", "/gone", "/nowhere", "/hello/x?early=1"])
def test_nothing_of_a_response_stays_for_the_next(app, leaver, wrap):
    first, last = batch(wrap(app), leaver, "/hello/ada").entries
    alone = ask(app, environ("GET", "/hello/ada"))
    assert first["body"] != last["body"]
    assert last["status_code"] == "200"
    assert last["headers"] == dict(alone.headers)
    assert last["body"] == alone.json()


def test_events_are_those_of_the_requests_alone(app, wrap):
    targets = ["/hello/ada", "/hello/bob?early=1", "/crash", "/nowhere", "/gone", "/mark"]
    alone = [ask(app, environ("GET", target)).status for target in targets]
    assert alone == [200, 202, 500, 404, 410, 203]
    expected = app.events.copy()
    app.events.clear()
    reply = batch(wrap(app), *targets)
    assert [int(entry["status_code"]) for entry in reply.entries] == alone
    assert app.events == expected
    assert app.events[:2] == ["before_request /hello/ada", "after_request /hello/ada 200"]
    assert app.events.count("error 500 LookupError('crash')") == 1


def test_exception_that_bottle_lets_through_is_an_application_error(app, wrap):
    app.catchall = False
    crashed, hello = batch(wrap(app), "/crash", "/hello/ada").entries
    assert crashed["body"]["type"] == "urn:problem-type:batchwsgi:application-error"
    assert hello["body"]["hello"] == "ada"


def test_default_app(wrap):
    """Bottle's stack of applications, as its tutorial uses it."""
    with Bottle():

        @bottle.get("/hello")
        def hello():
            return "hello"

        reply = batch(wrap(bottle.default_app()), "/hello")
    assert reply.entries[0]["body"] == "hello"


def test_mounted_application(app, wrap):
    outside = Bottle()
    outside.mount("/shop/", app)
    entries = batch(wrap(outside), "/shop/hello/ada", "/hello/ada").entries
    assert entries[0]["body"]["hello"] == "ada"
    assert entries[1]["status_code"] == "404"


def test_batch_from_inside_a_mount(app, wrap):
    """Bottle mounts any WSGI application, the wrapped one too."""
    outside = Bottle()
    outside.mount("/shop", wrap(app))
    reply = batch(outside, "/hello/ada", "/mark", path="/shop/batch")
    assert [entry["status_code"] for entry in reply.entries] == ["200", "203"]
    assert reply.headers.getlist("Set-Cookie") == ["marked=yes; Path=/nowhere"]
