"""Applications that break PEP 3333 or fail, and what a batch makes of each.

Each is a member between two good ones, in process and under every server.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from .support import App, Environ

PLAIN = [("Content-Type", "text/plain")]


class Body:
    """A response body that counts how often it is closed, and in which thread."""

    closed: list[int]

    def __init__(self, chunks: Iterable[Any], close_raises: BaseException | None = None) -> None:
        self.chunks = iter(chunks)
        self.close_raises = close_raises
        self.closed = []

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self.chunks)

    def close(self) -> None:
        import threading

        self.closed.append(threading.get_ident())
        if self.close_raises:
            raise self.close_raises


class Case(NamedTuple):
    """How an application behaves, and the entry's status and decoded body; None: the problem."""

    behave: Callable[[Environ, Any], Iterable[Any] | None]
    status: str
    body: str | None


CASES: dict[str, Case] = {}
BODIES: list[Body] = []
"""Every body handed out by a case, for the tests that count how often each was closed."""


def case(status: str, body: str | None = None) -> Callable[[Any], Any]:
    def register(behave: Callable[[Environ, Any], Any]) -> Any:
        CASES[behave.__name__] = Case(behave, status, body)
        return behave

    return register


def made(*chunks: Any, close_raises: BaseException | None = None) -> Body:
    body = Body(chunks, close_raises)
    BODIES.append(body)
    return body


FAILED = "application-error"
CUT = "too-large"
PROBLEMS = (FAILED, CUT, "incomplete", "offloaded")


@case("200", "late")
def start_response_in_the_first_chunk(environ, start_response):
    yield b""
    start_response("200 OK", PLAIN)
    yield b"late"


@case("500", FAILED)
def start_response_after_the_first_chunk(environ, start_response):
    yield b"early"
    start_response("200 OK", PLAIN)


@case("500", FAILED)
def start_response_never(environ, start_response):
    return made()


@case("500", FAILED)
def start_response_never_with_a_body(environ, start_response):
    return made(b"body")


@case("500", FAILED)
def start_response_twice(environ, start_response):
    start_response("200 OK", PLAIN)
    start_response("200 OK", PLAIN)
    return made(b"body")


@case("404", "error page")
def start_response_again_with_exc_info(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html"), ("Set-Cookie", "old=1")])
    try:
        raise RuntimeError("replaced")
    except RuntimeError:
        start_response("404 Not Found", PLAIN, sys.exc_info())
    return made(b"error page")


@case("500", FAILED)
def start_response_with_exc_info_after_the_body_began(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"began"
    try:
        raise RuntimeError("raised again")
    except RuntimeError:
        start_response("500 Error", PLAIN, sys.exc_info())
    yield b"never"


@case("200", "no exception")
def start_response_with_empty_exc_info(environ, start_response):
    start_response("500 Error", PLAIN)
    start_response("200 OK", PLAIN, (None, None, None))
    return made(b"no exception")


@case("200", "written, iterated")
def write_comes_before_the_iterable(environ, start_response):
    write = start_response("200 OK", PLAIN)
    write(b"written, ")
    return made(b"iterated")


@case("500", FAILED)
def write_of_a_string(environ, start_response):
    start_response("200 OK", PLAIN)("text")
    return made()


@case("502", CUT)
def endless_write(environ, start_response):
    write = start_response("200 OK", PLAIN)
    while True:
        write(b"x" * 1000)


@case("502", CUT)
def endless_write_that_swallows_exceptions(environ, start_response):
    write = start_response("200 OK", PLAIN)
    for _ in range(10_000):
        try:
            write(b"x" * 1000)
        except BaseException:
            continue
    return made(b"as if nothing had happened")


@case("500", FAILED)
def strings_for_bytes(environ, start_response):
    start_response("200 OK", PLAIN)
    return made(b"bytes", "text")


@case("500", FAILED)
def one_string_for_the_body(environ, start_response):
    start_response("200 OK", PLAIN)
    return "text"


@case("500", FAILED)
def bytes_for_the_body(environ, start_response):
    start_response("200 OK", PLAIN)
    return b"iterates as integers"


@case("500", FAILED)
def none_for_the_body(environ, start_response):
    start_response("200 OK", PLAIN)


@case("500", FAILED)
def none_in_the_body(environ, start_response):
    start_response("200 OK", PLAIN)
    return made(None)


@case("500", FAILED)
def status_is_a_number(environ, start_response):
    start_response(200, PLAIN)
    return made(b"x")


@case("500", FAILED)
def status_is_bytes(environ, start_response):
    start_response(b"200 OK", PLAIN)
    return made(b"x")


@case("500", FAILED)
def status_has_no_reason(environ, start_response):
    start_response("200", PLAIN)
    return made(b"x")


@case("500", FAILED)
def status_has_other_digits(environ, start_response):
    start_response("２00 OK", PLAIN)
    return made(b"x")


@case("500", FAILED)
def status_has_four_digits(environ, start_response):
    start_response("2000 OK", PLAIN)
    return made(b"x")


@case("500", FAILED)
def status_has_a_line_break(environ, start_response):
    start_response("200 OK\r\nX-Injected: 1", PLAIN)
    return made(b"x")


@case("200", "x")
def status_with_an_empty_reason(environ, start_response):
    start_response("200 ", PLAIN)
    return made(b"x")


@case("500", FAILED)
def headers_are_a_tuple(environ, start_response):
    start_response("200 OK", tuple(PLAIN))
    return made(b"x")


@case("500", FAILED)
def headers_are_a_dict(environ, start_response):
    start_response("200 OK", dict(PLAIN))
    return made(b"x")


@case("500", FAILED)
def headers_are_none(environ, start_response):
    start_response("200 OK", None)
    return made(b"x")


@case("500", FAILED)
def header_value_is_a_number(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", 1)])
    return made(b"x")


@case("500", FAILED)
def header_name_is_bytes(environ, start_response):
    start_response("200 OK", [*PLAIN, (b"X-A", b"1")])
    return made(b"x")


@case("500", FAILED)
def header_has_three_parts(environ, start_response):
    start_response("200 OK", [*PLAIN, ("X-A", "1", "2")])
    return made(b"x")


@case("200", "x")
def header_injection(environ, start_response):
    bad = [
        *[("X-A", "1\r\nX-Injected: 1"), ("Set-Cookie", "a=\x01"), ("Set-Cookie", "b=€")],
        *[("X Injected", "1"), ("", "1"), ("X-Injected:", "1"), ("X\n", "1"), ("X-Ä", "1")],
    ]
    start_response("200 OK", [*PLAIN, *bad, ("X-Tab", "a\tb")])
    return made(b"x")


@case("500", FAILED)
def header_is_a_string(environ, start_response):
    start_response("200 OK", ["ab"])
    return made(b"x")


@case("500", FAILED)
def header_is_a_dict(environ, start_response):
    start_response("200 OK", [{"a": 1, "b": 2}])
    return made(b"x")


@case("500", FAILED)
def header_is_one_part(environ, start_response):
    start_response("200 OK", [("X-A\nb",)])
    return made(b"x")


@case("502", CUT)
def writes_on_in_close(environ, start_response):
    write = start_response("200 OK", PLAIN)

    def chunks():
        try:
            yield b"x" * 200_000
        finally:
            write(b"more")

    return chunks()


@case("200", "first")
def start_response_that_fails_changes_nothing(environ, start_response):
    start_response("200 OK", PLAIN)
    try:
        raise RuntimeError
    except RuntimeError:
        with contextlib.suppress(ValueError):
            start_response("bad", [("X-Two", "2")], sys.exc_info())
    return made(b"first")


@case("200", "a year of twenty digits")
def cookie_of_the_far_future(environ, start_response):
    expires = "Thu, 01 Jan 99999999999999999999 00:00:00 GMT"
    start_response("200 OK", [*PLAIN, ("Set-Cookie", f"a=b; Expires={expires}")])
    return made(b"a year of twenty digits")


@case("500", FAILED)
def raises_before_start_response(environ, start_response):
    raise RuntimeError("secret")


@case("500", FAILED)
def raises_after_start_response(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Set-Cookie", "never=1")])
    raise RuntimeError("secret")


@case("500", FAILED)
def raises_while_iterating(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Set-Cookie", "never=1")])

    def chunks():
        yield b"began"
        raise RuntimeError("secret")

    return _closing(chunks())


def _closing(chunks: Iterator[Any]) -> Body:
    body = Body(chunks)
    BODIES.append(body)
    return body


@case("500", FAILED)
def raises_at_the_end(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"all of it"
    raise ValueError("secret")


@case("200", "complete")
def raises_in_close(environ, start_response):
    start_response("200 OK", PLAIN)
    return made(b"complete", close_raises=RuntimeError("secret"))


@case("500", FAILED)
def raises_while_iterating_and_in_close(environ, start_response):
    start_response("200 OK", PLAIN)
    return made(b"x", "text", close_raises=RuntimeError("secret"))


@case("500", FAILED)
def raises_an_http_exception(environ, start_response):
    from werkzeug.exceptions import NotFound

    raise NotFound


@case("500", FAILED)
def raises_stop_iteration(environ, start_response):
    raise StopIteration


@case("500", FAILED)
def exhausts_the_stack(environ, start_response):
    return exhausts_the_stack(environ, start_response)


@case("502", CUT)
def endless(environ, start_response):
    start_response("200 OK", PLAIN)

    def chunks():
        while True:
            yield b"x" * 1000

    return _closing(chunks())


@case("502", CUT)
def endless_of_empty_chunks(environ, start_response):
    start_response("200 OK", PLAIN)

    def chunks():
        while True:
            yield b""

    return _closing(chunks())


@case("502", CUT)
def endless_before_start_response(environ, start_response):
    def chunks():
        while True:
            yield b""

    return _closing(chunks())


@case("502", CUT)
def huge(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Set-Cookie", "kept=1; Path=/")])
    return made(b"x" * 50_000_000)


@case("502", CUT)
def large_once_encoded(environ, start_response):
    start_response("200 OK", PLAIN)
    return made(b"\x01" * 60_000)


@case("200", "abc")
def more_than_its_content_length(environ, start_response):
    start_response("200 OK", [*PLAIN, ("content-length", "3")])
    return made(b"ab", b"cdef")


@case("502", "incomplete")
def less_than_its_content_length(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "1000")])
    return made(b"less")


@case("502", "incomplete")
def nothing_of_its_content_length(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "1000")])
    return made()


@case("502", "incomplete")
def a_content_length_of_5000_digits(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "9" * 5000)])
    return made(b"less")


@case("204", "")
def no_content_and_a_content_length(environ, start_response):
    start_response("204 No Content", [("Content-Length", "1000")])
    return made()


@case("502", "offloaded")
def the_server_is_to_send_a_file(environ, start_response):
    start_response("200 OK", [*PLAIN, ("X-Accel-Redirect", "/internal/secret")])
    return made()


@case("502", "offloaded")
def apache_is_to_send_a_file(environ, start_response):
    start_response("200 OK", [*PLAIN, ("X-SENDFILE", "/srv/secret")])
    return made(b"not this")


@case("200", "odd")
def content_length_is_no_number(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "-1")])
    return made(b"odd")


@case("204", "")
def a_body_with_204(environ, start_response):
    start_response("204 No Content", PLAIN)
    return made(b"not for a client")


@case("304", "")
def a_body_with_304(environ, start_response):
    start_response("304 Not Modified", PLAIN)
    return made(b"not for a client")


@case("502", CUT)
def an_endless_body_with_204(environ, start_response):
    start_response("204 No Content", PLAIN)

    def chunks():
        while True:
            yield b"x"

    return _closing(chunks())


@case("200", "mutated")
def mutates_its_environ(environ, start_response):
    environ["HTTP_AUTHORIZATION"] = "another's"
    environ["REMOTE_ADDR"] = "203.0.113.9"
    environ["PATH_INFO"] = "/elsewhere"
    environ["wsgi.url_scheme"] = "gopher"
    environ["planted"] = "planted"
    start_response("200 OK", PLAIN)
    return made(b"mutated")


@case("200", "cleared")
def clears_its_environ(environ, start_response):
    environ.clear()
    start_response("200 OK", PLAIN)
    return made(b"cleared")


@case("200", "")
def reads_past_the_end_of_its_input(environ, start_response):
    stream = environ["wsgi.input"]
    read = stream.read() + stream.read(100) + stream.readline() + b"".join(stream.readlines())
    start_response("200 OK", PLAIN)
    return made(read)


@case("200", "closed")
def closes_its_input(environ, start_response):
    environ["wsgi.input"].close()
    start_response("200 OK", PLAIN)
    return made(b"closed")


@case("200", "x")
def mutates_its_headers_later(environ, start_response):
    headers = [*PLAIN]
    start_response("200 OK", headers)
    headers.append(("X-Late", 7))
    return made(b"x")


@case("200", "a file")
def returns_a_file(environ, start_response):
    import io

    start_response("200 OK", PLAIN)
    return io.BytesIO(b"a file")


@case("200", "no close")
def close_is_no_function(environ, start_response):
    class Odd:
        close = None

        def __iter__(self):
            return iter([b"no close"])

    start_response("200 OK", PLAIN)
    return Odd()


class GeneratorOfOurOwn(BaseException):
    """Stands for `gevent.Timeout`, which is a BaseException too."""


RERAISED = [SystemExit, KeyboardInterrupt, GeneratorExit, GeneratorOfOurOwn]


def application(environ: Environ, start_response: Any) -> Any:
    """`/good` answers with its own query and client; `/<name>` behaves as that case."""
    name = environ["PATH_INFO"].strip("/")
    if name in CASES:
        return CASES[name].behave(environ, start_response)
    seen = {key: environ.get(key) for key in ("QUERY_STRING", "REMOTE_ADDR", "HTTP_AUTHORIZATION")}
    seen["planted"] = "planted" in environ
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]


app: App = application
