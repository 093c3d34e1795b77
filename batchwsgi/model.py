"""The values of a batch. A batch is data: nothing here knows a dialect, WSGI or threads.

`Request` and `Response` are one sub-request and what was answered to it, `Member` is its whole life
in one record, `Batch` is all of them. `Problem` is what the endpoint answers where the application
did not.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

from werkzeug.datastructures import Headers

from batchwsgi.errors import problem_document, shortened

SAFE_METHODS = frozenset(["GET", "HEAD", "OPTIONS"])
"""RFC 9110 §9.2.1, without `TRACE`, which no batch has."""

is_token = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
"""RFC 9110 §5.6.2: what a method or the name of a header is made of."""


@dataclass(init=False, repr=False)
class Request:
    """One sub-request, complete, in the words of RFC 9110 and 9112.

    Its `repr` has the method and the path alone: error reports print the request that it is part of
    (Django mails all of it), and headers, query and body may have secrets.
    """

    method: str
    """As on the wire, upper case."""
    target: str
    """Path and query (RFC 9112 §3.2.1), ASCII, percent-encoded, relative to the mount."""
    headers: Sequence[tuple[str, str]]
    """Pairs in order; a name can repeat."""
    body: bytes
    """As it is sent; its length is the `Content-Length`."""

    def __init__(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


# --- Responses ---------------------------------------------------------------------------------

_NOT_SHOWN = frozenset(
    (
        "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
        "trailers transfer-encoding upgrade set-cookie"
    ).split()
)
_OFFLOADING = frozenset(["x-accel-redirect", "x-sendfile", "x-lighttpd-send-file"])
"""Headers that tell a server or proxy to send a file, by its internal path, as the body."""


class Names:
    """The header names of a response and what follows from them, worked out once per set of names.

    The responses of one application have few different sets, which `names_of` keeps. Values are
    each response's own, and are never kept.
    """

    def __init__(self, sent: tuple[str, ...]) -> None:
        lower = [name.lower() for name in sent]
        self.sent = sent
        """As the application gave them."""
        self.lower = tuple(lower)
        self.well_formed = all(map(is_token, sent))
        """Whether each can be passed on (RFC 9110 §5.1)."""
        self.content_lengths = tuple(n for n, name in enumerate(lower) if name == "content-length")
        """The places of `Content-Length`, from 0."""
        self.content_type = lower.index("content-type") if "content-type" in lower else None
        """The place of the first `Content-Type`, or None."""
        self.sets_cookies = "set-cookie" in lower
        self.offloads = not _OFFLOADING.isdisjoint(lower)
        """Whether the server is told to send a file in place of the body."""
        self.size = sum(map(len, sent))
        """Characters of all."""
        self.shown_as_sent = len(set(lower)) == len(lower) and all(map(_is_shown, lower))
        """Whether the lines are shown as they are: none is hidden, none joined with another."""


names_of = lru_cache(maxsize=256)(Names)
"""`Names` by the names as sent."""


def _is_shown(lower: str) -> bool:
    """Whether a client sees the header: it is not about a connection, a cookie, or for a proxy."""
    return not (lower in _NOT_SHOWN or lower in _OFFLOADING or lower.startswith("x-accel-"))


@dataclass(init=False, repr=False)
class Response:
    """What was answered to one sub-request: by the application, or by the endpoint in its place.

    Response(200, "OK", [("Content-Type", "text/plain")], b"hello")
    """

    status: int
    """The status code (RFC 9110 §15), 100 to 999."""
    reason: str
    """The reason phrase; it may be empty."""
    body: bytes
    """Empty where the method or status has none (RFC 9110 §6.4.1), and once it is let go."""
    problem: Problem | None
    """This *is* the endpoint's own response, and says why; None if it is the application's."""
    unfit: Problem | None
    """This is the application's response, and why the endpoint has to replace it; None if it need
    not. A response that was cut off (`TOO_LARGE`, `TIMEOUT`) has lost its body."""

    # The header lines. One object for all three would cost each response 1,300 instructions.
    names: Names
    """Their names, in the order in which the application gave them."""
    values: Sequence[str]
    """Their values."""
    header_size: int
    """Characters of the names and values: how long its entry may become."""

    def __init__(
        self,
        status: int,
        reason: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        problem: Problem | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.body = body
        self.problem = problem
        self.unfit = None
        self.names, self.values, self.header_size = split(headers) if headers else _NO_LINES

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason}>"

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The header lines: name and value."""
        return [*zip(self.names.sent, self.values, strict=True)]

    @property
    def headers(self) -> Headers:
        """The header lines with case-insensitive look-up: `response.headers["location"]`."""
        return Headers(self.fields)

    def add_field(self, name: str, value: str) -> None:
        """Add a header line behind the others."""
        self.names = names_of((*self.names.sent, name))
        self.values = [*self.values, value]
        self.header_size += len(name) + len(value)

    def json(self) -> Any:  # what JSON holds has no narrower type
        """The body as `json.loads` reads it (RFC 8259). Raises `ValueError` if it is not JSON."""
        return json.loads(self.body)

    def shown(self) -> tuple[Names, Sequence[str]]:
        """The headers that a client is shown, names and values.

        Repeated ones are joined (RFC 9110 §5.3). Not shown is what is about a connection (§7.6.1),
        which a member has not; `Set-Cookie`, which goes where scripts do not see it; and what is
        for a proxy, such as `X-Accel-*`.
        """
        if self.names.shown_as_sent:
            return self.names, self.values
        headers: dict[str, tuple[str, str]] = {}
        for lower, (name, value) in zip(self.names.lower, self.fields, strict=True):
            if lower in headers:
                first_name, before = headers[lower]
                headers[lower] = first_name, f"{before}, {value}"
            elif _is_shown(lower):
                headers[lower] = name, value
        names, values, _ = split(headers.values())
        return names, values

    @property
    def set_cookies(self) -> list[tuple[str, str]]:
        """The `Set-Cookie` lines: name and value."""
        lines = zip(self.names.lower, self.fields, strict=True)
        return [field for lower, field in lines if lower == "set-cookie"]


def split(fields: Iterable[tuple[str, str]]) -> tuple[Names, list[str], int]:
    """Header lines as their names, their values, and the characters of both."""
    names = []
    values = []
    for name, value in fields:
        names.append(name)
        values.append(value)
    known = names_of(tuple(names))
    return known, values, known.size + sum(map(len, values))


_NO_LINES: tuple[Names, Sequence[str], int] = (names_of(()), (), 0)


class Problem(enum.Enum):
    """Why the endpoint answered for a member: the name in its `type`, the status, and a title.

    The client must be able to tell *executed* from *not executed*; the title says it.
    """

    STOPPED = "stopped", 424, "Not executed: an earlier request failed"
    DEPENDENCY_FAILED = "dependency-failed", 424, "Not executed: a request it depends on failed"
    REFERENCE = "reference", 424, "Not executed: a reference could not be filled in"
    ROLLED_BACK = "rolled-back", 424, "Undone: its transaction was rolled back"
    UNAVAILABLE = "unavailable", 503, "Not executed: the transaction could not be entered"
    DEADLINE = "deadline", 503, "Not executed: the time for the batch was used up"
    REPLY_LIMIT = "reply-limit", 503, "Not executed: the limit of the whole reply was used up"
    APPLICATION_ERROR = "application-error", 500, "Executed: the application failed"
    TOO_LARGE = "too-large", 502, "Executed: the reply passed a limit and was cut off"
    TIMEOUT = "timeout", 504, "Executed: the reply was not complete in time and was cut off"
    OFFLOADED = "offloaded", 502, "Executed: the reply is a file that the server would have sent"
    INCOMPLETE = "incomplete", 502, "Executed: the reply ended before its Content-Length"

    @property
    def executed(self) -> bool:
        """Whether the application was called."""
        return not self.value[2].startswith("Not executed")

    def response(
        self, detail: str, fields: Iterable[tuple[str, str]] = (), title: str = ""
    ) -> Response:
        """The response that says so, as a problem document (RFC 9457); `fields` are added."""
        kind, status, usual_title = self.value
        document = {
            "type": f"urn:problem-type:batchwsgi:{kind}",
            "title": title or usual_title,
            "status": status,
            "detail": shortened(detail),
        }
        headers = [("Content-Type", "application/problem+json"), *fields]
        return Response(
            status, HTTPStatus(status).phrase, headers, problem_document(document), self
        )


# --- The batch ---------------------------------------------------------------------------------


@dataclass(init=False, eq=False, repr=False)
class Member:
    """The whole life of one sub-request in one record; there are no lists to keep in step."""

    index: int
    """Its place in the batch, from 0."""
    request: Request
    """Complete, unless there is `bind`."""
    source: Any
    """What the dialect read it from, and needs to write its entry; only it knows the type."""
    bind: Callable[[], Request] | None
    """Makes the complete request of one with references to earlier replies, when its turn has come.
    Raises `Unresolved`."""
    depends_on: Collection[int]
    """The places of the members that have to succeed first, all of them before its own."""
    group: int | None
    """Members of one group are done all or none; None for one that stands alone."""
    referenced: bool
    """Whether the body of its reply is needed by a later member."""
    response: Response | None
    """None while it waits; the application's, or a problem's if it did not run or finish."""
    entry: bytes
    """Its part of the reply, as the dialect wrote it; empty before that, and once handed on."""
    timing: str
    """What `Server-Timing` says of it; empty if it was not sent, or is not to say anything."""

    def __init__(self, index: int, request: Request, source: Any) -> None:
        self.index = index
        self.request = request
        self.source = source
        self.bind = None
        self.depends_on = ()
        self.group = None
        self.referenced = False
        self.response = None
        self.entry = b""
        self.timing = ""

    def __repr__(self) -> str:
        return f"<Member {self.index}: {self.request}>"

    @property
    def safe(self) -> bool:
        """Whether its method is one that changes nothing."""
        return self.request.method in SAFE_METHODS

    @property
    def failed(self) -> bool:
        """Whether it was answered with a status of 400 or above, by whomever."""
        return self.response is not None and self.response.status >= 400

    @property
    def answer(self) -> Response:
        """The response of a member that has one."""
        assert self.response is not None
        return self.response


class OnFail(enum.Enum):
    """What the failure of one member does to those after it."""

    IGNORE = "ignore"
    STOP = "stop"
    ROLLBACK = "rollback"


class Batch(NamedTuple):
    """A batch that was checked whole: every member in it may be sent."""

    members: Sequence[Member]
    on_fail: OnFail
    size: int
    """Bytes of the document. All entries together repeat at most this much of it."""
    needs_transaction: bool = False
    """Whether there is a group of several members: it has to be undone if one of them fails."""


class OuterRequest(NamedTuple):
    """The outer request, as far as others than `wsgi` need to know it."""

    headers: Headers = Headers()
    """Its own headers, with case-insensitive look-up; not to be changed."""
    mount: str = ""
    """`SCRIPT_NAME`, percent-encoded."""
    host: str = ""
    """The `Host`, or the server's name and port (RFC 9110 §7.2)."""
    https: bool = False
    """Whether the client speaks TLS, perhaps to a proxy."""
    accept: str = ""
    """The client's `Accept` header."""
    cookie: str = ""
    """The client's own `Cookie` header."""
    client: str = "-"
    """The client's address, for the log."""
    authenticated: bool = False
    """Whether the server has checked the credentials itself."""

    def __repr__(self) -> str:
        return f"<OuterRequest at {self.host}{self.mount}>"  # and no header
