"""PEP 3333 as the server of the wrapped application: the exchange, child environs, subrequest."""

from __future__ import annotations

import contextvars
import gc
import io
import threading
import weakref
from contextvars import Context
from enum import Enum

import pytest
from werkzeug.exceptions import Forbidden, TooManyRequests

from batchwsgi import BatchMiddleware, Limits, Request, subrequest
from batchwsgi.model import Member
from batchwsgi.wsgi import Gateway, outer_request

from . import misbehaving
from .support import ask, batch, echo, environ, post

LIMITS = Limits(max_member_size=100_000)
GOOD = {"QUERY_STRING": "n=1", "REMOTE_ADDR": "192.0.2.7", "HTTP_AUTHORIZATION": "Bearer t"}


def good(number):
    return {**GOOD, "QUERY_STRING": f"n={number}", "planted": False}


# --- Misbehaving applications ------------------------------------------------------------------


@pytest.mark.parametrize("name", misbehaving.CASES)
def test_misbehaving(name, caplog):
    misbehaving.BODIES.clear()
    case = misbehaving.CASES[name]
    app = BatchMiddleware(misbehaving.application, limits=LIMITS)
    reply = batch(app, "/good?n=0", f"/{name}", "/good?n=2", headers={"Authorization": "Bearer t"})
    before, entry, after = reply.entries
    assert (before["body"], after["body"]) == (good(0), good(2))
    assert entry["status_code"] == case.status
    if case.status in ("500", "502"):
        assert entry["headers"] == {"Content-Type": "application/problem+json"}
        assert entry["body"]["type"] == f"urn:problem-type:batchwsgi:{case.body}"
        assert "secret" not in reply.body.decode()
    else:
        assert (entry["body"] or "") == case.body
    if case.status == "500":
        record = next(record for record in caplog.records if record.exc_info)
        assert record.getMessage() == f"GET /{name}: the application failed"
        assert "Set-Cookie" not in reply.headers
    for body in misbehaving.BODIES:
        assert body.closed == [threading.get_ident()]


def test_no_injected_header(caplog):
    reply = batch(BatchMiddleware(misbehaving.application), "/header_injection")
    (entry,) = reply.entries
    assert entry["headers"] == {"Content-Type": "text/plain", "X-Tab": "a\tb"}
    assert "Set-Cookie" not in reply.headers
    assert len([r for r in caplog.records if "header not passed on" in r.getMessage()]) == 8


def test_replaced_headers_are_gone():
    reply = batch(BatchMiddleware(misbehaving.application), "/start_response_again_with_exc_info")
    assert reply.entries[0]["headers"] == {"Content-Type": "text/plain"}
    assert "Set-Cookie" not in reply.headers


def test_cookies_of_a_reply_that_was_cut_off_stay():
    reply = batch(BatchMiddleware(misbehaving.application, limits=LIMITS), "/huge")
    assert reply.headers.getlist("Set-Cookie") == ["kept=1; Path=/"]


def test_an_exception_in_close_is_logged(caplog):
    batch(BatchMiddleware(misbehaving.application), "/raises_in_close")
    assert [record.getMessage() for record in caplog.records] == [
        "GET /raises_in_close: close() of the response failed"
    ]


@pytest.mark.parametrize("error", misbehaving.RERAISED)
@pytest.mark.parametrize("where", ["call", "iteration", "close", "write"])
def test_what_stops_a_worker_is_raised_again(error, where):
    sent = []
    bodies = []

    def app(request, start_response):
        sent.append(request["PATH_INFO"])
        write = start_response("200 OK", [])
        body = misbehaving.Body([b"x"])
        bodies.append(body)
        if where == "write":
            write(b"x")
        if where in ("call", "write"):
            raise error
        if where == "close":
            body.close_raises = error()
        if where == "iteration":
            body.chunks = _Raising(error)
        return body

    with pytest.raises(error):
        batch(BatchMiddleware(app), "/1", "/2")
    assert sent == ["/1"]
    if where in ("iteration", "close"):
        assert bodies[0].closed == [threading.get_ident()]


class _Raising:
    def __init__(self, error):
        self.error = error

    def __iter__(self):
        return self

    def __next__(self):
        raise self.error


def test_exc_info_is_not_kept():
    class Big:
        pass

    seen = []

    def app(request, start_response):
        try:
            big = Big()
            seen.append(weakref.ref(big))
            raise RuntimeError
        except RuntimeError:
            import sys

            start_response("500 Error", [], sys.exc_info())
        return []

    gc.disable()
    try:
        batch(BatchMiddleware(app), "/")
        assert seen[0]() is None
    finally:
        gc.enable()


def test_head_has_no_body_and_keeps_its_length(wrap):
    def app(request, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
        return [] if request["REQUEST_METHOD"] == "HEAD" else [b"body"]

    (entry,) = batch(wrap(app), {"method": "head", "uri": "/"}).entries
    assert (entry["body"], entry["headers"]["Content-Length"]) == (None, "4")

    def careless(request, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "50000000")])
        return [b"x" * 50_000_000]

    (entry,) = batch(BatchMiddleware(careless), {"method": "head", "uri": "/"}).entries
    assert (entry["status_code"], entry["body"]) == ("200", None)


def test_an_informational_status_has_no_body():
    def app(request, start_response):
        start_response("103 Early Hints", [])
        return [b"x"]

    (entry,) = batch(BatchMiddleware(app), "/").entries
    assert (entry["status_code"], entry["body"]) == ("103", None)


# --- The child environ -------------------------------------------------------------------------


def child(outer=None, *, item=None, options=None):
    """The environ that the application gets for one member."""
    seen = []

    def app(request, start_response):
        seen.append(dict(request))
        return echo(request, start_response)

    reply = post(
        BatchMiddleware(app, **(options or {})),
        {"requests": [item or {"uri": "/"}]},
        **(outer or {}),
    )
    assert reply.status == 200, reply.body
    return seen[0]


def test_everything_in_a_child_environ():
    made = child(
        item={"method": "post", "uri": "/é%2Cx?q=%2F", "body": [1], "headers": {"Accept": "a"}}
    )
    assert made.pop("wsgi.input").getvalue() == b"[1]"
    errors = made.pop("wsgi.errors")
    assert isinstance(errors, io.StringIO)
    assert made == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/é,x".encode().decode("latin-1"),
        "QUERY_STRING": "q=%2F",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "HTTP_HOST": "localhost",
        "HTTP_ACCEPT": "a",
        "CONTENT_LENGTH": "3",
        "CONTENT_TYPE": "application/json",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input_terminated": True,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "batchwsgi.request": Request(
            "POST",
            "/%C3%A9%2Cx?q=%2F",
            [("Accept", "a"), ("Content-Type", "application/json")],
            b"[1]",
        ),
    }


@pytest.mark.parametrize(
    ("item", "length", "content_type"),
    [
        ({"uri": "/"}, None, None),
        ({"uri": "/", "method": "delete"}, None, None),
        ({"uri": "/", "method": "post"}, "0", None),
        ({"uri": "/", "method": "put"}, "0", None),
        ({"uri": "/", "method": "patch"}, "0", None),
        ({"uri": "/", "method": "delete", "body": 1}, "1", "application/json"),
        ({"uri": "/", "method": "post", "args": {}}, "0", "application/x-www-form-urlencoded"),
        ({"uri": "/", "headers": {"Content-Type": "a/b"}}, None, "a/b"),
    ],
)
def test_length_and_type_are_there_where_a_single_request_has_them(item, length, content_type):
    made = child(item=item)
    assert made.get("CONTENT_LENGTH") == length
    assert made.get("CONTENT_TYPE") == content_type
    assert "HTTP_CONTENT_TYPE" not in made


INHERITED_HEADERS = """Authorization Cookie User-Agent Accept-Language Referer Origin Forwarded
X-Forwarded-For X-Forwarded-Proto X-Real-Ip X-Request-Id Traceparent Cache-Control Dnt Via
Sec-Fetch-Site Remote-User X-Tenant Date""".split()
DROPPED_HEADERS = """Accept-Encoding Connection Keep-Alive Proxy-Authenticate Proxy-Authorization
Proxy-Connection Te Trailer Trailers Transfer-Encoding Upgrade Http2-Settings Expect Range If-Match
If-None-Match If-Modified-Since If-Unmodified-Since If-Range If-Anything Prefer Proxy
Idempotency-Key X-Http-Method-Override X-Original-Url X-Rewrite-Url Content-Language
Content-Disposition Content-Md5""".split()


@pytest.mark.parametrize("name", INHERITED_HEADERS)
def test_header_inherited(name):
    assert child({"headers": {name: "v"}})[f"HTTP_{name.upper().replace('-', '_')}"] == "v"


@pytest.mark.parametrize("name", DROPPED_HEADERS)
def test_header_not_inherited(name):
    assert f"HTTP_{name.upper().replace('-', '_')}" not in child({"headers": {name: "v"}})


@pytest.mark.parametrize(
    ("accept", "inherited"),
    [
        ("application/json", True),
        ("*/*", True),
        ("text/html, application/json;q=0.9", True),
        ("application/x-ndjson", False),
        ("Application/X-NDJSON;q=0.5, */*", False),
        ("multipart/mixed", False),
    ],
)
def test_accept(accept, inherited):
    assert child({"headers": {"Accept": accept}}).get("HTTP_ACCEPT") == (
        accept if inherited else None
    )


INHERITED_KEYS = """SCRIPT_NAME SERVER_NAME SERVER_PORT SERVER_PROTOCOL SERVER_SOFTWARE SERVER_ADDR
REMOTE_ADDR REMOTE_PORT REMOTE_HOST REMOTE_USER AUTH_TYPE HTTPS REQUEST_SCHEME SSL_CLIENT_S_DN
SSL_PROTOCOL""".split()
ABSENT_KEYS = """wsgi.file_wrapper wsgi.early_hints gunicorn.socket werkzeug.socket werkzeug.request
bottle.request bottle.request.body webob.adhoc_attrs webob._parsed_cookies beaker.session
paste.testing repoze.who.identity mod_wsgi.process_group uwsgi.node SCRIPT_URL SCRIPT_URI
SCRIPT_FILENAME REDIRECT_STATUS PATH_TRANSLATED DOCUMENT_ROOT PATH HOME LANG GATEWAY_INTERFACE
myapp.tenant waitress.client_disconnected UWSGI_ROUTER flask.request django.request""".split()


@pytest.mark.parametrize("key", INHERITED_KEYS)
@pytest.mark.parametrize("value", ["/v", 7], ids=repr)
def test_key_inherited_as_text(key, value):
    if key == "SCRIPT_NAME" and value == 7:
        value = "/seven"
    assert child({key: value})[key] == str(value)


@pytest.mark.parametrize("key", INHERITED_KEYS)
def test_nobody_is_not_inherited_as_a_name(key):
    if not key.startswith(("SSL_", "SCRIPT_NAME")):
        assert key not in child({key: None})


@pytest.mark.parametrize("key", ABSENT_KEYS)
def test_key_absent(key):
    assert key not in child({key: "v"})


def test_what_the_operator_adds_is_inherited_as_it_is():
    tenant = object()
    options = {"environ_keys": ("myapp.tenant", "myapp.absent")}
    made = child({"myapp.tenant": tenant}, options=options)
    assert made["myapp.tenant"] is tenant
    assert "myapp.absent" not in made


@pytest.mark.parametrize("key", ["RAW_URI", "REQUEST_URI"])
def test_raw_target_is_rewritten(key):
    outer = {key: "/mnt/batch?x", "SCRIPT_NAME": "/mnt %é".encode().decode("latin-1")}
    made = child(outer, item={"uri": "/é?q=1"})
    assert made[key] == "/mnt%20%25%C3%A9/%C3%A9?q=1"
    assert made["SCRIPT_NAME"] == outer["SCRIPT_NAME"]
    assert not {"RAW_URI", "REQUEST_URI"} & child().keys()


def test_the_outer_environ_stays_as_it_is():
    request = environ(
        "POST", "/batch", b'{"requests":[{"uri":"/"}]}', {"Content-Type": "application/json"}
    )
    before = dict(request)
    BatchMiddleware(misbehaving.application)(request, lambda *_: None)
    assert request == before


def test_a_member_wins_over_what_it_inherits():
    made = child(
        {"headers": {"Authorization": "outer"}},
        item={"uri": "/", "headers": {"authorization": "own"}},
    )
    assert made["HTTP_AUTHORIZATION"] == "own"


# --- Context variables -------------------------------------------------------------------------

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def test_each_member_runs_in_its_own_copy_of_the_context():
    def app(request, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        before = VARIABLE.get()
        VARIABLE.set(request["PATH_INFO"])
        yield before.encode()
        yield VARIABLE.get().encode()

    def run():
        VARIABLE.set("outer")
        entries = batch(BatchMiddleware(app), "/1", "/2").entries
        assert [entry["body"] for entry in entries] == ["outer/1", "outer/2"]
        assert VARIABLE.get() == "outer"

    contextvars.copy_context().run(run)


# --- authorize ---------------------------------------------------------------------------------


def test_authorize_sees_the_environ_that_the_application_gets():
    def authorize(request):
        assert request["wsgi.input"].read() == b"a=1"
        request["myapp.user"] = request["HTTP_AUTHORIZATION"]

    options = {"authorize": authorize}
    item = {"method": "post", "uri": "/", "args": {"a": 1}, "headers": {"Authorization": "t"}}
    made = child(item=item, options=options)
    assert made["myapp.user"] == "t"
    assert made["wsgi.input"].getvalue() == b"a=1"


def test_authorize_refuses_one_member():
    called = []

    def authorize(request):
        if request["PATH_INFO"] == "/admin":
            raise Forbidden("not through a batch")
        if request["PATH_INFO"] == "/often":
            raise TooManyRequests(retry_after=7)

    def app(request, start_response):
        called.append(request["PATH_INFO"])
        return echo(request, start_response)

    entries = batch(
        BatchMiddleware(app, authorize=authorize), "/a", "/admin", "/often", "/b"
    ).entries
    assert [entry["status_code"] for entry in entries] == ["200", "403", "429", "200"]
    assert "not through a batch" in entries[1]["body"]
    assert entries[2]["headers"]["Retry-After"] == "7"
    assert called == ["/a", "/b"]


@pytest.mark.parametrize("verdict", [False, True, 0, "", "no"], ids=repr)
def test_a_verdict_of_authorize_is_no_permission(verdict, caplog):
    called = []
    app = BatchMiddleware(lambda *_: called.append(1), authorize=lambda request: verdict)
    (entry,) = batch(app, "/").entries
    assert entry["body"]["type"].endswith(":application-error")
    assert not called
    assert f"authorize returned a {type(verdict).__name__}" in caplog.text


def test_authorize_holds_for_members_of_an_endpoint_outside():
    def authorize(request):
        if request["PATH_INFO"] == "/admin":
            raise Forbidden
        request["wsgi.input"].read()

    inner = BatchMiddleware(echo, "/inner", authorize=authorize)
    outer = BatchMiddleware(inner)
    item = {"method": "post", "uri": "/open", "args": {"a": 1}}
    entries = batch(outer, "/admin", item).entries
    assert [entry["status_code"] for entry in entries] == ["403", "200"]
    assert entries[1]["body"]["body"] == "a=1"
    assert ask(inner, environ(path="/admin")).status == 200  # a request alone is not its affair


def test_authorize_holds_for_a_sub_request_through_the_middleware():
    def authorize(request):
        if request["PATH_INFO"] == "/admin":
            raise Forbidden

    app = BatchMiddleware(echo, authorize=authorize)
    assert subrequest(app, environ(), "GET", "/admin").status == 403
    assert subrequest(app, environ(), "GET", "/other").status == 200
    assert subrequest(echo, environ(), "GET", "/admin").status == 200


def test_a_refusal_that_fails_is_not_executed():
    class Odd(Forbidden):
        def get_response(self, *args, **options):
            raise RuntimeError

    def authorize(request):
        raise Odd

    called = []
    (entry,) = batch(BatchMiddleware(lambda *_: called.append(1), authorize=authorize), "/").entries
    assert entry["body"]["title"].startswith("Not executed")
    assert not called


def test_authorize_leaves_the_body_that_there_is():
    """That of a request from inside, or what a middleware between two endpoints made of it."""

    def reading(request):
        request["wsgi.input"].read()

    def fan(request, start_response):
        if request["PATH_INFO"] != "/fan":
            return echo(request, start_response)
        own = {"PATH_INFO": "/echo", "CONTENT_LENGTH": "4", "wsgi.input": io.BytesIO(b"view")}
        return app({**request, **own}, start_response)

    app = BatchMiddleware(fan, authorize=reading)
    item = {"method": "post", "uri": "/fan", "body": "of the client"}
    assert batch(app, item).entries[0]["body"]["body"] == "view"

    class Upper:
        """A stream of another kind."""

        def __init__(self, stream):
            self.stream = stream

        def read(self, *size):
            return self.stream.read(*size).upper()

    inner = BatchMiddleware(echo, "/inner", authorize=reading)

    def between(request, start_response):
        request["wsgi.input"] = Upper(request["wsgi.input"])
        return inner(request, start_response)

    assert batch(BatchMiddleware(between), item).entries[0]["body"]["body"] == '"OF THE CLIENT"'


def test_a_close_that_cannot_be_read(caplog):
    class Odd:
        def __iter__(self):
            return iter([b"odd"])

        @property
        def close(self):
            raise RuntimeError

    def app(request, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Odd()

    entries = batch(BatchMiddleware(app), "/a", "/b").entries
    assert [entry["body"] for entry in entries] == ["odd", "odd"]
    assert "close() of the response failed" in caplog.text


def test_a_write_of_another_exchange_ends_only_this_one():
    writes = []

    def app(request, start_response):
        writes.append(start_response("200 OK", [("Content-Type", "text/plain")]))
        if request["PATH_INFO"] == "/b":
            while True:
                writes[0](b"x" * 50_000)
        return [b"a"]

    entries = batch(BatchMiddleware(app, limits=LIMITS), "/a", "/b", "/a").entries
    assert [entry["status_code"] for entry in entries] == ["200", "502", "200"]


def test_another_exception_of_authorize_is_an_application_error(caplog):
    def authorize(request):
        raise KeyError("secret")

    called = []
    (entry,) = batch(BatchMiddleware(lambda *_: called.append(1), authorize=authorize), "/").entries
    assert entry["body"]["type"].endswith(":application-error")
    assert not called
    assert "KeyError: 'secret'" in caplog.text


# --- subrequest --------------------------------------------------------------------------------


def test_subrequest():
    outer = environ("POST", "/view", b"outer body", {"Authorization": "t", "Cookie": "a=1"})
    reply = subrequest(
        echo, outer, "put", "/é?q", headers={"Content-Type": "text/plain"}, body=b"own"
    )
    assert (reply.status, reply.reason) == (200, "OK")
    assert reply.headers["content-type"] == "application/json"
    seen = reply.json()
    assert seen["REQUEST_METHOD"] == "PUT"
    assert seen["PATH_INFO"] == "/é".encode().decode("latin-1")
    assert seen["QUERY_STRING"] == "q"
    assert seen["CONTENT_LENGTH"] == "3"
    assert seen["body"] == "own"
    assert seen["HTTP_AUTHORIZATION"] == "t"
    assert seen["HTTP_COOKIE"] == "a=1"
    assert outer["wsgi.input"].read() == b"outer body"


def test_subrequest_joins_repeated_headers():
    pairs = [("X-A", "1"), ("Cookie", "a=1"), ("x-a", "2"), ("cookie", "b=2"), ("Host", "other")]
    seen = subrequest(echo, environ(), "GET", "/", headers=pairs).json()
    assert seen["HTTP_X_A"] == "1, 2"
    assert seen["HTTP_COOKIE"] == "a=1; b=2"
    assert seen["HTTP_HOST"] == "other"


def test_subrequest_runs_in_an_empty_context():
    def app(request, start_response):
        start_response("200 OK", [])
        return [VARIABLE.get().encode()]

    def view():
        VARIABLE.set("outer")
        return subrequest(app, environ(), "GET", "/").body

    assert contextvars.copy_context().run(view) == b"unset"


def test_subrequest_of_a_failing_application(caplog):
    def app(request, start_response):
        raise RuntimeError("secret")

    reply = subrequest(app, environ(), "GET", "/x")
    assert reply.status == 500
    assert reply.json()["type"] == "urn:problem-type:batchwsgi:application-error"
    assert "GET /x: the application failed" in caplog.text


def test_subrequest_has_no_limit():
    def app(request, start_response):
        start_response("200 OK", [])
        return [b"x" * 20_000_000]

    assert len(subrequest(app, environ(), "GET", "/").body) == 20_000_000


def test_subrequest_needs_no_allowed_header_or_path():
    made = subrequest(echo, environ(), "GET", "/a%2Fb/batch", headers={"X-Forwarded-For": "::1"})
    assert made.json()["PATH_INFO"] == "/a/b/batch"
    assert made.json()["HTTP_X_FORWARDED_FOR"] == "::1"


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GE T", "/", {}),
        ("CONNECT", "/", {}),
        ("GET", "x", {}),
        ("GET", "http://evil.test/", {}),
        ("GET", "//evil.test/", {}),
        ("GET", "/\r\n", {}),
        ("GET", "/#x", {}),
        ("GET", "/%zz", {}),
        ("GET", "/", {"a b": "c"}),
        ("GET", "/", [("a", "b\n")]),
    ],
)
def test_subrequest_checks_the_form(method, target, headers):
    called = []
    with pytest.raises(ValueError):
        subrequest(lambda *_: called.append(1), environ(), method, target, headers=headers)
    assert not called


def test_response_that_is_not_json():
    def app(request, start_response):
        start_response("200 OK", [])
        return [b"<html>"]

    with pytest.raises(ValueError, match="Expecting value"):
        subrequest(app, environ(), "GET", "/").json()


class Renamed(str):
    """A name that says something else of itself."""

    def lower(self):
        return "set-cookie"


class Text(str, Enum):  # noqa: UP042 # its str() is another text
    NAME = "X-Name"


def test_names_of_odd_types_change_nothing_for_others():
    def app(request, start_response):
        name = names[request["PATH_INFO"]]
        start_response("200 OK", [(name, "1")])
        return []

    names = {"/odd": Renamed("X-Odd"), "/enum": Text.NAME, "/plain": "X-Odd"}
    outer = environ()
    gateway = Gateway(app, outer, outer_request(outer), Context())
    for path, name in [("/odd", "X-Odd"), ("/enum", "X-Name"), ("/plain", "X-Odd")]:
        response = gateway.send(Request("GET", path))
        assert response.fields == [(name, "1")]
        assert not response.names.sets_cookies


# --- What is not shown --------------------------------------------------------------------------


def test_the_repr_of_a_request_and_of_a_response():
    request = Request("POST", "/user?token=secret", [("Authorization", "secret")], b"secret")
    assert repr(request) == "<Request POST /user>"
    found = {}

    def app(request, start_response):
        found.update(request)
        return echo(request, start_response)

    item = {"method": "post", "uri": "/x?secret", "headers": {"Authorization": "secret"}}
    batch(BatchMiddleware(app), {**item, "args": {"a": "secret"}})
    assert repr(found["batchwsgi.request"]) == "<Request POST /x>"
    response = subrequest(echo, environ(), "GET", "/", headers={"Authorization": "secret"})
    assert repr(response) == "<Response 200 OK>"
    assert repr(Member(0, request, {"secret": 1})) == "<Member 0: <Request POST /user>>"
    outer = outer_request(environ(headers={"Cookie": "secret"}))
    assert repr(outer) == "<OuterRequest at localhost>"


def test_no_log_line_has_the_value_of_a_header(caplog):
    caplog.set_level("DEBUG")

    def app(request, start_response):
        start_response("200 OK", [("X-Secret", "s3cr3t\x01"), ("Set-Cookie", "a=s3cr3t\n")])
        return []

    headers = {"Authorization": "s3cr3t", "Cookie": "s3cr3t"}
    item = {"uri": "/", "headers": {"Authorization": "s3cr3t"}}
    app = BatchMiddleware(app, authorize=lambda environ: environ)
    batch(app, item, headers=headers)
    assert subrequest(app.app, environ(headers=headers), "GET", "/").status == 200
    assert "'X-Secret'" in caplog.text
    assert "authorize returned a dict" in caplog.text
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize("name", ["X-Accel-Redirect", "x-sendfile", "X-LIGHTTPD-send-file"])
def test_a_file_that_the_server_would_send_is_no_reply(name, caplog):
    caplog.set_level("INFO", "batchwsgi.access")

    def app(request, start_response):
        fields = [(name, "/internal/path"), ("Set-Cookie", "a=1; Path=/")]
        start_response("200 OK", [*fields, ("Content-Type", "text/plain")])
        return []

    reply = batch(BatchMiddleware(app), "/", {"method": "head", "uri": "/"})
    for entry in reply.entries:
        assert entry["status_code"] == "502"
        assert entry["body"]["type"].endswith(":offloaded")
        assert entry["headers"] == {"Content-Type": "application/problem+json"}
    assert b"internal" not in reply.body
    assert reply.headers.getlist("Set-Cookie") == ["a=1; Path=/"]
    assert '"GET /" 200 0' in caplog.text  # what the application said
    response = subrequest(app, environ(), "GET", "/")
    assert (response.status, response.headers[name]) == (200, "/internal/path")


def test_what_is_for_a_proxy_is_not_shown():
    def app(request, start_response):
        fields = [("X-Accel-Buffering", "no"), ("x-accel-expires", "0"), ("X-Accelerate", "1")]
        start_response("200 OK", fields)
        return []

    (entry,) = batch(BatchMiddleware(app), "/").entries
    assert (entry["status_code"], entry["headers"]) == ("200", {"X-Accelerate": "1"})


@pytest.mark.parametrize("key", ["HTTP_X_HTTP_METHOD", "HTTP_X_METHOD_OVERRIDE"])
def test_no_override_of_the_method_is_inherited(key):
    assert key not in child({key: "DELETE"})


@pytest.mark.parametrize("key", ["AUTH_TYPE", "REMOTE_USER"])
def test_where_the_server_has_checked_nobody_checks_again(key):
    item = {"uri": "/", "headers": {"Authorization": "Basic x"}}
    reply = batch(BatchMiddleware(echo), item, **{key: "ada"})
    assert reply.pointers == ["/requests/0/headers/Authorization"]
    assert batch(BatchMiddleware(echo), item, **{key: ""}).status == 200
