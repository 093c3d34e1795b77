"""The middleware: ask "mine?", read the batch, have its members sent, reply.

Everything is wired together here and decided elsewhere: no parsing, no batch semantics.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextvars import copy_context
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import LimitedStream

from batchwsgi.browser import Example, Pages
from batchwsgi.dialects import (
    Dialect,
    Native,
    Writer,
    checked_dialects,
    choose,
    names_batch_format,
    speaks_native,
)
from batchwsgi.discovery import Discovery
from batchwsgi.errors import BatchError, LengthRequired, MethodNotAllowed, TooLarge
from batchwsgi.executors import Pool, Transaction
from batchwsgi.model import Member
from batchwsgi.options import Limits
from batchwsgi.rules import Rules
from batchwsgi.run import Run
from batchwsgi.wsgi import MARK, Gateway, authorized, checked_environ_keys, outer_request

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

Reply = tuple[str, list[tuple[str, str]], Iterable[bytes]]
"""Status, headers and body."""

_BODY_LIMIT = "(Limits.max_body_size)"
_ENDED_EARLY = "The body ended early."

_EVERY_REPLY = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]


class BatchMiddleware:
    """A WSGI application with one more URL, to which many requests are posted as one.

        app.wsgi_app = BatchMiddleware(app.wsgi_app)              # Flask
        application = BatchMiddleware(get_wsgi_application())     # Django, in wsgi.py

    Requests that are not for `path` pass through untouched. Those for `path` are answered here: the
    members of the batch are sent to `app` in the order listed, each as a whole WSGI request
    (PEP 3333) with the outer request's authorization, cookies and client identity. `OPTIONS` of
    `path` says what can be posted there.

    - `app`: the WSGI application to wrap.
    - `path`: the endpoint's path, compared with the decoded `PATH_INFO`.
    - `limits`: what one batch may use; see `Limits`.
    - `member_headers`: more request headers that a member may set; `"X-Ms-*"` is a prefix.
    - `environ_keys`: more keys of the outer environ that members inherit.
    - `authorize`: called with each member's environ just before the application, also for members
      of another endpoint outside this one and for sub-requests that pass through. It refuses by
      raising a `werkzeug.exceptions.HTTPException`, which becomes that member's response. Any other
      exception, or a return value that is not None, is that member's `application-error`.
    - `transaction`: a callable that returns a context manager; a batch with `on-fail: rollback`
      runs inside it. The README has recipes for Django and SQLAlchemy.
    - `threads`: above 0, neighbouring members with safe methods (GET, HEAD, OPTIONS) run side by
      side under `on-fail: ignore` where they take longer than half a millisecond, in that many
      threads, which all batches share, and in the server's own.
    - `encoded_slashes`: let `%2F` and `%5C` through in paths.
    - `timing`: each entry says in `Server-Timing` (W3C) when its member ran, and for how long, and
      so does the reply.
    - `client`: `GET {path}.js` is a module for browsers, whose `fetch` batches.
    - `console`: `GET {path}` is a page to try batches on; with it come `client` and `timing`.
    - `dialects`: the formats of batches that are read, each told by its media type; see
      `batchwsgi.dialects`.

    Raises `TypeError` or `ValueError` for an option that cannot be right.
    """

    example: ClassVar[Example] = Example()
    """What the console begins with."""

    def __init__(
        self,
        app: WSGIApplication,
        path: str = "/batch",
        *,
        limits: Limits = Limits(),  # noqa: B008 # frozen
        member_headers: Iterable[str] = (),
        environ_keys: Iterable[str] = (),
        authorize: Callable[[WSGIEnvironment], None] | None = None,
        transaction: Transaction | None = None,
        threads: int = 0,
        encoded_slashes: bool = False,
        dialects: Iterable[Dialect] = (Native(),),
        timing: bool = False,
        client: bool = False,
        console: bool = False,
    ) -> None:
        _check_type("app", app, callable(app), "a WSGI application")
        _check_type("path", path, isinstance(path, str), "a string")
        _check_type("limits", limits, isinstance(limits, Limits), "a Limits")
        _check_type("authorize", authorize, authorize is None or callable(authorize), "callable")
        _check_type(
            "transaction", transaction, transaction is None or callable(transaction), "callable"
        )
        _check_type("threads", threads, type(threads) is int, "an int")
        switches = {"timing": timing, "client": client, "console": console}
        for option, value in {"encoded_slashes": encoded_slashes, **switches}.items():
            _check_type(option, value, isinstance(value, bool), "a bool")
        self.app, self.path, self.limits = app, path, limits
        self._path_info = path.encode().decode("latin-1")  # as PEP 3333 has it
        self._members_app = authorized(app, authorize) if authorize else app
        self._rules = Rules(
            path, limits, member_headers, encoded_slashes, can_roll_back=transaction is not None
        )
        self._dialects = checked_dialects(dialects)
        self._discovery = Discovery(self._dialects, self._rules, console)
        self._pages = self._made_pages(console) if client or console else None
        self._environ_keys = checked_environ_keys(environ_keys)
        self._transaction, self._timing = transaction, timing or console
        self._pool = Pool(threads) if threads else None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a batch (PEP 3333), or pass the request through."""
        if self._pages is not None and (page := self._pages.answer(environ)) is not None:
            start_response(page.status, page.headers)
            return page.body
        if environ.get("PATH_INFO") != self._path_info:
            # A member of another endpoint outside, or a sub-request: `authorize` holds for it too.
            app = self._members_app if MARK in environ else self.app
            return app(environ, start_response)
        started = monotonic()
        dialect = None
        try:
            if environ["REQUEST_METHOD"] == "OPTIONS":
                status, headers, body = self._discovery.reply()
            else:
                dialect = self._dialect(environ)
                status, headers, body = self._reply(environ, dialect, started)
        except BatchError as error:
            document = error.document(dialect.refusal(error) if dialect else None)
            status = f"{error.status} {HTTPStatus(error.status).phrase}"
            length, body = _whole([document])
            headers = [("Content-Type", "application/problem+json"), *length, *error.fields]
        if self._timing and not isinstance(body, _Stream):
            milliseconds = (monotonic() - started) * 1000
            headers.append(("Server-Timing", f"batchwsgi;dur={milliseconds:.2f}"))
        start_response(status, headers + _EVERY_REPLY)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body

    def _made_pages(self, console: bool) -> Pages:
        if not speaks_native(self._dialects):
            raise ValueError("client, console: they speak the native dialect, which is not there")
        return Pages(self.path, console, self.example)

    def _dialect(self, environ: WSGIEnvironment) -> Dialect:
        """The dialect of a batch, told from the headers."""
        if environ["REQUEST_METHOD"] != "POST":
            raise MethodNotAllowed("A batch is posted.", self._discovery.allowed)
        content_encoding = environ.get("HTTP_CONTENT_ENCODING", "")
        return choose(self._dialects, environ.get("CONTENT_TYPE", ""), content_encoding)

    def _reply(self, environ: WSGIEnvironment, dialect: Dialect, started: float) -> Reply:
        """The reply to a batch. Raises `BatchError`, with nothing executed."""
        document = _body(environ, self.limits.max_body_size)
        if MARK in environ:  # by a subrequest, or a path that was rewritten on the way
            raise BatchError("A batch cannot be part of a batch.")
        outer = outer_request(environ)
        deadline = started + self.limits.deadline
        batch = dialect.decode(document, outer, self._rules)
        writer = dialect.writer(batch, outer)
        gateway = Gateway(
            self._members_app,
            environ,
            outer,
            copy_context(),
            self._environ_keys,
            without=("HTTP_ACCEPT",) if names_batch_format(outer.accept) else (),
            multithread=self._pool is not None,
            deadline=deadline,
        )
        run = Run(
            batch,
            gateway,
            writer,
            limits=self.limits,
            deadline=deadline,
            pool=self._pool,
            transaction=self._transaction,
            timed_from=started if self._timing else None,
        )
        if writer.streamed:
            return writer.status, [*writer.headers], _Stream(writer, run.members())
        headers, body = _whole(writer.parts(run.whole()))
        headers += [("Set-Cookie", cookie) for cookie in run.jar.promoted()]
        return writer.status, [*writer.headers, *headers], body


def _check_type(option: str, value: object, is_right: bool, expected: str) -> None:
    if not is_right:
        raise TypeError(f"{option}: {value!r} is not {expected}")


def _whole(parts: Iterable[bytes]) -> tuple[list[tuple[str, str]], list[bytes]]:
    """The length of a reply that is complete, as a header, and its body."""
    body = [*parts]
    return [("Content-Length", str(sum(map(len, body))))], body


class _Stream:
    """The body of a streamed reply (PEP 3333). Once closed, it starts no more members.

    The first part is made at once: until then the batch can still be refused.
    """

    def __init__(self, writer: Writer, members: Generator[Member]) -> None:
        self._members = members
        self._parts = writer.parts(members)
        self._first: bytes | None = next(self._parts)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        part, self._first = self._first, None
        return next(self._parts) if part is None else part

    def close(self) -> None:
        """End the batch where it is; members that run are waited for."""
        self._first = None
        self._parts = iter(())
        self._members.close()


def _body(environ: WSGIEnvironment, limit: int) -> bytes:
    """The body of the outer request: exactly as long as it says, and never read past its end.

    Some servers block on a read past the end; without a length, only those that mark it
    (`wsgi.input_terminated`) can be asked.
    """
    length = environ.get("CONTENT_LENGTH", "")
    stream = environ["wsgi.input"]
    if length:
        if not (length.isascii() and length.isdigit()):
            raise BatchError(f"The Content-Length is {length!a}, not a number.")
        if len(length) > 15 or int(length) > limit:
            raise TooLarge(f"The body has {length:.15} bytes, at most {limit} {_BODY_LIMIT}.")
        return _exactly(stream, int(length))
    if not environ.get("wsgi.input_terminated"):
        raise LengthRequired("The request has no Content-Length.")
    try:
        body = LimitedStream(stream, limit + 1, is_max=True).readall()
    except ClientDisconnected:
        raise BatchError(_ENDED_EARLY) from None
    if len(body) > limit:
        raise TooLarge(f"The body has more than {limit} bytes {_BODY_LIMIT}.")
    return body


def _exactly(stream: InputStream, size: int) -> bytes:
    """So many bytes of `stream`: nearly always one read, which copies nothing."""
    pieces = []
    left = size
    while left > 0:
        try:
            piece = stream.read(left)
        except (OSError, ValueError):  # servers raise either where the client has gone
            piece = b""
        if not piece:
            raise BatchError(_ENDED_EARLY)
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
