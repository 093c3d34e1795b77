"""For the tests of an application: in a batch, it has to answer as it does alone.

`assert_parity` sends the same requests to an application one by one and as one batch, and compares
the replies. `post_batch` posts one batch to an application that has the endpoint already.

The client that sends the requests one by one shares no code with what sends the members of a batch,
so that it cannot have the same bug: `items` reads what a request is, `cookies` keeps its cookies,
`calls` calls the application, `runs` has both runs. `replies` reads the batch's reply, `comparison`
tells what differs. It is for tests: no other module imports it.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING
from wsgiref.validate import WSGIWarning, validator

from werkzeug.datastructures import Headers

from batchwsgi.dialects import names_batch_format
from batchwsgi.middleware import BatchMiddleware
from batchwsgi.model import Response
from batchwsgi.options import Limits
from batchwsgi.testing.calls import Notes, watched
from batchwsgi.testing.comparison import Comparison
from batchwsgi.testing.items import Item, checked, refuse_references
from batchwsgi.testing.replies import entries_of
from batchwsgi.testing.runs import Alone, InBatch, posted, sent_alone, sent_in_batch
from batchwsgi.wsgi import is_inherited

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import TypedDict, Unpack

    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

    from batchwsgi.dialects import Dialect

    class Options(TypedDict, total=False):
        """The options of `BatchMiddleware`."""

        path: str
        limits: Limits
        member_headers: Iterable[str]
        environ_keys: Iterable[str]
        authorize: Callable[[WSGIEnvironment], None] | None
        transaction: Callable[[], AbstractContextManager[object]] | None
        encoded_slashes: bool
        dialects: Iterable[Dialect]
        timing: bool
        client: bool
        console: bool


__all__ = ["assert_parity", "post_batch"]

HeaderFields = Mapping[str, str] | Iterable[tuple[str, str]]

_SAME = "make_app gave the same application twice: the second run found what the first had left."
_THREADS = (
    "With threads, safe requests beside each other run at the same time: one does not see the "
    "cookies that another sets, and may not see what else it changes. One that depends on it "
    "(depends-on) does."
)
_BREACHES = "With validate=False, PEP 3333 is not looked at."


def assert_parity(
    make_app: Callable[[], WSGIApplication],
    requests: Iterable[Item],
    *,
    headers: HeaderFields = (),
    threads: int = 0,
    ignore_headers: Iterable[str] = ("Date", "Expires", "Last-Modified"),
    normalize: Callable[[bytes], bytes] | None = None,
    validate: bool = True,
    **options: Unpack[Options],
) -> None:
    """Assert that an application answers each of `requests` in a batch as it does alone.

        def test_my_application_is_the_same_in_a_batch():
            assert_parity(create_app, [
                {"method": "post", "uri": "/login", "args": {"name": "ada"}},
                {"uri": "/user/~me"},
                {"method": "delete", "uri": "/orders/1"},
            ])

    The requests are posted to one application as a batch, and sent to another one by one, by a
    client that keeps cookies. If anything differs, an `AssertionError` tells what:

        Parity fails for 1 of 3 requests:

        requests[1]: GET /user/~me
          status: 200 alone, 401 in the batch
          header Content-Length: '16' alone, '19' in the batch
          body differs at character 2:
            alone:        '{"name": "Ada"}\\n'
            in the batch: '{"error": "log in"}'

    - `make_app`: gives a fresh application each time. The first is done with before the second is
      made, so that it can reset a database.
    - `requests`: items of the native format. A `body` may be `bytes`, for an upload; without a
      `Content-Type` it is `application/octet-stream`.
    - `headers`: what the batch has, and each request that is sent alone: `Authorization`, `Cookie`.
      With `X-Forwarded-Proto: https` the client sends cookies that are `Secure`.
    - `threads`, `options`: those of `BatchMiddleware`. `limits.max_requests` fits itself.
    - `ignore_headers`: names of response headers that may differ.
    - `normalize`: gives the bytes of a body without what is new each time, such as tokens and
      times. `Content-Length` is then not compared.
    - `validate`: both applications run inside `wsgiref.validate`, and where one breaks PEP 3333,
      that fails too. Some real applications do (a header whose value is an integer).

    Compared are status, headers and body of each reply, and the cookies that they set, by name,
    Domain, Path and flags. An `ETag` is often a hash of the body, and is not compared where bodies
    differ before `normalize`. An application that raises an exception is a 500 alone, of which only
    the status is compared. Not compared is what no member has: headers of a connection (RFC 9110
    §7.6.1), and those for a proxy (`X-Accel-*`).

    Raises `AssertionError` also where the batch is refused, and where the application fails for
    each request, so that nothing was compared. Raises `TypeError` or `ValueError` for arguments
    that cannot be right: a `make_app` that is an application itself, references to earlier replies,
    which mean nothing alone, and `headers` that members do not inherit.
    """
    __tracebackhide__ = True  # pytest then shows the line that called this, and the message
    items = checked(requests)
    refuse_references(items)
    fields = _inherited(headers)
    ignored = _ignored(ignore_headers, normalize is not None, options)
    comparison = Comparison(ignored, normalize or bytes, Notes(), Notes())
    limits = options.setdefault("limits", Limits())
    if isinstance(limits, Limits):  # if not, `BatchMiddleware` says so
        options["limits"] = replace(limits, max_requests=max(limits.max_requests, len(items)))
    _check_factory(make_app)

    def in_batch(app: WSGIApplication) -> InBatch:
        app = watched(app, comparison.in_batch, validate)
        app = BatchMiddleware(app, threads=threads, **options)
        path = options.get("path", "/batch")
        return sent_in_batch(validator(app) if validate else app, items, path, fields)

    def alone(app: WSGIApplication) -> Alone:
        app = watched(app, comparison.alone, validate)
        return sent_alone(app, items, fields, multithread=threads > 0)

    batched, single, is_same = _both(make_app, in_batch, alone)
    if report := comparison.report(items, single, batched):
        hints = {_SAME: is_same, _THREADS: threads > 0, _BREACHES: bool(comparison.breaches)}
        told = [hint for hint, applies in hints.items() if applies]
        raise AssertionError("\n\n".join([report, *told]))
    if failure := comparison.failure(single):
        raise AssertionError(failure)


def post_batch(
    app: WSGIApplication,
    requests: Iterable[Item],
    *,
    path: str = "/batch",
    headers: HeaderFields = (),
    **document_members: object,
) -> list[Response]:
    """Post a batch to `app`, which has the endpoint at `path`; gives the reply to each request.

        login, order = post_batch(app, [
            {"method": "post", "uri": "/login", "args": {"name": "ada"}},
            {"uri": "/orders/1"},
        ], on_fail="stop")
        assert order.json()["sku"] == "A1"

    `app` is called in this process, as a server would call it. For Django it is the `application`
    of `wsgi.py`, which Django's own test client bypasses. `requests` are items of the native
    format, and a `body` may be `bytes`; `headers` are those of the batch request. Other members of
    the batch document are given by name, `on_fail` for `on-fail`. A `Response` has the bytes of the
    body (a text in the charset of its `Content-Type`), and its `problem` is set where the endpoint
    answered in place of the application.

    Raises `AssertionError`, with the problem document, if the batch is refused.
    """
    __tracebackhide__ = True
    others = {name.replace("_", "-"): value for name, value in document_members.items()}
    reply = posted(app, checked(requests), path, _checked_headers(headers), others)
    return [entry.response for entry in entries_of(reply)]


def _both(
    make_app: Callable[[], WSGIApplication],
    in_batch: Callable[[WSGIApplication], InBatch],
    alone: Callable[[WSGIApplication], Alone],
) -> tuple[InBatch, Alone, bool]:
    """Both runs, each with an application of its own, and whether that was the same one.

    Nothing here keeps the first application when the second is made.
    """
    with warnings.catch_warnings():  # it warns of the methods of WebDAV
        warnings.filterwarnings("ignore", "Unknown REQUEST_METHOD", WSGIWarning)
        app = _made(make_app)
        first = _reference_to(app)
        batched = in_batch(app)
        del app
        app = _made(make_app)
        return batched, alone(app), first() is app


def _inherited(headers: HeaderFields) -> Headers:
    """The headers. Raises `ValueError` for one that members do not inherit."""
    fields = _checked_headers(headers)
    for name, value in fields:
        asks_for_format = name.lower() == "accept" and names_batch_format(value)
        if asks_for_format or not is_inherited(f"HTTP_{name.upper().replace('-', '_')}"):
            raise ValueError(f"headers: members do not inherit {name}: {value}")
    return fields


def _ignored(names: Iterable[str], is_normalized: bool, options: Options) -> frozenset[str]:
    """The names of headers that are not compared, in lower case."""
    if isinstance(names, str):
        raise TypeError(f"ignore_headers: {names!r} is not a sequence of names")
    ignored = {name.lower() for name in names}
    if is_normalized:
        ignored.add("content-length")
    if options.get("timing") or options.get("console"):
        ignored.add("server-timing")
    return frozenset(ignored)


def _checked_headers(headers: HeaderFields) -> Headers:
    if isinstance(headers, str):
        raise TypeError(f"headers: {headers!r} is neither a mapping nor a sequence of pairs")
    return Headers(headers)


def _check_factory(make_app: object) -> None:
    """Raise `TypeError` for what cannot be called without arguments."""
    if not callable(make_app):
        raise TypeError(f"make_app: {make_app!r} is not callable")
    try:
        signature(make_app).bind()
    except ValueError:  # one in C does not say what it takes
        pass
    except TypeError:
        raise TypeError(
            f"make_app: {make_app!r} needs arguments. It has to be a function that makes the "
            "application, and not the application."
        ) from None


def _made(make_app: Callable[[], WSGIApplication]) -> WSGIApplication:
    app = make_app()
    if not callable(app):
        raise TypeError(f"make_app: what it gave is {app!r}, not a WSGI application")
    return app


def _reference_to(app: WSGIApplication) -> Callable[[], object]:
    """What gives `app` as long as something else keeps it."""
    try:
        return weakref.ref(app)
    except TypeError:
        return lambda: None
