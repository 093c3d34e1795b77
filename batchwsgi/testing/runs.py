"""The two runs: the requests one by one, and as one batch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextvars import copy_context
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from batchwsgi.model import Request, Response
from batchwsgi.testing.calls import called, place_of
from batchwsgi.testing.cookies import Cookies, cookie_of
from batchwsgi.testing.items import HAS_BODY, JSON, Item, request_of, sendable
from batchwsgi.testing.replies import Entry, entries_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

_CLIENT = {"REMOTE_ADDR": "127.0.0.1"}


class Exchange(NamedTuple):
    """A request that was sent alone, and what was answered."""

    request: Request
    place: str
    """Where the notes of it are."""
    response: Response
    """A bare 500 if the application raised an exception."""
    raised: bool


class Alone(NamedTuple):
    """What came of the requests that were sent one by one."""

    exchanges: list[Exchange]
    cookies: dict[str, int]
    """The cookies that were set, as they are compared, and by which request."""


class InBatch(NamedTuple):
    """What came of the batch."""

    entries: list[Entry]
    """One for each request."""
    cookies: Counter[str]
    """The cookies that the reply sets, as they are compared, and how often."""


def sent_in_batch(
    app: WSGIApplication, items: Sequence[Item], path: str, fields: Headers
) -> InBatch:
    """Post `items` to the endpoint at `path`. Raises `AssertionError` if it refuses them."""
    reply = posted(app, items, path, fields, {})
    entries = entries_of(reply)
    if len(entries) != len(items):
        raise AssertionError(f"The batch of {len(items)} requests has {len(entries)} entries.")
    cookies = [cookie_of(field, quote(path)) for field in reply.headers.getlist("Set-Cookie")]
    return InBatch(entries, Counter(cookie.compared for cookie in cookies))


def sent_alone(
    app: WSGIApplication, items: Iterable[Item], fields: Headers, multithread: bool
) -> Alone:
    """Send what `items` mean to `app`, one by one, each in a context of its own."""
    cookies = Cookies(fields)
    exchanges = []
    for index, item in enumerate(items):
        request = request_of(item)
        environ = _environ(request, fields, cookies.header(request.path))
        environ["wsgi.multithread"] = multithread
        place = place_of(environ)
        try:
            response = copy_context().run(called, app, environ)
        except Exception:
            exchanges.append(Exchange(request, place, Response(500, ""), raised=True))
        else:
            exchanges.append(Exchange(request, place, response, raised=False))
            cookies.keep(index, request.path, response.headers.getlist("Set-Cookie"))
    return Alone(exchanges, cookies.set_by())


def _environ(request: Request, fields: Headers, cookie: str) -> WSGIEnvironment:
    headers = fields.copy()
    for name, value in request.headers:
        headers.set(name, value.strip(" "))
    builder = _builder(request.method, request.target, headers, request.body, cookie)
    environ = builder.get_environ()
    if not request.body and request.method not in HAS_BODY:
        del environ["CONTENT_LENGTH"]
    return environ


def posted(
    app: WSGIApplication,
    items: Iterable[Item],
    path: str,
    fields: Headers,
    others: Mapping[str, object],
) -> Response:
    """The reply to a batch of `items`, posted to `path`; `others` are in its document too."""
    requests = []
    for index, item in enumerate(items):
        requests.append(sendable(index, item))
        try:
            json.dumps(requests[-1])
        except TypeError as error:
            raise TypeError(f"requests[{index}]: {error}") from None
    document = json.dumps({"requests": requests, **others}).encode()
    headers = fields.copy()
    cookie = "; ".join(headers.getlist("Cookie"))
    headers.setdefault("Content-Type", JSON)
    return called(app, _builder("POST", quote(path), headers, document, cookie).get_environ())


def _builder(
    method: str, target: str, headers: Headers, body: bytes, cookie: str
) -> EnvironBuilder:
    headers.remove("Cookie")
    if cookie:
        headers.set("Cookie", cookie)
    return EnvironBuilder(
        target,
        method=method,
        headers=headers,
        input_stream=BytesIO(body),
        environ_base=_CLIENT,
    )
