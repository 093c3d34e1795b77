"""`OPTIONS` of the endpoint: what a client may post to it."""

from __future__ import annotations

import io
from contextlib import nullcontext
from dataclasses import asdict

import pytest

from batchwsgi import BatchMiddleware, Limits, subrequest
from batchwsgi.dialects import HTTPMultipart, Native, ODataJSON, ODataMultipart

from .hostile.answers import strictly
from .support import ask, batch, echo, environ

PREFLIGHT = {
    "Origin": "https://evil.test",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}


def never(request, start_response):
    raise AssertionError("the application was called")


def options(path="/batch", headers=None, body=b"", **middleware):
    """The answer to `OPTIONS`; nothing is read, and the application is not called."""

    class Unread(io.BytesIO):
        def read(self, *size):
            raise AssertionError("the body was read")

        readinto = readline = __iter__ = read

    request = environ("OPTIONS", path, body, headers)
    request["wsgi.input"] = Unread(body)
    return ask(BatchMiddleware(never, **middleware), request)


def test_what_it_says(wrap):
    reply = ask(wrap(never), environ("OPTIONS", "/batch"))
    assert reply.status == 200
    assert dict(reply.headers) == {
        "Content-Type": "application/json",
        "Content-Length": str(len(reply.body)),
        "Allow": "OPTIONS, POST",
        "Accept-Post": "application/json",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    document = strictly(reply.body)
    assert list(document) == ["dialects", "on-fail", "streaming", "limits", "member_headers"]
    assert document["dialects"] == ["application/json"]
    assert document["on-fail"] == ["ignore", "stop"]
    assert document["streaming"] == ["application/x-ndjson"]
    assert document["limits"] == asdict(Limits())
    assert document["member_headers"][0] == "Accept"


@pytest.mark.parametrize(
    ("dialects", "media_types"),
    [
        ((ODataJSON(), ODataMultipart()), ["application/json", "multipart/mixed"]),
        ((HTTPMultipart(),), ["multipart/mixed"]),
    ],
)
def test_without_the_native_dialect(dialects, media_types):
    reply = options(dialects=dialects, transaction=nullcontext)
    assert list(reply.json()) == ["dialects", "limits", "member_headers"]
    assert reply.json()["dialects"] == media_types
    assert reply.headers["Accept-Post"] == ", ".join(media_types)


def test_several_dialects():
    reply = options(dialects=(HTTPMultipart(), Native()))
    assert reply.headers["Accept-Post"] == "multipart/mixed, application/json"
    assert reply.json()["on-fail"] == ["ignore", "stop"]


def test_rollback_where_there_is_a_transaction():
    on_fail = ["ignore", "stop", "rollback"]
    assert options(transaction=nullcontext).json()["on-fail"] == on_fail


def test_limits():
    limits = Limits(max_requests=10**30, deadline=1e300, max_depth=1)
    document = strictly(options(limits=limits).body)
    assert document["limits"] == asdict(limits)


def test_member_headers():
    """Those that the operator adds are spelled as they were, and none stands twice."""
    names = options(member_headers=("X-Tenant", "X-Ms-*", "traceparent")).json()["member_headers"]
    assert names[-2:] == ["X-Tenant", "X-Ms-*"]
    assert "traceparent" in names and "Traceparent" not in names
    plain = [name for name in names if not name.endswith("*")]
    item = {"uri": "/", "headers": {**dict.fromkeys(plain, "x"), "X-Ms-Id": "x"}}
    app = BatchMiddleware(echo, member_headers=("X-Tenant", "X-Ms-*", "traceparent"))
    assert batch(app, item).entries[0]["status_code"] == "200"


@pytest.mark.parametrize("console", [False, True])
def test_methods(console):
    """Those that are allowed are answered, and all others are refused with the same list."""
    app = BatchMiddleware(echo, console=console)
    allowed = options(console=console).headers["Allow"]
    assert allowed == ("GET, HEAD, OPTIONS, POST" if console else "OPTIONS, POST")
    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "options", "PROPFIND"):
        reply = ask(app, environ(method, "/batch"))
        assert (reply.status != 405) == (method in allowed.split(", "))
        if reply.status == 405:
            assert reply.headers["Allow"] == allowed


def test_the_body_is_not_read():
    body = b"GET /stray HTTP/1.1\r\n\r\n"
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    assert options(body=body, headers=headers).status == 200
    assert options(headers={"Content-Length": "x"}).status == 200


def test_a_preflight_gets_the_same():
    assert options(headers=PREFLIGHT) == options()


def test_each_reply_has_headers_of_its_own():
    app = BatchMiddleware(never, timing=True)
    for _ in range(2):
        reply = ask(app, environ("OPTIONS", "/batch"))
        assert len(reply.headers.getlist("Server-Timing")) == 1


def test_where_it_is():
    """Under a mount the path is the same; other paths are the application's."""
    app = BatchMiddleware(echo, "/büro", console=True)
    path = "/büro".encode().decode("latin-1")
    mounted = ask(app, environ("OPTIONS", path, SCRIPT_NAME="/api", QUERY_STRING="x"))
    assert mounted.json()["dialects"] == ["application/json"]
    for other in ("/batch", f"{path}.js", f"{path}/", "*", "/"):
        assert ask(app, environ("OPTIONS", other)).json()["PATH_INFO"] == other


# --- Inside a batch ----------------------------------------------------------------------------


def test_a_member_that_asks_for_its_own_endpoint_refuses_the_batch():
    app = BatchMiddleware(never)
    for uri in ("/batch", "/batch?x", "/%62atch"):
        assert batch(app, {"method": "options", "uri": uri}).pointers == ["/requests/0/uri"]


def test_a_member_that_asks_for_another_endpoint():
    """As alone; only what is posted there would be a batch inside a batch."""
    inner = BatchMiddleware(never, "/inner", limits=Limits(max_requests=3))
    app = BatchMiddleware(inner)
    (entry,) = batch(app, {"method": "options", "uri": "/inner"}).entries
    alone = ask(app, environ("OPTIONS", "/inner"))
    assert entry["status_code"] == "200"
    assert entry["body"] == alone.json()
    assert entry["headers"]["Allow"] == alone.headers["Allow"]
    reply = subrequest(app, environ(), "OPTIONS", "/batch")
    assert reply.json()["limits"]["max_requests"] == 20
