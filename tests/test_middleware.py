"""Through the front door: a batch in, a reply out."""

from __future__ import annotations

import io
import json
import re
from types import SimpleNamespace

import pytest

import batchwsgi
from batchwsgi import BatchMiddleware, Limits

from .support import ask, batch, echo, environ, post

NDJSON = {"Accept": "application/x-ndjson"}
ONE = b'{"requests":[{"uri":"/"}]}'
JSON_TYPE = {"Content-Type": "application/json"}


def test_public_names():
    assert batchwsgi.__all__ == ["BatchMiddleware", "Limits", "Request", "Response", "subrequest"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", batchwsgi.__version__)


# --- Not for us --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/batch/", "/batches", "/Batch", "", "/x/batch", "//batch"])
def test_other_requests_pass_through_untouched(path):
    reply = object()
    seen = []

    def app(request, start_response):
        seen.append((request, start_response))
        return reply

    def start_response(status, headers, exc_info=None):
        raise AssertionError

    request = environ("POST", path, ONE, JSON_TYPE)
    before = dict(request)
    assert BatchMiddleware(app)(request, start_response) is reply
    assert seen[0][0] is request and seen[0][1] is start_response
    assert request == before
    assert request["wsgi.input"].tell() == 0


def test_path_option():
    app = BatchMiddleware(echo, "/büro/batch")
    assert len(batch(app, "/", path="/büro/batch".encode().decode("latin-1")).entries) == 1
    assert ask(app, environ(path="/batch")).json()["PATH_INFO"] == "/batch"


# --- The reply ---------------------------------------------------------------------------------


def test_reply(wrap):
    reply = post(wrap(echo), ONE)
    assert reply.status == 200
    assert dict(reply.headers) == {
        "Content-Type": "application/json",
        "Content-Length": str(len(reply.body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }


def test_one_entry_for_each_request_in_order(wrap):
    items = [{"uri": f"/{n}?n={n}", "id": f"id-{n}"} for n in range(20)]
    entries = batch(wrap(echo), *items).entries
    assert [entry["id"] for entry in entries] == [item["id"] for item in items]
    assert [entry["body"]["QUERY_STRING"] for entry in entries] == [f"n={n}" for n in range(20)]


def test_who_asks_is_who_asked(wrap):
    headers = {"Authorization": "Bearer t", "Cookie": "a=1", "X-Forwarded-For": "203.0.113.5"}
    (entry,) = batch(
        wrap(echo), "/", headers=headers, REMOTE_USER="ada", REMOTE_PORT="4711"
    ).entries
    seen = entry["body"]
    assert seen["HTTP_AUTHORIZATION"] == "Bearer t"
    assert seen["HTTP_COOKIE"] == "a=1"
    assert seen["HTTP_X_FORWARDED_FOR"] == "203.0.113.5"
    assert seen["REMOTE_ADDR"] == "192.0.2.7"
    assert seen["REMOTE_PORT"] == "4711"
    assert seen["REMOTE_USER"] == "ada"


def statuses(request, start_response):
    """Answers with the status that is its path."""
    path = request["PATH_INFO"]
    headers = [("Content-Type", "text/plain"), ("Set-Cookie", f"last={path}")]
    start_response(f"{path[1:]} Status", headers)
    return []


def test_on_fail_ignore(wrap):
    entries = batch(wrap(statuses), "/200", "/404", "/302", "/500", "/201").entries
    assert [entry["status_code"] for entry in entries] == ["200", "404", "302", "500", "201"]


def test_on_fail_stop(wrap):
    items = [{"uri": "/200"}, {"uri": "/302"}, {"uri": "/404"}, {"uri": "/200", "id": "x"}]
    reply = post(wrap(statuses), {"on-fail": "stop", "requests": items})
    assert [entry["status_code"] for entry in reply.entries] == ["200", "302", "404", "424"]
    assert reply.entries[3] == {
        "id": "x",
        "method": "get",
        "uri": "/200",
        "status_code": "424",
        "headers": {"Content-Type": "application/problem+json"},
        "body": {
            "type": "urn:problem-type:batchwsgi:stopped",
            "title": "Not executed: an earlier request failed",
            "status": 424,
            "detail": "The request at index 2 failed.",
        },
    }
    assert reply.headers.getlist("Set-Cookie") == ["last=/404; Path=/"]


def test_an_application_that_fails_under_stop(wrap, caplog):
    def app(request, start_response):
        raise RuntimeError

    items = [{"uri": "/1"}, {"uri": "/2"}]
    entries = post(wrap(app), {"on-fail": "stop", "requests": items}).entries
    assert [entry["body"]["type"].rpartition(":")[2] for entry in entries] == [
        "application-error",
        "stopped",
    ]


# --- Refusals ----------------------------------------------------------------------------------


class _Unread(io.BytesIO):
    """A stream of which more must not be asked than it has."""

    def __init__(self, body, may_read=True):
        super().__init__(body)
        self.may_read = may_read

    def read(self, size=-1):
        assert self.may_read and 0 <= size <= len(self.getbuffer()) - self.tell()
        return super().read(size)

    def readinto(self, buffer):
        assert self.may_read and len(buffer) <= len(self.getbuffer()) - self.tell()
        return super().readinto(buffer)


def refused(app_options, request):
    """The refusal as a problem document; nothing has run, and the reply is complete."""
    called = []
    app = BatchMiddleware(lambda *_: called.append(1), **app_options)
    reply = ask(app, request)
    assert not called
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.headers["Content-Length"] == str(len(reply.body))
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    document = reply.json()
    assert document["status"] == reply.status
    assert document["detail"].endswith("Nothing was executed.")
    return reply.status, document


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "post", "options", "PATCH"])
def test_a_batch_is_posted(method):
    request = environ(method, "/batch", ONE, JSON_TYPE)
    request["wsgi.input"] = _Unread(ONE, may_read=False)
    assert ask(BatchMiddleware(echo), request).headers["Allow"] == "OPTIONS, POST"
    status, document = refused({}, request)
    assert (status, document["title"]) == (405, "Method Not Allowed")


def test_head_of_the_endpoint():
    reply = ask(BatchMiddleware(echo), environ("HEAD", "/batch"))
    assert (reply.status, reply.body) == (405, b"")


@pytest.mark.parametrize(
    "content_type",
    [
        *["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"],
        *["application/json-patch+json", "application/problem+json", "application/x-ndjson"],
        *["text/plain; application/json", "application/json, text/plain", "application/json/x"],
        *["application/json; charset=utf-16", "application/json; charset=iso-8859-1", "*/*"],
        *["text/plain;charset=application/json", "application\x00/json"],
    ],
)
def test_media_type_is_compared_after_parsing(content_type):
    request = environ("POST", "/batch", ONE, {"Content-Type": content_type})
    request["wsgi.input"] = _Unread(ONE, may_read=False)
    status, document = refused({}, request)
    assert status == 415
    assert "a batch is application/json in utf-8" in document["detail"]


def test_no_media_type():
    assert refused({}, environ("POST", "/batch", ONE))[0] == 415


@pytest.mark.parametrize(
    "content_type",
    [
        *["application/json", "Application/JSON", "application/json; charset=utf-8"],
        *["application/json;charset=UTF-8", 'application/json; charset="utf-8"'],
        *["application/json ;x=y"],
    ],
)
def test_media_type(content_type):
    assert post(BatchMiddleware(echo), ONE, headers={"Content-Type": content_type}).status == 200


@pytest.mark.parametrize("coding", ["gzip", "identity", "x"])
def test_content_encoding(coding):
    headers = {**JSON_TYPE, "Content-Encoding": coding}
    assert refused({}, environ("POST", "/batch", ONE, headers))[0] == 415


def test_no_length():
    request = environ("POST", "/batch", ONE, JSON_TYPE)
    request["wsgi.input"] = _Unread(ONE, may_read=False)
    for length in ("", None):
        request["CONTENT_LENGTH"] = length
        if length is None:
            del request["CONTENT_LENGTH"]
        assert refused({}, request)[0] == 411
        request["wsgi.input_terminated"] = False
        assert refused({}, request)[0] == 411


@pytest.mark.parametrize(
    "length", ["x", "-1", "+26", "26 ", "2_6", "26.0", "0x1a", "２６", "26, 26"]
)
def test_malformed_length(length):
    request = environ("POST", "/batch", ONE, JSON_TYPE, CONTENT_LENGTH=length)
    request["wsgi.input"] = _Unread(ONE, may_read=False)
    status, document = refused({}, request)
    assert status == 400
    assert "is not a number" in document["detail"] or "not a number" in document["detail"]


@pytest.mark.parametrize("terminated", [True, False])
def test_short_body(terminated):
    request = environ("POST", "/batch", ONE[:-1], JSON_TYPE, CONTENT_LENGTH=str(len(ONE)))
    request["wsgi.input_terminated"] = terminated
    status, document = refused({}, request)
    assert (status, document["detail"]) == (400, "The body ended early. Nothing was executed.")


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("error", [OSError, ValueError])
def test_a_client_that_has_gone(error, has_length):
    """Servers raise either, some after a part of the body."""
    pieces = iter([ONE[:5], ONE[5:9]])

    def read(size):
        assert not has_length or size <= len(ONE)
        piece = next(pieces, None)
        if piece is None:
            raise error("gone")
        return piece

    request = environ("POST", "/batch", ONE, JSON_TYPE)
    request["wsgi.input"] = SimpleNamespace(read=read)
    if not has_length:
        del request["CONTENT_LENGTH"]
        request["wsgi.input_terminated"] = True
    status, document = refused({}, request)
    assert (status, document["detail"]) == (400, "The body ended early. Nothing was executed.")


def test_a_body_that_comes_in_pieces():
    request = environ("POST", "/batch", ONE, JSON_TYPE)
    stream = request["wsgi.input"]
    request["wsgi.input"] = SimpleNamespace(read=lambda size: stream.read(min(size, 3)))
    assert ask(BatchMiddleware(echo), request).status == 200


def test_input_that_fails():
    class Broken(io.RawIOBase):
        def readinto(self, buffer):
            raise OSError("reset by peer")

    request = environ("POST", "/batch", ONE, JSON_TYPE)
    request["wsgi.input"] = Broken()
    assert refused({}, request)[0] == 400


def test_a_body_is_never_read_past_its_end():
    request = environ("POST", "/batch", ONE, JSON_TYPE)
    request["wsgi.input"] = _Unread(ONE)
    assert ask(BatchMiddleware(echo), request).status == 200
    request = environ("POST", "/batch", ONE + b"next", JSON_TYPE, CONTENT_LENGTH=str(len(ONE)))
    assert ask(BatchMiddleware(echo), request).status == 200
    assert request["wsgi.input"].read() == b"next"


def test_a_terminated_body_needs_no_length():
    request = environ("POST", "/batch", ONE, JSON_TYPE)
    request["wsgi.input_terminated"] = True
    del request["CONTENT_LENGTH"]
    assert len(ask(BatchMiddleware(echo), request).entries) == 1


@pytest.mark.parametrize("terminated", [True, False])
def test_body_over_the_limit(terminated):
    limits = Limits(max_body_size=len(ONE))
    for body, expected in ((ONE, 200), (ONE + b" ", 413)):
        request = environ("POST", "/batch", body, JSON_TYPE)
        if terminated:
            request["wsgi.input_terminated"] = True
            del request["CONTENT_LENGTH"]
        if expected == 200:
            assert ask(BatchMiddleware(echo, limits=limits), request).status == 200
        else:
            status, document = refused({"limits": limits}, request)
            assert status == 413
            assert "Limits.max_body_size" in document["detail"]


@pytest.mark.parametrize("length", ["1048577", "9" * 15, "9" * 16, "9" * 5000])
def test_a_length_over_the_limit_is_not_read(length):
    request = environ("POST", "/batch", ONE, JSON_TYPE, CONTENT_LENGTH=length)
    request["wsgi.input"] = _Unread(ONE, may_read=False)
    status, document = refused({}, request)
    assert status == 413
    assert len(document["detail"]) < 200


def test_requests_over_the_limit():
    body = json.dumps({"requests": [{"uri": "/"}] * 21}).encode()
    status, document = refused({}, environ("POST", "/batch", body, JSON_TYPE))
    assert status == 413
    assert document["detail"] == (
        "requests: 21 items, at most 20 (Limits.max_requests). Nothing was executed."
    )


def test_every_fault_is_listed():
    items = [{"uri": "/ok"}, {"uri": "x"}, {"uri": "/a", "method": "a b", "é": 1}]
    body = json.dumps({"requests": items}).encode()
    status, document = refused({}, environ("POST", "/batch", body, JSON_TYPE))
    assert (status, document["detail"]) == (400, "The batch has 3 faults. Nothing was executed.")
    assert [error["pointer"] for error in document["errors"]] == [
        "/requests/1/uri",
        "/requests/2/é",
        "/requests/2/method",
    ]


def test_the_order_of_refusals():
    """405, 415, 411, 413, 400."""
    request = environ("GET", "/batch", b"x" * 2_000_000, {"Content-Type": "text/plain"})
    request["batchwsgi.request"] = "nested"
    assert refused({}, request)[0] == 405
    request["REQUEST_METHOD"] = "POST"
    length = request.pop("CONTENT_LENGTH")
    assert refused({}, request)[0] == 415
    request["CONTENT_TYPE"] = "application/json"
    assert refused({}, request)[0] == 411
    request["CONTENT_LENGTH"] = length
    assert refused({}, request)[0] == 413
    request["CONTENT_LENGTH"] = "10"
    assert refused({}, request)[0] == 400


# --- A batch inside a batch --------------------------------------------------------------------


def test_no_batch_inside_a_batch():
    inner = BatchMiddleware(echo, "/inner")
    outer = BatchMiddleware(inner, "/batch")
    item = {"method": "post", "uri": "/inner", "body": {"requests": [{"uri": "/"}]}}
    entry, other = batch(outer, item, "/x").entries
    assert entry["status_code"] == "400"
    assert entry["body"]["detail"] == "A batch cannot be part of a batch. Nothing was executed."
    assert other["body"]["PATH_INFO"] == "/x"


def test_no_header_marks_a_batch():
    headers = {"batchwsgi.request": "x", "Batchwsgi-Request": "x"}
    assert batch(BatchMiddleware(echo), "/", headers=headers).status == 200


# --- Limits of the reply -----------------------------------------------------------------------


def sized(request, start_response):
    """A reply as long as its path says."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"x" * int(request["PATH_INFO"][1:])]


OVERHEAD = len(
    b'{"method":"get","uri":"/100","status_code":"200",'
    b'"headers":{"Content-Type":"text/plain"},"body":"","encoding":"text"}'
)


def kinds(reply):
    """The kind of problem of each entry, or its status."""
    return [
        entry["body"]["type"].rpartition(":")[2]
        if entry["headers"]["Content-Type"] == "application/problem+json"
        else int(entry["status_code"])
        for entry in reply.entries
    ]


def test_member_size_counts_the_entry_as_encoded():
    app = BatchMiddleware(sized, limits=Limits(max_member_size=OVERHEAD + 100))
    reply = batch(app, "/100", "/101", "/100")
    assert kinds(reply) == [200, "too-large", 200]
    assert reply.entries[1]["body"]["detail"] == (
        f"The entry is longer than {OVERHEAD + 100} bytes (Limits.max_member_size)."
    )


def test_reply_size():
    limits = Limits(max_reply_size=3 * (OVERHEAD + 100))
    app = BatchMiddleware(sized, limits=limits)
    assert kinds(batch(app, "/100", "/100", "/100")) == [200, 200, 200]
    assert kinds(batch(app, "/100", "/100", "/100", "/100")) == [200, 200, 200, "reply-limit"]
    reply = batch(app, "/100", "/100", "/101", "/0", "/1")
    assert kinds(reply) == [200, 200, "too-large", "reply-limit", "reply-limit"]
    assert "(Limits.max_reply_size)" in reply.entries[2]["body"]["detail"]
    assert "(Limits.max_reply_size)" in reply.entries[3]["body"]["detail"]


def test_too_large_is_a_failure():
    app = BatchMiddleware(sized, limits=Limits(max_member_size=OVERHEAD + 100))
    items = [{"uri": "/101"}, {"uri": "/100"}]
    reply = post(app, {"on-fail": "stop", "requests": items})
    assert kinds(reply) == ["too-large", "stopped"]


def test_entries_of_the_endpoint_itself_do_not_count(caplog):
    def app(request, start_response):
        if request["PATH_INFO"] == "/fail":
            raise RuntimeError
        return sized(request, start_response)

    wrapped = BatchMiddleware(
        app, limits=Limits(max_reply_size=OVERHEAD + 100, max_member_size=1000)
    )
    assert kinds(batch(wrapped, *["/fail"] * 10, "/100")) == ["application-error"] * 10 + [200]


def test_deadline():
    app = BatchMiddleware(sized, limits=Limits(deadline=0))
    reply = batch(app, "/1", "/2")
    assert kinds(reply) == ["deadline", "deadline"]
    assert "(Limits.deadline)" in reply.entries[0]["body"]["detail"]
