from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from math import inf, nan

import pytest

from batchwsgi import BatchMiddleware, Limits
from batchwsgi.dialects import Native, ODataJSON

from .support import echo


def test_defaults():
    assert Limits() == Limits(
        max_requests=20,
        max_body_size=1_048_576,
        max_depth=32,
        max_digits=100,
        max_uri_length=4094,
        max_headers=50,
        max_member_size=1_048_576,
        max_reply_size=8_388_608,
        max_reference_size=262_144,
        deadline=20.0,
    )


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        Limits().max_requests = 1


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
@pytest.mark.parametrize("value", ["20", None, True, [1]], ids=repr)
def test_wrong_type_names_the_limit(name, value):
    with pytest.raises(TypeError, match=rf"Limits\.{name}: .* is not int"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_negative_names_the_limit(name):
    with pytest.raises(ValueError, match=rf"Limits\.{name}: -1 "):
        Limits(**{name: -1})


def test_zero():
    with pytest.raises(ValueError, match=r"Limits\.max_requests: 0 is not 1 or more, and finite"):
        Limits(max_requests=0)
    assert Limits(deadline=0).deadline == 0


def test_the_deepest():
    assert Limits(max_depth=200).max_depth == 200
    with pytest.raises(ValueError, match=r"Limits\.max_depth: 201 is more than 200"):
        Limits(max_depth=201)


def test_app():
    with pytest.raises(TypeError, match="app: None is not a WSGI application"):
        BatchMiddleware(None)


@pytest.mark.parametrize("value", [inf, nan, -inf])
def test_deadline_is_finite(value):
    with pytest.raises(ValueError, match=r"Limits\.deadline"):
        Limits(deadline=value)


def test_a_very_large_limit():
    assert Limits(max_reply_size=10**400).max_reply_size == 10**400


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": "batch"}, ValueError, "path: 'batch' does not begin with /"),
        ({"path": None}, TypeError, "path: None is not a string"),
        ({"path": b"/batch"}, TypeError, "path: b'/batch' is not a string"),
        ({"member_headers": "X-A"}, TypeError, "member_headers: a sequence of strings, not 'X-A'"),
        ({"member_headers": 5}, TypeError, "member_headers: a sequence of strings, not 5"),
        ({"environ_keys": "a.b"}, TypeError, "environ_keys: a sequence of strings, not 'a.b'"),
        ({"environ_keys": None}, TypeError, "environ_keys: a sequence of strings, not None"),
        ({"transaction": object()}, TypeError, "transaction: .* is not callable"),
        ({"threads": -1}, ValueError, "threads: -1 is less than 0"),
        ({"threads": True}, TypeError, "threads: True is not an int"),
        ({"threads": "4"}, TypeError, "threads: '4' is not an int"),
        ({"limits": 20}, TypeError, "limits: 20 is not a Limits"),
        ({"encoded_slashes": "no"}, TypeError, "encoded_slashes: 'no' is not a bool"),
        ({"member_headers": [1]}, TypeError, "member_headers: 1 is not a string"),
        ({"environ_keys": [1]}, TypeError, "environ_keys: 1 is not a string"),
        ({"timing": 1}, TypeError, "timing: 1 is not a bool"),
        ({"dialects": ()}, ValueError, "dialects: there is none"),
        ({"dialects": None}, TypeError, "dialects: a sequence of dialects, not None"),
        ({"dialects": Native()}, TypeError, "dialects: a sequence of dialects, not <"),
        ({"dialects": (Native,)}, TypeError, "dialects: Native is a class, not an instance"),
        ({"dialects": "native"}, TypeError, "dialects: 'n' is not a Dialect"),
        ({"dialects": (Native(), ODataJSON())}, ValueError, "two of them read application/json"),
        ({"authorize": True}, TypeError, "authorize: True is not callable"),
    ],
)
def test_middleware_options(options, error, message):
    with pytest.raises(error, match=message):
        BatchMiddleware(echo, **options)


@pytest.mark.parametrize(
    "name",
    [
        *["Host", "cookie", "Origin", "Referer", "Forwarded", "X-Real-IP", "X-Forwarded-For"],
        *["x-forwarded-proto", "X-Forwarded-*", "Remote-User", "REMOTE-ADDR", "Proxy", "Proxy-X"],
        *["Proxy-*", "Sec-Fetch-Site", "Sec-*", "X-Http-Method-Override", "X-Original-URL"],
        *["X-Rewrite-Url", "Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding"],
        *["Upgrade", "Content-Length", "Expect"],
    ],
)
def test_headers_that_no_member_may_ever_set(name):
    with pytest.raises(ValueError, match=r"member_headers: .* can never be set by a member"):
        BatchMiddleware(echo, member_headers=[name])


@pytest.mark.parametrize(
    "name", ["", "X_Tenant", "X Tenant", "X-*-Id", "**", "Ténant", "X:", "X\n"]
)
def test_malformed_member_headers(name):
    with pytest.raises(ValueError, match=r"member_headers: .* is not a header name"):
        BatchMiddleware(echo, member_headers=[name])


@pytest.mark.parametrize(
    "key",
    [
        *["REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "CONTENT_LENGTH", "CONTENT_TYPE"],
        *["RAW_URI", "REQUEST_URI", "SCRIPT_NAME", "REMOTE_ADDR", "REMOTE_USER", "AUTH_TYPE"],
        *["HTTPS", "SSL_CLIENT_S_DN", "wsgi.input", "wsgi.errors", "wsgi.file_wrapper"],
        *["wsgi.early_hints", "HTTP_X_TENANT", "HTTP_PROXY", "gunicorn.socket", "werkzeug.socket"],
        *["werkzeug.request", "bottle.request", "webob.adhoc_attrs", "beaker.session"],
        *["paste.throw_errors", "repoze.tm", "mod_wsgi.version", "uwsgi.node", "SCRIPT_URL"],
        *["REDIRECT_STATUS", "PATH_TRANSLATED", "batchwsgi.request"],
    ],
)
def test_environ_keys_that_are_not_the_operators(key):
    with pytest.raises(ValueError, match=f"environ_keys: {key} is not one that can be added"):
        BatchMiddleware(echo, environ_keys=("myapp.tenant", key))
