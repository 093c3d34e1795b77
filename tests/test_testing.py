"""`batchwsgi.testing`: it finds what differs and nothing else, and says it well."""

from __future__ import annotations

import inspect
import json
import re
import threading
import weakref
from functools import partial
from http import HTTPStatus

import pytest
from werkzeug.wrappers import Request, Response

import batchwsgi.testing
from batchwsgi import BatchMiddleware, Limits, demo
from batchwsgi.dialects import HTTPMultipart
from batchwsgi.model import Problem
from batchwsgi.testing import assert_parity, post_batch
from batchwsgi.testing.cookies import cookie_of
from batchwsgi.wsgi import MARK

from .support import echo

PLAIN = ("Content-Type", "text/plain; charset=utf-8")


def fresh(app):
    """A factory of applications that do what `app` does."""
    return lambda: partial(app)


def demo_app():
    return demo.Request.application(demo.Demo().respond)


def echo_app():
    """It answers with all of its environ that is text, in order, and the body that it read."""

    def app(environ, start_response):
        (body,) = echo(environ, start_response)
        return [json.dumps(json.loads(body), sort_keys=True).encode()]

    return app


def answering(status="200 OK", headers=(PLAIN,), body=b"hello"):
    """A factory of an application with one answer."""

    def app(environ, start_response):
        start_response(status, [*headers])
        return [body]

    return fresh(app)


def differing(alone, in_batch):
    """A factory of an application with one answer alone and another in a batch."""

    def app(environ, start_response):
        status, headers, body = in_batch if MARK in environ else alone
        start_response(status, [*headers])
        return [body]

    return fresh(app)


def only_at(path, make_app):
    """A factory of an application that has that one's answers at one path alone."""

    def app(environ, start_response):
        there = environ["PATH_INFO"] == path
        return (make_app if there else answering())()(environ, start_response)

    return fresh(app)


def failure(*args, **options):
    """What `assert_parity` says."""
    with pytest.raises(AssertionError) as raised:
        assert_parity(*args, **options)
    return str(raised.value)


# --- Nothing differs ---------------------------------------------------------------------------

TEXT = {"Content-Type": "text/plain; charset=iso-8859-1"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MERGE = {"Content-Type": "application/merge-patch+json; charset=utf-8"}

ITEMS = {
    "get": {"uri": "/a"},
    "empty query": {"uri": "/a?"},
    "methods": {"method": "PropFind", "uri": "/"},
    "post without a body": {"method": "post", "uri": "/"},
    "delete": {"method": "DELETE", "uri": "/"},
    "path": {"uri": "/J\xfcrgen \u4e09/100%25/%2541/%C3%A9;a=1/(b)!*'$&+,=:@|[]~-._/\"<>^`{}"},
    "query": {"uri": '/?caf\xe9 "\u4e09"<>^`{}[]|%C3%A9&a=1%26+2&&=/?:@!$\'()*,;~'},
    "args": {
        "uri": "/",
        "args": {"q": "caf\xe9 +&=~*\u4e09", "n": [1, -2.5, 1e30, True, None, ""]},
    },
    "args behind a query": {"uri": "/?a=1", "args": {"b": 2}},
    "args behind &": {"uri": "/?a=1&", "args": {"b": False}},
    "args behind ?": {"uri": "/?", "args": {"b": 10**30}},
    "no args": {"uri": "/", "args": {}},
    "args of null": {"uri": "/", "args": {"a": None, "b": []}},
    "form": {
        "method": "post",
        "uri": "/?a",
        "args": {"name": "Zo\xeb & S\xf6hne", "tag": ["a", 1]},
    },
    "empty form": {"method": "put", "uri": "/", "args": {}},
    "form by type": {"method": "patch", "uri": "/", "args": {"a": 1}, "headers": FORM},
    "args as JSON": {"method": "post", "uri": "/", "args": {"a": [None, {}]}, "headers": MERGE},
    "args of a delete": {"method": "delete", "uri": "/", "args": {"a": 1}},
    "JSON": {"method": "post", "uri": "/", "body": {"\xe9": [1.5, "\U0001f600", None]}},
    "null": {"method": "post", "uri": "/", "body": None},
    "JSON by type": {"method": "patch", "uri": "/", "body": [1], "headers": MERGE},
    "body and args": {"method": "post", "uri": "/", "body": 1, "args": {"a": 2}},
    "body of a get": {"uri": "/", "body": "x"},
    "text": {"method": "put", "uri": "/", "body": "caf\xe9", "headers": TEXT},
    "form as text": {"method": "post", "uri": "/", "body": "a=1&b=2", "headers": FORM},
    "xml": {
        "method": "put",
        "uri": "/",
        "body": "<a/>",
        "headers": {"content-type": "image/svg+xml"},
    },
    "base64": {
        "method": "put",
        "uri": "/",
        "body": "MTIz",
        "headers": {"Content-Type": "image/png"},
    },
    "no such charset": {
        "method": "put",
        "uri": "/",
        "body": [],
        "headers": {"Content-Type": "application/json; charset=nonsense"},
    },
    "bytes": {"method": "put", "uri": "/", "body": b"123"},
    "bytes of a type": {
        "method": "put",
        "uri": "/",
        "body": b"1",
        "headers": {"Content-Type": "x/y"},
    },
    "bytes of text": {
        "method": "put",
        "uri": "/",
        "body": "caf\xe9".encode("latin-1"),
        "headers": TEXT,
    },
    "bytes of JSON": {
        "method": "put",
        "uri": "/",
        "body": b'["{$responses.x"]',
        "headers": {"Content-Type": "application/json"},
    },
    "no bytes": {"method": "put", "uri": "/", "body": b""},
    "headers": {
        "uri": "/",
        "headers": {
            "accept-language": " de ",
            "If-None-Match": '"caf\xe9"',
            "Authorization": "B own",
        },
    },
    "dollars": {
        "method": "post",
        "uri": "/{$$responses.a}",
        "body": ["{$$$responses.{$$responses."],
    },
    "dollars of bytes": {
        "method": "post",
        "uri": "/",
        "body": b"{$responses.a.body} {$$responses.",
        "headers": {"Content-Type": "text/plain"},
    },
    "id": {"id": "a", "uri": "/"},
}
OUTER = {
    "Accept": "text/html",
    "Accept-Language": "fr",
    "Authorization": "Basic outer",
    "Cookie": "a=1; b=2",
    "User-Agent": "tests",
    "X-Forwarded-For": "192.0.2.1",
    "Host": "shop.example:8080",
}


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS.keys())
@pytest.mark.parametrize("headers", [{}, OUTER], ids=["", "headers"])
def test_the_request_alone_is_the_one_that_the_item_means(item, headers):
    """The echo has every key of the environ that is text: header, path, query, length, client."""
    assert_parity(echo_app, [item], headers=headers)


@pytest.mark.parametrize("threads", [0, 4])
@pytest.mark.parametrize("validate", [True, False])
def test_all_in_one_batch(threads, validate):
    assert_parity(
        echo_app, ITEMS.values(), headers=OUTER.items(), threads=threads, validate=validate
    )


def test_the_echo_has_what_it_is_to_show():
    (reply,) = post_batch(BatchMiddleware(echo), [ITEMS["form"]], headers=OUTER)
    seen = reply.json()
    assert (seen["HTTP_HOST"], seen["HTTP_COOKIE"]) == ("shop.example:8080", "a=1; b=2")
    assert (seen["CONTENT_LENGTH"], seen["REMOTE_ADDR"]) == ("40", "127.0.0.1")
    assert seen["REQUEST_URI"] == seen["RAW_URI"] == "/?a"


def test_the_environ_is_a_servers():
    """Whether threads are used is told alike; a request alone has no mark of a member."""
    seen = []

    def app(environ, start_response):
        seen.append((MARK in environ, environ["wsgi.multithread"], environ["wsgi.input"].read(9)))
        return answering()()(environ, start_response)

    item = {"method": "post", "uri": "/", "body": 1}
    assert_parity(fresh(app), [item])
    assert_parity(fresh(app), [item], threads=2)
    assert seen == [
        (in_batch, multithread, b"1") for multithread in (False, True) for in_batch in (True, False)
    ]


BODIES = {
    "JSON": ("application/json", b' {"a":\t[1.10, 1e5, "\\u00e9\\ud800"]}\r\n'),
    "JSON of UTF-8": ("application/problem+json", '{"title": "\xe9\u4e09"}'.encode()),
    "long integer": ("application/json", b"[" + b"9" * 5000 + b"]"),
    "deep": ("application/json", b"[" * 100 + b"]" * 100),
    "empty array": ("application/json", b"[ ]"),
    "null": ("application/json", b"null"),
    "null with spaces": ("application/json", b" null\n"),
    "a string": ("application/json", b'"}],["'),
    "not JSON": ("application/json", b"{'a': 1}"),
    "not JSON, not UTF-8": ("application/json", b"{\xff}"),
    "text": ("text/plain", "caf\xe9\r\n\0\x1b\u2028".encode()),
    "latin-1": ("text/html; charset=iso-8859-1", "caf\xe9".encode("latin-1")),
    "latin-1 that could be UTF-8": ("text/html; charset=latin-1", b"caf\xc3\xa9"),
    "byte order mark": ("text/csv", b"\xef\xbb\xbfa,b"),
    "UTF-16, big end first": ("text/plain; charset=utf-16", b"\xfe\xff\x00a\x00\xe9"),
    "Shift JIS": ("text/plain; charset=shift_jis", "\u65e5\u672c".encode("shift_jis")),
    "no such charset": ("text/plain; charset=nonsense", b"caf\xc3\xa9"),
    "wrong charset": ("text/plain; charset=utf-8", b"caf\xe9"),
    "image": ("image/png", bytes(range(256))),
    "empty": ("text/plain", b""),
}


@pytest.mark.parametrize(("content_type", "body"), BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("has_length", [True, False])
def test_bodies_are_compared_by_their_bytes(content_type, body, has_length):
    headers = [("Content-Type", content_type)]
    if has_length:
        headers.append(("Content-Length", str(len(body))))
    make_app = answering(headers=headers, body=body)
    assert_parity(make_app, [{"uri": "/"}, {"method": "head", "uri": "/"}])
    reply, _ = post_batch(
        BatchMiddleware(make_app()), [{"uri": "/"}, {"method": "head", "uri": "/"}]
    )
    if content_type.endswith("utf-16"):  # a batch has the text, and not how it was written
        assert reply.body.decode("utf-16") == body.decode("utf-16")
    else:
        assert reply.body == (b"" if body == b"null" and not has_length else body)


STATUSES = [
    "200 OK",
    "201 Created",
    "302 Found",
    "404 ",
    "418 I'm a teapot",
    "599 Own",
    "500 Oh no",
]


@pytest.mark.parametrize("status", STATUSES)
def test_statuses(status):
    assert_parity(answering(status), [{"uri": "/"}])
    (reply,) = post_batch(BatchMiddleware(answering(status)()), [{"uri": "/"}])
    code = int(status[:3])
    assert reply.status == code
    assert reply.reason == (HTTPStatus(code).phrase if code != 599 else "")
    assert reply.problem is None


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_body_that_no_server_sends_is_not_compared(status):
    assert_parity(answering(status, []), [{"uri": "/"}])


def test_headers_of_a_connection_and_for_a_proxy_are_not_compared():
    names = "Connection Keep-Alive Transfer-Encoding TE Trailer Upgrade Proxy-Authenticate".split()
    headers = [PLAIN, *((name, "x") for name in names), ("X-Accel-Buffering", "no")]
    assert_parity(answering(headers=headers), [{"uri": "/"}])
    headers = [PLAIN, ("X-Seen", "a"), ("Vary", "x"), ("X-Seen", "b"), ("X-Latin", "caf\xe9")]
    assert_parity(answering(headers=headers), [{"uri": "/"}])


def test_what_the_server_cuts_is_not_compared():
    headers = [PLAIN, ("Content-Length", "3")]
    assert_parity(answering(headers=headers), [{"uri": "/"}])


def test_written_and_closed():
    closed = []

    class Body(list):
        def close(self):
            closed.append(True)
            raise OSError("too late to matter")

    def app(environ, start_response):
        write = start_response("200 OK", [PLAIN])
        write(b"one ")
        return Body([b"", b"two"])

    assert_parity(fresh(app), [{"uri": "/"}])
    assert closed == [True, True]


def test_a_second_start_of_the_response():
    """Before the first byte, an application may begin anew; after it, the server raises."""

    def app(environ, start_response):
        write = start_response("200 OK", [PLAIN])
        if environ["PATH_INFO"] == "/late":
            write(b"too late")
        try:
            raise LookupError("no such thing")
        except LookupError as error:
            start_response("404 Not Found", [PLAIN], (type(error), error, error.__traceback__))
        return [b"nothing"]

    assert_parity(fresh(app), [{"uri": "/"}, {"uri": "/late"}])


def test_an_application_that_raises_is_a_500_alone():
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/error":
            raise LookupError("always")
        if environ["PATH_INFO"] == "/stream":
            start_response("200 OK", [PLAIN, ("Set-Cookie", "lost=1")])
            return (1 // 0 for _ in "x")
        return answering()()(environ, start_response)

    make_app = fresh(app)
    items = [{"uri": "/error"}, {"uri": "/"}, {"uri": "/stream"}]
    assert_parity(make_app, items)
    assert_parity(make_app, items, validate=False)


@pytest.mark.parametrize("threads", [0, 4])
def test_the_demo(threads):
    assert_parity(
        demo_app,
        [
            {"method": "post", "uri": "/login", "args": {"name": "ada"}},
            *json.loads(demo.BATCH)["requests"],
            {"method": "head", "uri": "/about"},
        ],
        threads=threads,
    )


# --- Cookies -----------------------------------------------------------------------------------


class CookieApp:
    """`?set=` sets cookies, as lines; the answer is what cookies were sent, by name."""

    def __call__(self, environ, start_response):
        request = Request(environ)
        fields = [("Set-Cookie", field) for field in request.args.getlist("set")]
        start_response("200 OK", [PLAIN, *fields])
        return [request.headers.get("Cookie", "none").encode()]


def setting(*fields, path="/shop/login"):
    return {"uri": path, "args": {"set": [*fields]}}


COOKIES = {
    "kept": "a=1",
    "path": "a=1; Path=/shop",
    "another path": "a=1; path=/other",
    "path of a folder": "a=1; Path=/shop/",
    "relative path": "a=1; Path=shop",
    "flags": "a=1; Path=/; HttpOnly; SameSite=Lax; Secure",
    "domain": "a=1; Domain=.Example.org; Path=/",
    "max-age": "a=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    "deleted": "a=1; Max-Age=0; Path=/",
    "deleted by date": "a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/",
    "no such time": "a=1; Max-Age=x; Expires=never; Path=/",
    "a year of many digits": f"a=1; Expires=Thu, 01 Jan {'9' * 20} 00:00:00 GMT",
    "no value": "a=; Path=/",
    "no name": "=1; Path=/",
    "neither": "a; Path=/",
    "quoted": 'a="x y\\"z"; Path=/',
    "long": f"a={'x' * 4096}; Path=/",
    "of the host": "__Host-a=1; Secure; Path=/",
    "not of the host": "__Host-a=1; Secure",
    "secured": "__Secure-a=1; Secure; Path=/",
    "not secured": "__secure-a=1; Path=/",
}


@pytest.mark.parametrize("field", COOKIES.values(), ids=COOKIES.keys())
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("own", ["", "b=2; a=own; other=3"])
def test_a_client_keeps_cookies_as_a_batch_does(field, scheme, own):
    headers = {"X-Forwarded-Proto": scheme, **({"Cookie": own} if own else {})}
    after = ["/shop/basket", "/shop", "/shopping", "/", "/other/x"]
    items = [setting(field, "b=before"), *({"uri": uri} for uri in after)]
    limits = Limits(max_uri_length=9000)
    assert_parity(CookieApp, items, headers=headers, limits=limits)


def test_cookies_of_several_requests():
    items = [
        setting("a=1; Path=/", "b=2; Path=/", "c=3; Path=/shop"),
        setting("b=4; Path=/; Max-Age=0", "c=5; Path=/shop/deep"),
        {"uri": "/shop/deep/x"},
        setting("b=6; Path=/", "a=7; Path=/", path="/"),
        {"uri": "/shop/deep/x"},
        setting("b=; Max-Age=0"),
    ]
    assert_parity(CookieApp, items, headers={"Cookie": "b=own"})


def test_secure_cookies_are_sent_by_https_alone():
    """Otherwise a login would be none, in either run."""
    sent = []

    class App(CookieApp):
        def __call__(self, environ, start_response):
            sent.append(environ.get("HTTP_COOKIE"))
            return super().__call__(environ, start_response)

    items = [setting("sid=1; Secure; Path=/"), {"uri": "/"}]
    assert_parity(App, items)
    assert sent == [None, None, None, None]
    sent.clear()
    assert_parity(App, items, headers={"x-forwarded-proto": "HTTPS, http"})
    assert sent == [None, "sid=1", None, "sid=1"]


def test_cookies_that_are_set_are_compared_without_their_values():
    fields = "sid=1; HttpOnly", "sid=2; httponly"
    assert_parity(
        differing(*(("200 OK", [PLAIN, ("Set-Cookie", field)], b"") for field in fields)),
        [{"uri": "/"}],
    )


@pytest.mark.parametrize(
    ("alone", "in_batch", "told"),
    [
        ("a=1", "b=1", ["a; Path=/: set alone, by requests[1],", "b; Path=/: set in the batch,"]),
        ("a=1; Path=/x", "a=1", ["a; Path=/x: set alone", "a; Path=/: set in the batch"]),
        ("a=1; HttpOnly", "a=1", ["a; Path=/; httponly: set alone"]),
        ("a=1; SameSite=Lax", "a=1; SameSite=None", ["samesite=Lax: set", "samesite=None: set"]),
        ("a=1; Domain=x.org", "a=1", ["a; Path=/; Domain=x.org: set alone"]),
        ("a=1; Max-Age=60", "a=1", ["a; Path=/; max-age: set alone"]),
        ("a=1; Max-Age=60", "a=1; Max-Age=0", ["a; Path=/; deleted: set in the batch"]),
        ("a=1; Secure; Expires=x", "a=1", ["a; Path=/; expires; secure: set alone"]),
    ],
)
def test_how_cookies_differ(alone, in_batch, told):
    make_app = differing(
        *(("200 OK", [PLAIN, ("Set-Cookie", field)], b"") for field in (alone, in_batch))
    )
    message = failure(only_at("/", make_app), [{"uri": "/other"}, {"uri": "/"}])
    assert message.startswith("Parity fails for the cookies that are set:\n\ncookies\n  a; Path=/")
    for words in told:
        assert words in message


def test_a_cookie_of_a_parser_is_not_ours():
    """What the client reads of a field, by RFC 6265 §5.2."""
    cookie = cookie_of(" a = b=c ; PATH = /x ;;Domain=.X.org; path=/y", "/")
    assert cookie[:4] == ("a", "b=c", "x.org", "/y")
    assert cookie_of("a=1", "/a/b").path == "/a"
    assert cookie_of("a=1", "/a").path == "/"


# --- Options and arguments ---------------------------------------------------------------------


def test_options_go_to_the_middleware():
    items = [{"uri": "/a%2Fb", "headers": {"X-Own": "1"}}, {"uri": "/"}]
    options = {"path": "/caf\xe9 %41?", "encoded_slashes": True, "member_headers": ["X-Own"]}
    assert_parity(echo_app, items, limits=Limits(max_requests=1), **options)
    assert "requests/0/headers/X-Own" in failure(echo_app, items, encoded_slashes=True)
    for switch in ("timing", "console"):  # `Server-Timing` is the endpoint's
        assert_parity(answering(), [{"uri": "/"}], **{switch: True})


def test_the_options_are_those_of_the_middleware():
    source = inspect.getsource(batchwsgi.testing)
    named = re.search(r"class Options.*?\n\n\n", source, re.DOTALL)[0]
    options = set(re.findall(r"^        (\w+): ", named, re.MULTILINE))
    assert options | {"threads"} == {"path", *BatchMiddleware.__init__.__kwdefaults__}


def test_max_requests_fits_itself():
    assert_parity(answering(), [{"uri": "/"}] * 30)
    message = failure(answering(), [{"uri": "/"}] * 30, limits=Limits(max_uri_length=1, deadline=0))
    assert "requests[29]" not in message
    assert "\n\n… and 22 more requests: 8, 9, 10, " in message


def test_limits_are_told():
    limits = Limits(max_member_size=100)
    message = failure(answering(body=b"x" * 100), [{"uri": "/"}], limits=limits)
    assert "status: 200 alone, 502 in the batch (Executed: the reply passed a limit" in message
    assert "(Limits.max_member_size)" in message
    assert "header" not in message  # the endpoint's own are not worth telling


def test_headers_that_may_differ():
    replies = (("200 OK", [PLAIN, ("Date", x), ("X-Id", x)], b"") for x in "12")
    make_app = differing(*replies)
    assert "Date" not in failure(make_app, [{"uri": "/"}])
    message = failure(make_app, [{"uri": "/"}], ignore_headers=["x-ID"])
    assert "header Date: '1' alone, '2' in the batch" in message
    assert_parity(make_app, [{"uri": "/"}], ignore_headers=["x-ID", "DATE"])
    missing = differing(("200 OK", [PLAIN], b""), ("200 OK", [PLAIN, ("Expires", "0")], b""))
    assert_parity(missing, [{"uri": "/"}])


def test_normalized_bodies():
    replies = (
        ("200 OK", [PLAIN, ("Content-Length", str(len(body)))], body)
        for body in (b"token=123", b"token=4567")
    )
    make_app = differing(*replies)
    message = failure(make_app, [{"uri": "/"}])
    assert "header Content-Length: '9' alone, '10' in the batch" in message
    assert "body differs at character 6:" in message
    assert_parity(make_app, [{"uri": "/"}], normalize=lambda body: body.rstrip(b"0123456789"))
    assert "body differs" in failure(make_app, [{"uri": "/"}], normalize=bytes.upper)


def test_the_etag_of_a_body_that_differs_is_not_compared():
    def etag(value, body):
        return "200 OK", [PLAIN, ("etag", value)], body

    make_app = differing(etag('"1"', b"a1"), etag('"2"', b"a2"))
    assert_parity(make_app, [{"uri": "/"}], normalize=lambda body: body[:1])
    assert "etag" not in failure(make_app, [{"uri": "/"}])
    missing = differing(etag('"1"', b"a1"), ("200 OK", [PLAIN], b"a2"))
    assert "header etag: " in failure(missing, [{"uri": "/"}], normalize=lambda body: body[:1])
    make_app = differing(etag('"1"', b"a"), etag('"2"', b"a"))
    assert "header etag: " in failure(make_app, [{"uri": "/"}], normalize=bytes.upper)


def test_depends_on_is_an_order_alone():
    items = [{"id": "a", "uri": "/"}, {"uri": "/", "depends-on": ["a", 0]}]
    assert_parity(answering(), items, threads=2)
    message = failure(answering("404 Not Found"), items)
    assert "requests[1]: GET /\n  status: 404 alone, 424 in the batch (Not executed: " in message


@pytest.mark.parametrize(
    "item",
    [
        {"uri": "{$responses.0.location}"},
        {"uri": "/", "args": {"a": ["x", "{$responses.0.body#/a} and more"]}},
        {"uri": "/", "body": {"a": {"b": "{$responses.0.body}"}}},
        {"uri": "/", "headers": {"If-Match": "{$responses.0.header.etag}"}},
        {"uri": "/", "body": ("{$$responses. {$responses.",)},
    ],
)
def test_references_mean_nothing_alone(item):
    with pytest.raises(ValueError, match=r"^requests\[1\]: (uri|args|body|headers): .*reference"):
        assert_parity(demo_app, [{"uri": "/"}, item])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "text/plain"),
        ("If-None-Match", "*"),
        ("Range", "bytes=0-1"),
        ("accept-encoding", "gzip"),
        ("Prefer", "x"),
        ("Idempotency-Key", "1"),
        ("Connection", "close"),
        ("Accept", "application/x-ndjson"),
    ],
)
def test_headers_that_members_do_not_inherit(name, value):
    with pytest.raises(ValueError, match=f"headers: members do not inherit {name}: "):
        assert_parity(demo_app, [{"uri": "/"}], headers={name: value})


@pytest.mark.parametrize(
    ("requests", "error", "told"),
    [
        ([], ValueError, "requests: there is none"),
        ({"uri": "/"}, TypeError, "requests: {'uri': '/'} is not a sequence"),
        ("/", TypeError, "requests: '/' is not a sequence"),
        (None, TypeError, "requests: None is not a sequence"),
        ([{"uri": "/"}, {"uri": "/", "args": {"n": b""}}], TypeError, r"requests\[1\]: Object of"),
        ([{"uri": "/"}, "/"], TypeError, r"requests\[1\]: '/' is not an item"),
        ([{"uri": "/", "body": b"", "headers": []}], TypeError, r"requests\[0\]: headers: \[\] is"),
        (
            [{"uri": "/", "body": b"{", "headers": {"Content-Type": "application/json"}}],
            ValueError,
            r"requests\[0\]: body: not json: ",
        ),
        (
            [{"uri": "/", "body": b"\xff", "headers": {"Content-Type": "text/plain"}}],
            ValueError,
            r"requests\[0\]: body: not text: 'utf-8' codec",
        ),
    ],
)
def test_requests_that_cannot_be_right(requests, error, told):
    for run in (
        lambda: assert_parity(answering(), requests),
        lambda: post_batch(BatchMiddleware(answering()()), requests),
    ):
        with pytest.raises(error, match=told):
            run()


def test_a_factory_is_no_application():
    for app in (demo.app, answering()(), CookieApp()):
        with pytest.raises(TypeError, match=r"^make_app: .* needs arguments\. It has to be a func"):
            assert_parity(app, [{"uri": "/"}])
    with pytest.raises(TypeError, match="make_app: None is not callable"):
        assert_parity(None, [{"uri": "/"}])
    with pytest.raises(TypeError, match="make_app: what it gave is None, not a WSGI application"):
        assert_parity(lambda: None, [{"uri": "/"}])
    with pytest.raises(TypeError, match=r"make_app: what it gave is \{\}, not a WSGI application"):
        assert_parity(dict, [{"uri": "/"}])  # in C, with no signature


def test_wrong_options():
    with pytest.raises(TypeError, match="limits: 3 is not a Limits"):
        assert_parity(echo_app, [{"uri": "/"}], limits=3)
    with pytest.raises(TypeError, match="headers: 'X-A: 1' is neither a mapping nor a sequence"):
        assert_parity(echo_app, [{"uri": "/"}], headers="X-A: 1")
    with pytest.raises(TypeError, match="normalize: what it gave is None, not bytes"):
        assert_parity(echo_app, [{"uri": "/"}], normalize=lambda body: None)
    with pytest.raises(TypeError, match="ignore_headers: 'Date' is not a sequence of names"):
        assert_parity(answering(), [{"uri": "/"}], ignore_headers="Date")
    with pytest.raises(ValueError, match="threads"):
        assert_parity(answering(), [{"uri": "/"}], threads=-1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'thread'"):
        assert_parity(answering(), [{"uri": "/"}], thread=1)


def test_a_refused_batch_runs_nothing():
    made = []

    def make_app():
        made.append(True)
        return echo

    message = failure(make_app, [{"uri": "x"}, {"uri": "/", "unknown": 1, "method": []}])
    assert message.splitlines() == [
        "The batch was answered 400 Bad Request: The batch has 3 faults. Nothing was executed.",
        "  /requests/0/uri: not a path: it has to begin with /",
        "  /requests/1/unknown: unknown member",
        "  /requests/1/method: a string is expected, not an array",
    ]
    assert made == [True]
    big = {"method": "put", "uri": "/", "body": b"x" * 1024 * 1024}
    assert "413 Content Too Large" in failure(make_app, [big]).replace("Request Entity", "Content")
    assert "415" in failure(make_app, [{"uri": "/"}], dialects=(HTTPMultipart(),))


def test_the_first_application_is_done_with_before_the_second_is_made():
    class App:
        def __call__(self, environ, start_response):
            events.append("called")
            return answering()()(environ, start_response)

    events = []

    def make_app():
        events.append(f"made, {len(alive)} alive")
        app = App()
        alive.add(app)
        return app

    alive = weakref.WeakSet()
    assert_parity(make_app, [{"uri": "/"}, {"uri": "/"}])
    assert events == ["made, 0 alive", "called", "called"] * 2


def test_no_thread_is_left():
    before = {*threading.enumerate()}
    both = threading.Barrier(2)

    def app(environ, start_response):
        if MARK in environ:
            both.wait(20)
        return answering()()(environ, start_response)

    assert_parity(fresh(app), [{"uri": "/a"}, {"uri": "/b"}], threads=2)
    for thread in {*threading.enumerate()} - before:
        thread.join(20)
        assert not thread.is_alive()


def test_an_application_with_an_endpoint_of_its_own():
    """`make_app` may well be what makes the application that is served, wrapped already."""

    def make_app():
        return BatchMiddleware(demo_app(), authorize=lambda environ: None)

    assert_parity(make_app, json.loads(demo.BATCH)["requests"])


# --- PEP 3333 ----------------------------------------------------------------------------------


TAB = ("X-Count", "1\t2")


def test_a_breach_of_pep_3333_is_told():
    make_app = answering(headers=[PLAIN, TAB])
    items = [{"method": "delete", "uri": "/orders/1?x=1"}]
    assert failure(make_app, items) == (
        "Parity fails for 1 of 1 requests:\n\n"
        "requests[0]: DELETE /orders/1?x=1\n"
        "  breaks PEP 3333: Bad header value: '1\\t2' (bad char: '\\t')\n\n"
        "With validate=False, PEP 3333 is not looked at."
    )
    assert_parity(make_app, items, validate=False)


@pytest.mark.parametrize(
    "status", ["200 OK", "204 No Content", "303 See Other", "304 Not Modified"]
)
@pytest.mark.parametrize("headers", [[], [PLAIN]])
def test_a_content_type_is_no_breach(status, headers):
    """`wsgiref.validate` has its own rules for that, which are not those of PEP 3333."""
    make_app = answering(status, headers, b"" if status.startswith(("204", "304")) else b"hello")
    assert_parity(make_app, [{"uri": "/"}])
    bad = [*headers, ("X-Seen", "a")]
    message = failure(differing((status, headers, b""), (status, bad, b"")), [{"uri": "/"}])
    assert "  header X-Seen: missing alone, 'a' in the batch" in message


@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
@pytest.mark.parametrize(
    "headers", [(PLAIN,), [()], [["Content-Type", "a/b"]], [("Content-Type", 1)], [(1, "a")]]
)
def test_headers_are_validated(status, headers):
    def app(environ, start_response):
        start_response(status, headers)
        return []

    assert "breaks PEP 3333: " in failure(fresh(app), [{"uri": "/"}])


def test_a_breach_that_the_application_catches_is_told():
    def app(environ, start_response):
        try:
            start_response("200 OK", [TAB])
        except AssertionError:
            start_response("500 Oh no", [PLAIN])
        return [b"error"]

    message = failure(fresh(app), [{"uri": "/"}])
    assert "breaks PEP 3333: Bad header value" in message


def test_a_breach_of_the_body_is_told():
    message = failure(answering(body="text"), [{"uri": "/"}])
    assert "breaks PEP 3333: Iterator yielded non-bytestring ('text')" in message


def test_a_breach_in_the_batch_alone_is_told():
    make_app = differing(("200 OK", [PLAIN], b""), ("200 OK", [TAB], b""))
    message = failure(make_app, [{"uri": "/"}])
    assert "breaks PEP 3333: Bad header value" in message
    assert "status: 200 alone, 500 in the batch (AssertionError: Bad header value" in message


@pytest.mark.parametrize("kind", ["never", "twice"])
def test_the_response_is_started_once(kind):
    """The validator does not look at that; a server answers 500, alone and in a batch."""

    def app(environ, start_response):
        once = environ["PATH_INFO"] == "/once"
        for _ in range(1 if once else {"never": 0, "twice": 2}[kind]):
            start_response("200 OK", [PLAIN])
        return []

    assert_parity(fresh(app), [{"uri": "/"}, {"uri": "/once"}])
    told = {"never": "no response was started", "twice": "AssertionError: start_response was call"}
    message = failure(fresh(app), [{"uri": "/"}])
    assert message.startswith(
        "The application failed for each request, alone too. The first time: " + told[kind]
    )


def test_an_assertion_of_the_application_is_no_breach():
    def app(environ, start_response):
        assert MARK not in environ, "not in a batch"
        return answering()()(environ, start_response)

    message = failure(fresh(app), [{"uri": "/"}])
    assert "PEP 3333" not in message
    assert "500 in the batch (AssertionError: not in a batch" in message


def test_the_input_is_read_in_sizes():
    """werkzeug reads a terminated input without a size; PEP 3333 allows that."""

    def app(environ, start_response):
        stream = environ["wsgi.input"]
        parts = [stream.readline(), next(iter(stream)), *stream.readlines(2), stream.read()]
        start_response("200 OK", [PLAIN])
        return [repr(parts).encode()]

    items = [{"method": "put", "uri": "/", "body": b"a\nb\nc\nd\n"}]
    assert_parity(fresh(app), items)


# --- What breaks parity is told ----------------------------------------------------------------

JSON = "application/json"
SENT = [
    {"method": "post", "uri": "/login", "args": {"name": "ada"}},
    {"uri": "/caf%C3%A9", "args": {"q": "x"}},
    {"method": "post", "uri": "/orders", "body": {"n": 1}},
    {"method": "post", "uri": "/orders", "body": {"n": 2}},
    {"method": "head", "uri": "/page"},
    {"uri": "/picture"},
    {"uri": "/latin"},
]
LOGIN, PAGE, FIRST, SECOND, HEAD, PICTURE, LATIN = range(7)


def everything():
    """An application whose answers show whatever may be lost on the way."""
    orders = []

    @Request.application
    def app(request):
        if request.path == "/login":
            response = Response("hello")
            response.set_cookie("sid", request.form["name"], httponly=True, path="/")
            return response
        if request.path == "/picture":
            return Response(bytes(range(256)), content_type="image/png")
        if request.path == "/latin":
            return Response("caf\xe9".encode("latin-1"), content_type="text/plain; charset=latin-1")
        if request.method == "POST":
            orders.append({"of": request.cookies.get("sid"), **request.get_json()})
            return Response(json.dumps(orders), 201, {"Location": request.base_url}, mimetype=JSON)
        seen = {
            "path": request.path,
            "query": request.args.to_dict(),
            "who": request.cookies.get("sid"),
            "language": request.headers.get("Accept-Language"),
            "client": request.remote_addr,
            "length": request.content_length,
        }
        response = Response(json.dumps(seen), mimetype=JSON)
        response.headers.extend([("Vary", "Cookie"), ("X-Seen", "a"), ("X-Seen", "b")])
        return response

    return app


def broken(monkeypatch, environ=None, entries=None, fields=None, document=None):
    """Break what `assert_parity` tries.

    `environ` changes that of a member, `entries` the entries of the reply, `document` its bytes,
    `fields` its header lines.
    """

    def endpoint(app, **options):
        def faulty_app(request, start_response):
            if environ:
                environ(request)
            return app(request, start_response)

        batch = BatchMiddleware(faulty_app, **options)

        def faulty_batch(request, start_response):
            begun = []
            body = b"".join(batch(request, lambda *given: begun.extend(given)))
            status, headers = begun
            if entries:
                reply = json.loads(body)
                entries(reply["responses"])
                body = json.dumps(reply).encode()
            if document:
                body = document(body)
            headers = [(name, value) for name, value in headers if name != "Content-Length"]
            if fields:
                headers = fields(headers)
            start_response(status, headers)
            return [body]

        return faulty_batch

    monkeypatch.setattr(batchwsgi.testing, "BatchMiddleware", endpoint)


def told_of(monkeypatch, **how):
    broken(monkeypatch, **how)
    return failure(everything, SENT, headers={"Accept-Language": "de"})


def test_nothing_is_told_where_nothing_is_broken(monkeypatch):
    assert_parity(everything, SENT)
    broken(monkeypatch)
    assert_parity(everything, SENT, headers={"Accept-Language": "de"})


def put(key, value):
    return lambda environ: environ.update({key: value})


def drop(key):
    return lambda environ: environ.pop(key, None)


def of_the_members(method, change):
    return lambda environ: change(environ) if environ["REQUEST_METHOD"] == method else None


REQUESTS = {
    "the query is lost": (
        put("QUERY_STRING", ""),
        "requests[1]: GET /caf%C3%A9\n"
        "  header Content-Length: '114' alone, '106' in the batch\n"
        "  body differs at character 33:\n"
        r"""    alone:        …'f\\u00e9", "query": {"q": "x"}, "who": "ada", "language": "de'…"""
        "\n"
        r"""    in the batch: …'f\\u00e9", "query": {}, "who": "ada", "language": "de", "clie'…""",
    ),
    "the cookie is lost": (drop("HTTP_COOKIE"), """'[{"of": null, "n": 1}]'"""),
    "the length is wrong": (
        of_the_members("HEAD", put("CONTENT_LENGTH", "0")),
        "1 of 7 requests:\n\nrequests[4]: HEAD /page\n  header Content-Length: ",
    ),
    "the body is lost": (
        of_the_members("POST", lambda environ: environ["wsgi.input"].read(99)),
        "requests[2]: POST /orders\n  status: 201 alone, 400 in the batch\n",
    ),
    "the type is lost": (
        drop("CONTENT_TYPE"),
        "requests[2]: POST /orders\n  status: 201 alone, 415 in the batch\n",
    ),
    "the mount is the endpoint": (
        put("SCRIPT_NAME", "/batch"),
        "header Location: 'http://localhost/orders' alone, 'http://localhost/batch/orders' in the",
    ),
    "the path is not decoded": (
        lambda environ: put("PATH_INFO", environ["PATH_INFO"].replace("\xc3\xa9", "%C3%A9"))(
            environ
        ),
        """'{"path": "/caf%C3%A9", "query":""",
    ),
    "the method is another": (
        of_the_members("POST", put("REQUEST_METHOD", "PUT")),
        "requests[3]: POST /orders\n  status: 201 alone, 200 in the batch\n",
    ),
    "a header is not inherited": (drop("HTTP_ACCEPT_LANGUAGE"), """"language": null, "client":"""),
    "the client is lost": (drop("REMOTE_ADDR"), '"client": null'),
    "the host is another": (
        put("HTTP_HOST", "inner:8000"),
        "header Location: 'http://localhost/orders' alone, 'http://inner:8000/orders' in the batch",
    ),
}


@pytest.mark.parametrize(("change", "told"), REQUESTS.values(), ids=REQUESTS.keys())
def test_broken_requests(monkeypatch, change, told):
    assert told in told_of(monkeypatch, environ=change)


def change(index, **members):
    return lambda entries: entries[index].update(members)


def change_header(index, name, value):
    def changed(entries):
        headers = entries[index]["headers"]
        if value is None:
            del headers[name]
        else:
            headers[name] = value

    return changed


def swap(entries):
    entries[FIRST], entries[SECOND] = entries[SECOND], entries[FIRST]


ENTRIES = {
    "the status": (
        change(FIRST, status_code="200"),
        "1 of 7 requests:\n\nrequests[2]: POST /orders\n  status: 201 alone, 200 in the batch",
    ),
    "the order": (swap, "requests[2]: POST /orders\n  header Content-Length: '23' alone, '46' in"),
    "the order of others": (
        list.reverse,
        "requests[1]: GET /caf%C3%A9\n  its entry is that of GET /picture\n  header ",
    ),
    "another method": (
        change(PAGE, method="delete"),
        "requests[1]: GET /caf%C3%A9\n  its entry is that of DELETE /caf%C3%A9",
    ),
    "an entry is lost": (
        lambda entries: entries.pop(),
        "The batch of 7 requests has 6 entries.",
    ),
    "the body of HEAD": (
        lambda entries: entries[HEAD].update(body=entries[PAGE]["body"]),
        "requests[4]: HEAD /page\n  body differs at character 0:\n    alone:        ''\n    in the",
    ),
    "one letter": (
        change(LATIN, body="cafe"),
        "requests[6]: GET /latin\n"
        "  body differs at byte 3:\n"
        "    alone:        b'caf\\xe9'\n"
        "    in the batch: b'cafe'",
    ),
    "one byte": (
        change(PICTURE, body="AAECAwQ="),
        "requests[5]: GET /picture\n  body differs at byte 5:\n    alone:        b'\\x00\\x01",
    ),
    "not base64": (change(PICTURE, body="\xe9"), "The reply is not that of a batch: ValueError("),
    "JSON written anew": (
        lambda entries: entries[FIRST].update(body=[{"n": 1, "of": "ada"}]),
        """    in the batch: ' [{"n": 1, "of": "ada"}]'""",
    ),
    "a header is lost": (
        change_header(PAGE, "Vary", None),
        "requests[1]: GET /caf%C3%A9\n  header Vary: 'Cookie' alone, missing in the batch",
    ),
    "a header is doubled": (
        change_header(PAGE, "X-Seen", "a, b, a, b"),
        "header X-Seen: 'a, b' alone, 'a, b, a, b' in the batch",
    ),
    "of two headers one": (
        change_header(PAGE, "X-Seen", "b"),
        "header X-Seen: 'a, b' alone, 'b' in the batch",
    ),
    "a header is new": (
        change_header(HEAD, "Server", "batch"),
        "requests[4]: HEAD /page\n  header Server: missing alone, 'batch' in the batch",
    ),
    "a name is spelled otherwise": (
        lambda entries: (
            change_header(PAGE, "vary", "Cookie")(entries),
            change_header(PAGE, "Vary", None)(entries),
        ),
        "  header Vary: 'Cookie' alone, missing in the batch\n"
        "  header vary: missing alone, 'Cookie' in the batch",
    ),
    "the charset is lost": (
        change_header(LATIN, "Content-Type", "text/plain"),
        "header Content-Type: 'text/plain; charset=latin-1' alone, 'text/plain' in the batch\n"
        "  body differs at byte 3:",
    ),
}


@pytest.mark.parametrize(("change", "told"), ENTRIES.values(), ids=ENTRIES.keys())
def test_broken_entries(monkeypatch, change, told):
    def unspaced(document):
        """Without the space that `json.dumps` writes: it would be part of a body."""
        return document.replace(b'"body": ', b'"body":')

    if told.startswith("    in the batch: ' "):
        unspaced = bytes
    assert told in told_of(monkeypatch, entries=change, document=unspaced)


def without(word):
    return lambda fields: [(name, value) for name, value in fields if word not in value]


def replaced(old, new):
    return lambda fields: [(name, value.replace(old, new)) for name, value in fields]


FIELDS = {
    "no cookie": (
        without("sid"),
        "Parity fails for the cookies that are set:\n\n"
        "cookies\n  sid; Path=/; httponly: set alone, by requests[0], but not in the batch",
    ),
    "each cookie twice": (
        lambda fields: fields * 2,
        "cookies\n  sid; Path=/; httponly: set 2 times in the batch",
    ),
    "its Path": (
        replaced("; Path=/", "; Path=/x"),
        "  sid; Path=/x; httponly: set in the batch, but not alone",
    ),
    "its flag": (
        replaced("; HttpOnly", ""),
        "  sid; Path=/; httponly: set alone, by requests[0], but not in the batch\n"
        "  sid; Path=/: set in the batch, but not alone",
    ),
    "not JSON": (
        replaced("/json", "/x-json"),
        """The batch was answered 200 OK: {"responses":[{"method":"post","uri":"/login",""",
    ),
}


@pytest.mark.parametrize(("change", "told"), FIELDS.values(), ids=FIELDS.keys())
def test_broken_fields(monkeypatch, change, told):
    assert told in told_of(monkeypatch, fields=change)


DOCUMENTS = {
    "cut off": (lambda body: body[:-2], "JSONDecodeError(\"Expecting ',' delimiter"),
    "not UTF-8": (lambda body: body.replace(b"caf", b"\xff"), "UnicodeDecodeError('utf-8'"),
    "another": (lambda body: b'{"replies":[]}', "KeyError('responses')"),
    "an array": (lambda body: b"[]", "KeyError('responses')"),
    "a number": (lambda body: b"7", "IndexError("),
    "entries that are none": (lambda body: b'{"responses":[[7]]}', "IndexError("),
    "members of no name": (lambda body: b'{"responses":[[[], 7]]}', "TypeError("),
    "forged": (
        lambda body: body.replace(b'"caf\xc3\xa9","encoding":"text"', b'1},{"uri":"/forged"'),
        "KeyError('status_code')",
    ),
}


@pytest.mark.parametrize(("change", "told"), DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_broken_documents(monkeypatch, change, told):
    message = told_of(monkeypatch, document=change)
    assert message.startswith("The reply is not that of a batch: ")
    assert told in message


def test_a_batch_that_keeps_no_cookies(monkeypatch):
    """Found by what later requests are answered, and by nothing else."""
    broken(monkeypatch, environ=lambda environ: environ.pop("HTTP_COOKIE", None))
    message = failure(demo_app, [SENT[LOGIN], {"uri": "/user/~me"}, {"uri": "/about"}])
    assert message == (
        "Parity fails for 1 of 3 requests:\n\n"
        "requests[1]: GET /user/~me\n"
        "  status: 200 alone, 401 in the batch\n"
        "  header Content-Length: '56' alone, '116' in the batch\n"
        "  header Content-Type: 'application/json' alone, 'text/html; charset=utf-8' in the batch\n"
        "  body differs at character 0:\n"
        """    alone:        '{"name": "Ada", "mail": "ada@example.org", "oauth": {}}\\n'\n"""
        "    in the batch: '<!doctype html>\\n<html lang=en>\\n<title>401 Unauthorized</titl'…"
    )


def test_threads_that_share_what_they_must_not():
    """The application keeps the request in an attribute; in a batch, a neighbour replaces it."""

    class Racing:
        def __init__(self):
            self.both = threading.Barrier(2)

        def __call__(self, environ, start_response):
            self.path = environ["PATH_INFO"]
            if MARK in environ and environ["PATH_INFO"] != "/safe":
                self.both.wait(20)
            start_response("200 OK", [PLAIN])
            return [self.path.encode()]

    items = [{"method": "options", "uri": "/safe"}, {"method": "post", "uri": "/safe"}]
    assert_parity(Racing, items, threads=2)
    message = failure(Racing, [{"uri": "/a"}, {"uri": "/b"}], threads=2)
    assert re.match(
        r"Parity fails for 1 of 2 requests:\n\n"
        r"requests\[[01]\]: GET /[ab]\n  body differs at character 1:\n"
        r"    alone:        '/[ab]'\n    in the batch: '/[ab]'",
        message,
    )


def test_notices_of_neighbours_in_threads():
    """An application that keeps them (Trac) shows one once: with threads, to several."""

    class Notices:
        def __init__(self):
            self.notice = b"saved"
            self.both = threading.Barrier(2)

        def __call__(self, environ, start_response):
            notice = self.notice
            if MARK in environ:
                self.both.wait(20)
            self.notice = b"none"
            start_response("200 OK", [PLAIN])
            return [notice]

    message = failure(Notices, [{"uri": "/a"}, {"uri": "/b"}], threads=2)
    assert "    alone:        'none'\n    in the batch: 'saved'" in message
    assert "may not see what else it changes" in message


def test_cookies_of_neighbours_in_threads():
    """With threads, this is so on purpose, and the failure says it."""
    items = [setting("a=1; Path=/"), {"uri": "/"}]
    assert_parity(CookieApp, items)
    message = failure(CookieApp, items, threads=2)
    assert "requests[1]: GET /\n  header" not in message
    assert "    alone:        'a=1'\n    in the batch: 'none'" in message
    assert message.endswith(
        "\n\nWith threads, safe requests beside each other run at the same time: one does not see "
        "the cookies that another sets, and may not see what else it changes. One that depends on "
        "it (depends-on) does."
    )
    items[1]["depends-on"] = [0]
    assert_parity(CookieApp, items, threads=2)


def test_an_application_that_knows_that_it_is_in_a_batch():
    def app(environ, start_response):
        if MARK in environ:
            raise LookupError("an outer request\nis missing")
        start_response("200 OK", [PLAIN])
        return [b"alone"]

    assert failure(fresh(app), [{"uri": "/"}]) == (
        "Parity fails for 1 of 1 requests:\n\n"
        "requests[0]: GET /\n"
        "  status: 200 alone, 500 in the batch (LookupError: an outer request)"
    )

    def other(environ, start_response):
        if MARK not in environ:
            raise LookupError("an outer request")
        start_response("200 OK", [PLAIN])
        return [b"in a batch"]

    assert failure(fresh(other), [{"uri": "/"}]) == (
        "Parity fails for 1 of 1 requests:\n\n"
        "requests[0]: GET /\n"
        "  status: 500 alone (LookupError: an outer request), 200 in the batch"
    )


def test_the_same_application_twice():
    app = everything()
    message = failure(lambda: app, SENT)
    assert message.endswith(
        "\n\n"
        "make_app gave the same application twice: the second run found what the first had left."
    )
    assert "requests[2]: POST /orders" in message


def test_an_application_without_weak_references():
    class App:
        __slots__ = ()

        def __call__(self, environ, start_response):
            return answering("200 OK" if MARK in environ else "404 Nothing")()(
                environ, start_response
            )

    app = App()
    assert failure(lambda: app, [{"uri": "/"}]).endswith("status: 404 alone, 200 in the batch")


def test_a_failure_is_short():
    headers = [(f"X-{number}", "x" * 1000) for number in range(30)]
    make_app = differing(
        ("200 OK", [PLAIN], b"a" * 10**6), ("200 OK", [PLAIN, *headers], b"a" * 10**6 + b"b")
    )
    uri = "/" + "x" * 3000
    limits = Limits(max_member_size=2 * 10**6, max_reply_size=10**8)
    message = failure(make_app, [{"uri": uri}] * 20, limits=limits)
    assert len(message) < 8 * (200 + 8 * 250 + 300)
    assert message.startswith(
        f"Parity fails for 20 of 20 requests:\n\nrequests[0]: GET {uri[:200]}…"
    )
    assert "\n  … and 22 more headers\n  body differs at character 1000000:\n" in message
    assert f"    alone:        …'{'a' * 20}'\n    in the batch: …'{'a' * 20}b'\n" in message
    assert message.endswith(
        "\n\n… and 12 more requests: 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19"
    )


def test_the_docstring_shows_a_failure():
    make_app = differing(
        ("200 OK", [PLAIN, ("Content-Length", "16")], b'{"name": "Ada"}\n'),
        ("401 Unauthorized", [PLAIN, ("Content-Length", "19")], b'{"error": "log in"}'),
    )
    items = [{"method": "post", "uri": "/login"}, {"uri": "/user/~me"}, {"uri": "/orders/1"}]
    shown = inspect.getdoc(assert_parity)
    for line in failure(only_at("/user/~me", make_app), items).splitlines():
        assert line in shown
    assert shown.count("in the batch:") == 1


# --- One batch ---------------------------------------------------------------------------------


def test_post_batch():
    app = BatchMiddleware(demo_app())
    login, order, location, error, missing = post_batch(
        app,
        [
            {"method": "post", "uri": "/login", "args": {"name": "ada"}},
            {"id": "order", "method": "post", "uri": "/orders", "body": {"sku": "A1"}},
            {"uri": "{$responses.order.location}"},
            {"uri": "/error"},
            {"uri": "/about"},
        ],
        on_fail="stop",
    )
    assert (login.status, login.reason, login.problem) == (200, "OK", None)
    assert (order.status, order.headers["location"]) == (201, "/orders/1")
    assert location.json() == order.json()
    assert (error.problem, missing.problem) == (Problem.APPLICATION_ERROR, Problem.STOPPED)
    assert missing.json()["detail"] == "The request at index 3 failed."
    (picture,) = post_batch(app, [{"uri": "/logo.png"}])
    assert picture.body.startswith(b"\x89PNG\r\n\x1a\n")


def test_post_batch_elsewhere_and_with_headers():
    app = BatchMiddleware(echo, path="/caf\xe9")
    headers = [("Authorization", "Bearer 1"), ("Cookie", "a=1"), ("Cookie", "b=2")]
    item = {"method": "put", "uri": "/", "body": b"123", "headers": {"Content-Type": "text/plain"}}
    (reply,) = post_batch(app, [item], path="/caf\xe9", headers=headers)
    seen = reply.json()
    assert (seen["HTTP_AUTHORIZATION"], seen["HTTP_COOKIE"]) == ("Bearer 1", "a=1; b=2")
    assert (seen["CONTENT_TYPE"], seen["body"]) == ("text/plain", "123")
    (reply,) = post_batch(app, [{"uri": "/"}], path="/caf\xe9", headers={"Host": "shop.example"})
    assert reply.json()["HTTP_HOST"] == "shop.example"


def test_a_problem_of_the_applications_own_is_none_of_ours():
    kinds = ["urn:problem-type:batchwsgi:nonsense", "urn:other:stopped", 7]
    for body in [*(json.dumps({"type": kind}) for kind in kinds), "[]", "{", "{}"]:
        app = answering("424 Failed", [("Content-Type", "application/problem+json")], body.encode())
        (reply,) = post_batch(BatchMiddleware(app()), [{"uri": "/"}])
        assert (reply.status, reply.problem, reply.body) == (424, None, body.encode())


def test_a_refused_batch():
    app = BatchMiddleware(demo_app())
    with pytest.raises(AssertionError) as refused:
        post_batch(app, [{"uri": "/"}, {"uri": "//"}], on_fail="rollback", more=1)
    assert str(refused.value).splitlines() == [
        "The batch was answered 400 Bad Request: The batch has 3 faults. Nothing was executed.",
        "  /more: unknown member",
        "  /on-fail: rollback: this endpoint has none, its operator has set no transaction",
        "  /requests/1/uri: not a path: what follows // is a host",
    ]
    with pytest.raises(AssertionError, match=r"/requests/99/uri: .*\n  … and 20 more faults$"):
        post_batch(BatchMiddleware(echo, limits=Limits(max_requests=120)), [{"uri": "x"}] * 120)
    with pytest.raises(AssertionError, match=r"answered 404 NOT FOUND: <!doctype html>\nIs the "):
        post_batch(demo_app(), [{"uri": "/"}])
    with pytest.raises(AssertionError, match=r"KeyError\('responses'\)\nIs the application"):
        post_batch(answering(headers=[("Content-Type", JSON)], body=b"{}")(), [{"uri": "/"}])
    with pytest.raises(AssertionError, match=r"^The reply is streamed, because of Accept: "):
        post_batch(app, [{"uri": "/about"}], headers={"Accept": "application/x-ndjson"})
    with pytest.raises(AssertionError, match="answered 415"):
        post_batch(app, [{"uri": "/about"}], headers={"Content-Type": "text/plain"})
    with pytest.raises(AssertionError, match="answered 400 Oh no: 7"):
        post_batch(answering("400 Oh no", [("Content-Type", JSON)], b"7")(), [{"uri": "/"}])
