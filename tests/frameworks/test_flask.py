"""What is particular to Flask: contexts, hooks, signals, exceptions, sessions, and mounting."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Flask, current_app, g, request, session
from flask.signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    got_request_exception,
    request_finished,
    request_started,
    request_tearing_down,
)
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from ..support import ask, batch, environ
from .sized_reads import sized_reads

SIGNALS = {
    "appcontext_pushed": appcontext_pushed,
    "request_started": request_started,
    "got_request_exception": got_request_exception,
    "request_finished": request_finished,
    "request_tearing_down": request_tearing_down,
    "appcontext_tearing_down": appcontext_tearing_down,
    "appcontext_popped": appcontext_popped,
}


@pytest.fixture
def app() -> Flask:
    made = Flask(__name__)
    made.secret_key = "for tests only"

    @made.get("/hello/<name>")
    def hello(name: str):
        return {"hello": name}

    @made.get("/crash")
    def crash():
        raise LookupError("crash")

    return made


# --- Contexts ----------------------------------------------------------------------------------


def test_context_is_each_members_own(app, wrap):
    seen: list[tuple[Any, ...]] = []

    @app.get("/look/<int:number>")
    def look(number: int):
        before = list(g)
        g.number = session["number"] = number
        g.app = current_app._get_current_object()
        proxies = (request, session, g)
        seen.append(tuple(proxy._get_current_object() for proxy in proxies))  # kept alive
        return {"before": before, "g": g.number, "args": request.args.to_dict(), "app": g.app.name}

    reply = batch(wrap(app), "/look/1?n=1", "/look/2", "/look/3?n=3&m=3")
    assert [entry["body"] for entry in reply.entries] == [
        {"before": [], "g": 1, "args": {"n": "1"}, "app": app.name},
        {"before": [], "g": 2, "args": {}, "app": app.name},
        {"before": [], "g": 3, "args": {"n": "3", "m": "3"}, "app": app.name},
    ]
    for objects in zip(*seen, strict=True):
        assert len(set(map(id, objects))) == 3
    assert not flask.has_app_context()
    assert not flask.has_request_context()


# --- Hooks and signals -------------------------------------------------------------------------


@pytest.fixture
def events(app) -> Iterator[list[str]]:
    """What happened in `app`, in order: hooks and signals, with the path they were for."""
    happened: list[str] = []

    def note(event: str) -> None:
        happened.append(f"{event} {request.path if flask.has_request_context() else '-'}")

    @app.before_request
    def before_request():
        note("before_request")
        if "early" in request.args:
            return {"early": True}
        return None

    @app.after_request
    def after_request(response):
        note(f"after_request {response.status_code}")
        return response

    @app.teardown_request
    def teardown_request(error):
        note(f"teardown_request {error!r}")

    @app.teardown_appcontext
    def teardown_appcontext(error):
        note(f"teardown_appcontext {error!r}")

    @app.errorhandler(404)
    def not_found(error):
        note("errorhandler 404")
        return {"own": 404}, 404

    @app.errorhandler(500)
    def failed(error):
        note(f"errorhandler 500 {error.original_exception!r}")
        return {"own": 500}, 500

    receivers = [
        (signal, lambda sender, name=name, **extra: note(f"signal {name}"))
        for name, signal in SIGNALS.items()
    ]
    for signal, receiver in receivers:
        signal.connect(receiver, app)
    yield happened
    for signal, receiver in receivers:
        signal.disconnect(receiver, app)


def test_everything_runs_once_and_in_order(app, events, wrap):
    reply = batch(wrap(app), "/hello/ada")
    assert reply.entries[0]["body"] == {"hello": "ada"}
    assert events == [
        "signal appcontext_pushed -",
        "signal request_started /hello/ada",
        "before_request /hello/ada",
        "after_request 200 /hello/ada",
        "signal request_finished /hello/ada",
        "teardown_request None /hello/ada",
        "signal request_tearing_down /hello/ada",
        "teardown_appcontext None -",
        "signal appcontext_tearing_down -",
        "signal appcontext_popped -",
    ]


def test_events_are_those_of_the_requests_alone(app, events, wrap):
    targets = ["/hello/ada", "/hello/bob?early=1", "/crash", "/nowhere", "/hello/eve"]
    alone = [ask(app, environ("GET", target)).status for target in targets]
    assert alone == [200, 200, 500, 404, 200]
    expected = events.copy()
    events.clear()
    reply = batch(wrap(app), *targets)
    assert [int(entry["status_code"]) for entry in reply.entries] == alone
    assert events == expected
    for once in ("errorhandler 404", "errorhandler 500", "signal got_request_exception"):
        assert len([event for event in events if event.startswith(once)]) == 1
    for each in ("before_request", "after_request", "signal appcontext_pushed"):
        assert len([event for event in events if event.startswith(each)]) == len(targets)


def test_early_answer_is_that_members_only(app, events, wrap):
    first, second = batch(wrap(app), "/hello/ada?early=1", "/hello/bob").entries
    assert first["body"] == {"early": True}
    assert second["body"] == {"hello": "bob"}


def test_after_this_request_is_that_members_only(app, wrap):
    @app.get("/marked")
    def marked():
        @flask.after_this_request
        def mark(response):
            response.headers["X-Marked"] = "yes"
            return response

        return {}

    entries = batch(wrap(app), "/hello/ada", "/marked", "/hello/bob").entries
    assert [entry["headers"].get("X-Marked") for entry in entries] == [None, "yes", None]


def test_flashed_messages_and_url_for_work(app, wrap):
    @app.get("/flash")
    def flash():
        flask.flash("saved")
        urls = [
            flask.url_for("hello", name="ada"),
            flask.url_for("hello", name="é", _external=True),
        ]
        return {"messages": flask.get_flashed_messages(), "urls": urls}

    reply = batch(wrap(app), "/flash", SCRIPT_NAME="/app")
    assert reply.entries[0]["body"] == {
        "messages": ["saved"],
        "urls": ["/app/hello/ada", "http://localhost/app/hello/%C3%A9"],
    }


def test_stream_with_context(app, wrap):
    @app.get("/stream")
    def stream():
        def lines():
            yield request.args["a"]
            yield request.args["b"]

        return flask.Response(flask.stream_with_context(lines()), mimetype="text/plain")

    entries = batch(wrap(app), "/stream?a=1&b=2", "/stream?a=3&b=4", "/hello/ada").entries
    assert [entry["body"] for entry in entries] == ["12", "34", {"hello": "ada"}]


# --- Exceptions --------------------------------------------------------------------------------


def test_exception_reaches_handle_exception(wrap):
    handled = []

    class Watched(Flask):
        def handle_exception(self, error):
            handled.append(error)
            return super().handle_exception(error)

    app = Watched(__name__)
    error = LookupError("crash")

    @app.get("/crash")
    def crash():
        raise error

    @app.get("/fine")
    def fine():
        return "fine"

    crashed, fine_entry = batch(wrap(app), "/crash", "/fine").entries
    assert handled == [error]
    assert crashed["status_code"] == "500"
    assert crashed["headers"]["Content-Type"] == "text/html; charset=utf-8"
    assert crashed["body"] == ask(app, environ("GET", "/crash")).body.decode()
    assert (fine_entry["status_code"], fine_entry["body"]) == ("200", "fine")


@pytest.mark.parametrize("option", ["TESTING", "PROPAGATE_EXCEPTIONS", "DEBUG"])
def test_exception_that_flask_raises_again_is_an_application_error(app, option, wrap, caplog):
    app.config[option] = True
    with pytest.raises(LookupError):
        ask(app, environ("GET", "/crash"))
    caplog.clear()
    with caplog.at_level(logging.ERROR, "batchwsgi"):
        entries = batch(wrap(app), "/hello/ada", "/crash", "/hello/bob").entries
    assert [entry["status_code"] for entry in entries] == ["200", "500", "200"]
    assert entries[1]["headers"] == {"Content-Type": "application/problem+json"}
    assert entries[1]["body"]["type"] == "urn:problem-type:batchwsgi:application-error"
    assert "LookupError" not in str(entries[1])
    assert entries[2]["body"] == {"hello": "bob"}
    [record] = [record for record in caplog.records if record.name == "batchwsgi"]
    assert record.exc_info[0] is LookupError


def test_contexts_are_torn_down_after_a_propagated_exception(app, events, wrap):
    app.testing = True
    batch(wrap(app), "/crash", "/hello/ada")
    crashed = events[: events.index("signal appcontext_popped -") + 1]
    assert "teardown_request LookupError('crash') /crash" in crashed
    assert events.count("signal appcontext_popped -") == 2
    assert not flask.has_app_context()


def test_error_handler_for_a_class_and_a_blueprint(app, wrap):
    blueprint = flask.Blueprint("shop", __name__, url_prefix="/shop")

    @blueprint.errorhandler(LookupError)
    def lost(error):
        return {"lost": str(error)}, 410

    @blueprint.get("/item")
    def item():
        raise LookupError("item")

    app.register_blueprint(blueprint)
    shop, crash = batch(wrap(app), "/shop/item", "/crash").entries
    assert (shop["status_code"], shop["body"]) == ("410", {"lost": "item"})
    assert crash["status_code"] == "500"


# --- Sessions ----------------------------------------------------------------------------------


def session_in(app: Flask, set_cookie: str) -> dict[str, Any]:
    """The session that a `Set-Cookie` value carries."""
    name, _, rest = set_cookie.partition("=")
    assert name == app.config["SESSION_COOKIE_NAME"]
    serializer = app.session_interface.get_signing_serializer(app)
    return serializer.loads(rest.partition(";")[0])


def test_session_cookie_is_in_the_outer_reply(app, wrap):
    @app.post("/login")
    def login():
        session["user"] = request.form["user"]
        return {}

    member = {"method": "post", "uri": "/login", "args": {"user": "ada"}}
    reply = batch(wrap(sized_reads(app)), member)
    [cookie] = reply.headers.getlist("Set-Cookie")
    assert session_in(app, cookie) == {"user": "ada"}
    assert cookie.endswith("; HttpOnly; Path=/")
    assert "Set-Cookie" not in reply.entries[0]["headers"]
    assert reply.entries[0]["headers"]["Vary"] == "Cookie"


def test_session_of_the_outer_request_is_each_members(app, wrap):
    @app.get("/me")
    def me():
        return {"user": session.get("user")}

    cookie = app.session_interface.get_signing_serializer(app).dumps({"user": "ada"})
    headers = {"Cookie": f"session={cookie}"}
    reply = batch(wrap(app), "/me", "/me", headers=headers)
    assert [entry["body"] for entry in reply.entries] == [{"user": "ada"}, {"user": "ada"}]
    assert reply.headers.getlist("Set-Cookie") == []


# --- Where the middleware stands ---------------------------------------------------------------


@pytest.mark.parametrize("place", ["app.wsgi_app", "outside"])
def test_both_ways_to_mount(app, events, place, wrap):
    if place == "outside":
        mounted = wrap(app)
    else:
        mounted = app
        app.wsgi_app = wrap(app.wsgi_app)
    assert ask(mounted, environ("GET", "/hello/ada")).json() == {"hello": "ada"}
    events.clear()
    reply = batch(mounted, "/hello/ada", "/hello/bob")
    assert [entry["body"]["hello"] for entry in reply.entries] == ["ada", "bob"]
    # Flask sees the members, and nothing of the batch itself.
    assert [event for event in events if event.startswith("before_request")] == [
        "before_request /hello/ada",
        "before_request /hello/bob",
    ]


def test_flasks_own_test_client(app, wrap):
    app.wsgi_app = wrap(app.wsgi_app)
    document = {"requests": [{"uri": "/hello/ada"}, {"uri": "/crash"}]}
    with app.test_client().post("/batch", json=document) as reply:
        assert reply.status_code == 200
        first, second = reply.json["responses"]
    assert first["body"] == {"hello": "ada"}
    assert (second["status_code"], second["encoding"]) == ("500", "text")


def test_behind_a_dispatcher(app, wrap):
    wrapped = DispatcherMiddleware(NotFound(), {"/api": wrap(app)})
    reply = batch(wrapped, "/hello/ada", path="/api/batch")
    assert reply.entries[0]["body"] == {"hello": "ada"}
    assert batch(wrapped, "/hello/ada").status == 404
