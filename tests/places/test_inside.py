"""WSGI middleware that belongs inside, because members have to pass through it."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from beaker.middleware import SessionMiddleware
from paste.auth.basic import AuthBasicHandler
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from whitenoise import WhiteNoise

from batchwsgi import BatchMiddleware

from ..faults.recipes import RateLimit, limited
from ..support import ask, batch, echo, environ


def statuses(reply):
    return [entry["status_code"] for entry in reply.entries]


# --- Files, and several applications -----------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    (tmp_path / "style.css").write_text("body {}\n")
    (tmp_path / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return str(tmp_path)


def not_found(request, start_response):
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"nothing\n"]


def test_whitenoise_inside_serves_members(files):
    app = BatchMiddleware(WhiteNoise(not_found, root=files, prefix="static/"))
    items = ["/static/style.css", "/static/dot.png", "/static/nothing.css"]
    style, dot, nothing = batch(app, *items).entries
    assert (style["status_code"], style["body"], style["encoding"]) == ("200", "body {}\n", "text")
    assert (dot["status_code"], dot["encoding"]) == ("200", "base64")
    assert nothing["status_code"] == "404"
    alone = ask(app, environ(path="/static/style.css"))
    assert alone.headers["ETag"] == style["headers"]["ETag"]
    again = {"uri": "/static/style.css", "headers": {"If-None-Match": alone.headers["ETag"]}}
    assert statuses(batch(app, again)) == ["304"]


def test_whitenoise_outside_is_not_asked(files):
    app = WhiteNoise(BatchMiddleware(not_found), root=files, prefix="static/")
    assert ask(app, environ(path="/static/style.css")).status == 200
    assert statuses(batch(app, "/static/style.css")) == ["404"]


def test_dispatcher_inside_leads_to_all_its_applications():
    app = BatchMiddleware(DispatcherMiddleware(not_found, {"/api": echo}))
    api, other = batch(app, "/api/users?n=1", "/users").entries
    assert (api["body"]["SCRIPT_NAME"], api["body"]["PATH_INFO"]) == ("/api", "/users")
    assert other["status_code"] == "404"


def test_dispatcher_outside_leads_to_one_of_them():
    around_the_first = DispatcherMiddleware(BatchMiddleware(not_found), {"/api": echo})
    assert statuses(batch(around_the_first, "/api/users")) == ["404"]
    around_the_second = DispatcherMiddleware(not_found, {"/api": BatchMiddleware(echo)})
    assert batch(around_the_second, "/users").status == 404
    reply = batch(around_the_second, "/users", SCRIPT_NAME="", PATH_INFO="/api/batch")
    assert reply.entries[0]["body"]["SCRIPT_NAME"] == "/api"


# --- Sessions ----------------------------------------------------------------------------------


def visits(request, start_response):
    """How often this session was here, and who it is of."""
    session = request["beaker.session"]
    session["visits"] = session.get("visits", 0) + 1
    session.setdefault("user", request.get("QUERY_STRING") or None)
    session.save()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([session["user"], session["visits"]]).encode()]


def test_beaker_inside_gives_members_their_session(wrap, tmp_path):
    app = wrap(SessionMiddleware(visits, {"session.type": "file", "session.data_dir": tmp_path}))
    first = batch(app, "/?ada", "/", "/?eve")
    assert [entry["body"] for entry in first.entries] == [["ada", 1], ["ada", 2], ["ada", 3]]
    (cookie,) = first.headers.getlist("Set-Cookie")
    known = {"Cookie": cookie.partition(";")[0]}
    assert batch(app, "/", headers=known).entries[0]["body"] == ["ada", 4]
    assert batch(app, "/").entries[0]["body"] == [None, 1]


def test_beaker_outside_gives_members_nothing(tmp_path):
    session = {"session.type": "file", "session.data_dir": tmp_path}
    app = SessionMiddleware(BatchMiddleware(visits), session)
    assert ask(app, environ(path="/")).json() == [None, 1]
    (entry,) = batch(app, "/").entries
    assert entry["body"]["type"] == "urn:problem-type:batchwsgi:application-error"


# --- Rate limits by path, and authentication ---------------------------------------------------


def test_a_rate_limit_by_path_inside_counts_members():
    app = BatchMiddleware(limited(echo, RateLimit("2/minute").count, "/report"))
    answered = statuses(batch(app, "/report", "/", "/report", "/report", "/"))
    assert answered == ["200", "200", "200", "429", "200"]


def test_a_rate_limit_by_path_outside_counts_none():
    app = limited(BatchMiddleware(echo), RateLimit("2/minute").count, "/report")
    assert statuses(batch(app, *["/report"] * 5)) == ["200"] * 5
    assert [ask(app, environ(path="/report")).status for _ in range(3)] == [200, 200, 429]


def guarded(app):
    """`app` behind a login, whose user the application finds in `REMOTE_USER`."""
    return AuthBasicHandler(app, "users", lambda environ, name, password: password == "pw")


def login(name, password="pw"):
    return {"Authorization": f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"}


def users(reply):
    return [
        entry["body"].get("REMOTE_USER") if entry["status_code"] == "200" else entry["status_code"]
        for entry in reply.entries
    ]


def test_authentication_inside_checks_each_member():
    app = BatchMiddleware(guarded(echo))
    items = [{"uri": "/"}, {"uri": "/", "headers": login("eve")}]
    forged = {"uri": "/", "headers": login("ada", "guessed")}
    assert users(batch(app, *items, forged, headers=login("ada"))) == ["ada", "eve", "401"]
    assert users(batch(app, *items)) == ["401", "eve"]


def test_authentication_outside_checks_the_batch():
    """Members then are whoever posted it: one that says otherwise is refused."""
    app = guarded(BatchMiddleware(echo))
    assert batch(app, "/").status == 401
    assert users(batch(app, "/", headers=login("ada"))) == ["ada"]
    other = {"uri": "/", "headers": login("eve")}
    assert batch(app, other, headers=login("ada")).pointers == ["/requests/0/headers/Authorization"]
