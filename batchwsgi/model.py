"""The values of a batch, and the ways in which it is unusable.

A batch is data. Nothing here knows a dialect, WSGI or threads. Problem documents (RFC 9457) are
written here, as they are the same in all dialects.

Two kinds of failure, never mixed: the *batch* is unusable (a `BatchError`, raised before anything
runs), or a *member* failed (a `Response` like any other).
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

from werkzeug.datastructures import Headers

FAULTS_LISTED = 100
"""How many faults a refusal lists; it then says how many more there are."""


@dataclass(slots=True, repr=False)
class Request:
    """One sub-request, complete, in the words of RFC 9110 and 9112.

    Its `repr` has the method and the path alone: error reports print the request that it is part of
    (Django mails all of it), and headers, query and body may have secrets.
    """

    method: str
    """As on the wire, upper case."""
    target: str
    """Path and query (RFC 9112 §3.2.1), ASCII, percent-encoded, relative to the mount."""
    headers: Sequence[tuple[str, str]] = ()
    """Pairs in order; a name can repeat."""
    body: bytes = b""
    """As it is sent; its length is the `Content-Length`."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


is_token = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
"""RFC 9110 §5.6.2: what a method or the name of a header is made of."""

_NOT_SHOWN = frozenset(
    (
        "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
        "trailers transfer-encoding upgrade set-cookie"
    ).split()
)
_OFFLOADING = frozenset(["x-accel-redirect", "x-sendfile", "x-lighttpd-send-file"])
"""Headers that tell a server or proxy to send a file, by its internal path, as the body."""


def _is_shown(lower: str) -> bool:
    """Whether a client sees the header: it is not about a connection, a cookie, or for a proxy."""
    return not (lower in _NOT_SHOWN or lower in _OFFLOADING or lower.startswith("x-accel-"))


class Names:
    """The names of a response's header lines, in order, and what they say.

    The responses of one application have few different ones, so that `names_of` keeps them: only
    the values are each response's own.
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


@dataclass(slots=True, repr=False)
class Response:
    """What was answered to one sub-request: by the application, or by the endpoint in its place."""

    status: int
    """The status code (RFC 9110 §15), 100 to 999."""
    reason: str
    """The reason phrase; it may be empty."""
    names: Names
    """The names of the header lines, in the order in which the application gave them."""
    values: Sequence[str]
    """The values of those lines."""
    header_size: int
    """Characters of the names and values: how long its entry may become."""
    body: bytes = b""
    """Empty where the method or status has none (RFC 9110 §6.4.1), and once it is let go."""
    problem: Problem | None = None
    """Why the endpoint answered in the application's place; None where it did not."""
    unfit: Problem | None = None
    """Why the application's response cannot be a member's; None where it can. A response that was
    cut off (`TOO_LARGE`, `TIMEOUT`) has lost its body."""

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


def response_of(
    status: int,
    reason: str,
    fields: Iterable[tuple[str, str]],
    body: bytes,
    problem: Problem | None = None,
) -> Response:
    """The response with these header lines."""
    return Response(status, reason, *split(fields), body, problem)


class Problem(enum.Enum):
    """Why the endpoint answered for a member: the name in its `type`, the status, and a title.

    The client must be able to tell *executed* from *not executed*; the title says it.
    """

    STOPPED = "stopped", 424, "Not executed: an earlier request failed"
    DEPENDENCY_FAILED = "dependency-failed", 424, "Not executed: a request it depends on failed"
    REFERENCE = "reference", 424, "Not executed: a reference could not be filled in"
    ROLLED_BACK = "rolled-back", 424, "Undone: the batch was rolled back"
    DEADLINE = "deadline", 503, "Not executed: the time for the batch was used up"
    REPLY_LIMIT = "reply-limit", 503, "Not executed: the limit of the whole reply was used up"
    APPLICATION_ERROR = "application-error", 500, "Executed: the application failed"
    TOO_LARGE = "too-large", 502, "Executed: the reply passed a limit and was cut off"
    TIMEOUT = "timeout", 504, "Executed: the reply was not complete in time and was cut off"
    OFFLOADED = "offloaded", 502, "Executed: the reply is a file that the server would have sent"
    INCOMPLETE = "incomplete", 502, "Executed: the reply ended before its Content-Length"

    def __init__(self, kind: str, status: int, title: str) -> None:
        self.kind = kind
        self.status = status
        self.title = title

    def response(self, detail: str, fields: Iterable[tuple[str, str]] = ()) -> Response:
        """The response that says so, as a problem document (RFC 9457); `fields` are added."""
        document = {
            "type": f"urn:problem-type:batchwsgi:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": shortened(detail),
        }
        return response_of(
            self.status,
            HTTPStatus(self.status).phrase,
            [("Content-Type", "application/problem+json"), *fields],
            _json(document),
            self,
        )


@dataclass(slots=True, eq=False)
class Member:
    """The whole life of one sub-request in one record; there are no lists to keep in step."""

    index: int
    """Its place in the batch, from 0."""
    request: Request
    """Complete, unless there is `bind`."""
    source: Any
    """What the dialect read it from, and needs to write its entry; only it knows the type."""
    bind: Callable[[], Request] | None = None
    """Makes the complete request of one with references to earlier replies, when its turn has come.
    Raises `Unresolved`."""
    depends_on: Collection[int] = ()
    """The places of the members that have to succeed first, all of them before its own."""
    group: int | None = None
    """Members of one group are done all or none; None for one that stands alone."""
    referenced: bool = False
    """Whether the body of its reply is needed by a later member."""
    response: Response | None = None
    """None while it waits; the application's, or a problem's if it did not run or finish."""
    entry: bytes = b""
    """Its part of the reply, as the dialect wrote it; empty before that, and once handed on."""

    @property
    def safe(self) -> bool:
        """Whether its method is one that changes nothing."""
        return self.request.method in SAFE_METHODS

    @property
    def failed(self) -> bool:
        """Whether it was answered with a status of 400 or above, by whomever."""
        return self.response is not None and self.response.status >= 400


SAFE_METHODS = frozenset(["GET", "HEAD", "OPTIONS"])
"""RFC 9110 §9.2.1, less `TRACE`, which no batch has."""


class OnFail(enum.Enum):
    """What the failure of one member does to those after it."""

    IGNORE = "ignore"
    STOP = "stop"


class Batch(NamedTuple):
    """A batch that was checked whole: every member in it may be sent."""

    members: Sequence[Member]
    on_fail: OnFail
    size: int
    """Bytes of the document: what entries repeat of it is no longer."""


class Origin(NamedTuple):
    """What others than `wsgi` need to know of the outer request."""

    mount: str = ""
    """`SCRIPT_NAME`, percent-encoded."""
    host: str = ""
    """The `Host`, or the server's name and port (RFC 9110 §7.2)."""
    https: bool = False
    """Whether the client speaks TLS, perhaps to a proxy."""
    cookie: str = ""
    """The client's own `Cookie` header."""
    client: str = "-"
    """The client's address, for the log."""
    authenticated: bool = False
    """Whether the server has checked the credentials itself."""


class Unresolved(Exception):
    """A reference of a member could not be filled in, or what it brings is not allowed."""


class Fault(NamedTuple):
    """One thing wrong with a batch document, and where: a JSON Pointer (RFC 6901) into it."""

    pointer: str
    detail: str
    """What is wrong, for a person."""


class Faults:
    """The faults of a batch document: the first `FAULTS_LISTED`, and how many there are.

    A document can have hundreds of thousands: pointers are made for those that are listed alone,
    and are not much longer than `LONGEST` characters.
    """

    def __init__(self) -> None:
        self.listed: list[Fault] = []
        self.count = 0
        self._within: tuple[str | int, ...] = ()
        self._once: set[tuple[str | int, ...]] = set()

    def enter(self, *place: str | int) -> None:
        """From now on all places are relative to this one, given as reference tokens."""
        self._within = place
        self._once.clear()

    def add(self, detail: str, *place: str | int) -> None:
        """Note that something is wrong at `place`."""
        if len(self.listed) < FAULTS_LISTED:
            self.listed.append(Fault(_pointer(*self._within, *place), shortened(detail)))
        self.count += 1

    def add_once(self, detail: str, *place: str | int) -> None:
        """The same for a place that is looked at twice: only its first fault counts."""
        if place not in self._once:
            self._once.add(place)
            self.add(detail, *place)

    def __bool__(self) -> bool:
        return self.count > 0


LONGEST = 300
"""Characters of a pointer or a detail."""


def shortened(detail: str) -> str:
    """`detail` with at most `LONGEST` characters and an ellipsis."""
    return detail if len(detail) <= LONGEST else f"{detail[:LONGEST]}…"


def shown(text: str) -> str:
    """`text` as an error can show it: quoted, escaped, short."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def _pointer(*tokens: str | int) -> str:
    """The JSON Pointer (RFC 6901 §3) of those reference tokens, or of what they are in."""
    pointer = ""
    for token in tokens:
        text = str(token)
        if len(pointer) + len(text) > LONGEST:  # before it is looked at: there may be many
            break
        pointer += "/" + text.replace("~", "~0").replace("/", "~1")
    return pointer


class BatchError(Exception):
    """The batch is unusable, and nothing of it has run. Each kind is one HTTP status."""

    status: ClassVar[int] = 400
    fields: ClassVar[Sequence[tuple[str, str]]] = ()

    def __init__(self, detail: str, faults: Faults | None = None) -> None:
        super().__init__(detail)
        self.detail = f"{shortened(detail)} Nothing was executed."
        self.faults = faults or Faults()

    def document(self) -> bytes:
        """The refusal as a problem document (RFC 9457)."""
        document: dict[str, object] = {
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.faults:
            document["errors"] = [fault._asdict() for fault in self.faults.listed]
            more = self.faults.count - len(self.faults.listed)
            if more:
                document["more"] = more
        return _json(document)


class Malformed(BatchError):
    """400: the document is not a batch, or something in it is not allowed."""

    def __init__(self, faults: Faults) -> None:
        more = faults.count - len(faults.listed)
        count = "1 fault" if faults.count == 1 else f"{faults.count} faults"
        listed = f", {more} of them not listed" if more else ""
        super().__init__(f"The batch has {count}{listed}.", faults)


class MethodNotAllowed(BatchError):
    """405: a batch is posted."""

    status = 405
    fields = (("Allow", "POST"),)


class LengthRequired(BatchError):
    """411: nothing says where the body ends."""

    status = 411


class TooLarge(BatchError):
    """413: the document, or the number of its requests, is over a limit, which is named."""

    status = 413


class Unavailable(BatchError):
    """503: the operator's transaction could not be entered."""

    status = 503


class UnsupportedMediaType(BatchError):
    """415: no dialect reads this media type or content coding."""

    status = 415


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
