"""The middleware: ask "mine?", read the batch, have its members sent, reply.

Everything is wired together here and decided elsewhere: no parsing, no batch semantics.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextvars import copy_context
from http import HTTPStatus
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import LimitedStream

from batchwsgi import cookies
from batchwsgi.dialects import Dialect, choose
from batchwsgi.dialects.native import Native
from batchwsgi.executors import one_after_another
from batchwsgi.model import (
    Batch,
    BatchError,
    LengthRequired,
    Member,
    MethodNotAllowed,
    Problem,
    Response,
    TooLarge,
)
from batchwsgi.options import Limits
from batchwsgi.rules import Rules
from batchwsgi.schedule import Schedule
from batchwsgi.wsgi import MARK, Outer, authorized, checked_environ_keys

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

access_log = logging.getLogger("batchwsgi.access")

_DIALECTS: tuple[Dialect, ...] = (Native(),)

_BODY_LIMIT = "(Limits.max_body_size)"

_EVERY_REPLY = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]


class BatchMiddleware:
    """A WSGI application with one more URL, to which many requests are posted as one.

        app.wsgi_app = BatchMiddleware(app.wsgi_app)              # Flask
        application = BatchMiddleware(get_wsgi_application())     # Django, in wsgi.py

    Requests that are not for `path` pass through untouched. Those that are get an answer from here:
    the members of the batch are sent to `app` one after the other, each as a whole WSGI request
    (PEP 3333) with the outer request's authorization, cookies and client identity.

    - `app`: the WSGI application to wrap.
    - `path`: the endpoint's path, compared with the decoded `PATH_INFO`.
    - `limits`: what one batch may use; see `Limits`.
    - `member_headers`: more request headers that a member may set; `"X-Ms-*"` is a prefix.
    - `environ_keys`: more keys of the outer environ that members inherit.
    - `authorize`: called with each member's environ just before the application. It refuses by
      raising a `werkzeug.exceptions.HTTPException`, which becomes that member's response.
    - `encoded_slashes`: let `%2F` and `%5C` through in paths.

    Raises `TypeError` or `ValueError` for an option that cannot be right.
    """

    def __init__(
        self,
        app: WSGIApplication,
        path: str = "/batch",
        *,
        limits: Limits = Limits(),  # noqa: B008 # frozen
        member_headers: Iterable[str] = (),
        environ_keys: Iterable[str] = (),
        authorize: Callable[[WSGIEnvironment], None] | None = None,
        encoded_slashes: bool = False,
    ) -> None:
        if not path.startswith("/"):
            raise ValueError(f"path: {path!r} does not begin with /")
        if authorize is not None and not callable(authorize):
            raise TypeError(f"authorize: {authorize!r} cannot be called")
        self.app = app
        self.path = path
        self.limits = limits
        self._path_info = path.encode().decode("latin-1")  # as PEP 3333 has it
        self._members_app = authorized(app, authorize) if authorize else app
        self._rules = Rules(path, limits, member_headers, encoded_slashes)
        self._environ_keys = checked_environ_keys(environ_keys)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a batch (PEP 3333), or pass the request through."""
        if environ.get("PATH_INFO") != self._path_info:
            return self.app(environ, start_response)
        deadline = monotonic() + self.limits.deadline
        try:
            status, headers, body = self._reply(environ, deadline)
        except BatchError as error:
            status, body = error.status, error.document()
            headers = [("Content-Type", "application/problem+json"), *error.fields]
        headers += [("Content-Length", str(len(body))), *_EVERY_REPLY]
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _reply(
        self, environ: WSGIEnvironment, deadline: float
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body. Raises `BatchError`, with nothing executed."""
        dialect = _dialect(environ)
        body = _body(environ, self.limits.max_body_size)
        if MARK in environ:
            raise BatchError("A batch cannot be part of a batch.")
        outer = Outer(self._members_app, environ, copy_context(), self._environ_keys)
        batch = dialect.decode(body, self._rules, outer.origin.authenticated)
        run = _Run(outer, dialect, batch, self.limits)
        for _ in one_after_another(run.schedule, run.finish, deadline):
            pass
        headers = [("Content-Type", dialect.reply_type)]
        for cookie in cookies.promoted(batch.members, outer.origin.mount):
            headers.append(("Set-Cookie", cookie))
        return 200, headers, dialect.encode(member.entry for member in batch.members)


class _Run:
    """One batch on its way: what finishing a member needs, and what is left of the limits."""

    def __init__(self, outer: Outer, dialect: Dialect, batch: Batch, limits: Limits) -> None:
        self.schedule = Schedule(batch)
        self._outer = outer
        self._dialect = dialect
        self._count = len(batch.members)
        self._member_limit = limits.max_member_size
        self._reply_left = limits.max_reply_size
        self._logs = access_log.isEnabledFor(logging.INFO)

    def finish(self, member: Member) -> None:
        """Send `member` if it has no response yet, write its entry, and tell the schedule.

        The entry comes before the schedule is told: its length may make the member a failure.
        """
        if member.response is not None:
            member.entry = self._dialect.entry(member)
            return
        limit = min(self._member_limit, self._reply_left)
        member.response = self._send(member, limit)
        member.entry = self._dialect.entry(member)
        problem = member.response.problem
        if problem is Problem.TOO_LARGE or (problem is None and len(member.entry) > limit):
            self._cut_off(member, member.response, limit)
        elif problem is None:
            self._reply_left -= len(member.entry)
        if not self._reply_left:
            self.schedule.end(
                Problem.REPLY_LIMIT, "The reply is as long as it may be (Limits.max_reply_size)."
            )
        self.schedule.done(member)

    def _send(self, member: Member, limit: int) -> Response:
        """The application's response to `member`, with a line in the access log."""
        if not self._logs:
            return self._outer.send(member.request, limit)
        started = perf_counter()
        response = self._outer.send(member.request, limit)
        origin = self._outer.origin
        access_log.info(
            '%s "%s %s%s" %d %d %.3f ms, member %d of %d',
            origin.client,
            member.request.method,
            origin.mount,
            member.request.target,
            response.status,
            len(response.body),
            (perf_counter() - started) * 1000,
            member.index + 1,
            self._count,
        )
        return response

    def _cut_off(self, member: Member, response: Response, limit: int) -> None:
        """Answer for `member`, whose `response` is longer than `limit`; its cookies stay."""
        name = "max_member_size"
        if limit == self._reply_left:
            name = "max_reply_size"
            self._reply_left = 0
        member.response = Problem.TOO_LARGE.response(
            f"The entry is longer than {limit} bytes (Limits.{name}).",
            [field for field in response.fields if field[0].lower() == "set-cookie"],
        )
        member.entry = self._dialect.entry(member)


def _dialect(environ: WSGIEnvironment) -> Dialect:
    """The dialect of a batch, told from the headers."""
    if environ["REQUEST_METHOD"] != "POST":
        raise MethodNotAllowed("A batch is posted.")
    content_encoding = environ.get("HTTP_CONTENT_ENCODING", "")
    return choose(_DIALECTS, environ.get("CONTENT_TYPE", ""), content_encoding)


def _body(environ: WSGIEnvironment, limit: int) -> bytes:
    """The body of the outer request: exactly as long as it says, and never read past its end.

    Some servers block on a read past the end; without a length, only those that mark it
    (`wsgi.input_terminated`) can be asked.
    """
    length = environ.get("CONTENT_LENGTH", "")
    if length:
        if not (length.isascii() and length.isdigit()):
            raise BatchError(f"The Content-Length is {length!a}, not a number.")
        if len(length) > 15 or int(length) > limit:
            raise TooLarge(f"The body has {length:.15} bytes, at most {limit} {_BODY_LIMIT}.")
        stream = LimitedStream(environ["wsgi.input"], int(length))
    elif environ.get("wsgi.input_terminated"):
        stream = LimitedStream(environ["wsgi.input"], limit + 1, is_max=True)
    else:
        raise LengthRequired("The request has no Content-Length.")
    try:
        body = stream.readall()
    except ClientDisconnected:
        raise BatchError("The body ended early.") from None
    if len(body) > limit:
        raise TooLarge(f"The body has more than {limit} bytes {_BODY_LIMIT}.")
    return body
