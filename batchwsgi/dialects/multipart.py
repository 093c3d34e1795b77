"""Batches as `multipart/mixed`: of OData (Part 1 §11.7), and of Google's APIs.

A part is an HTTP request, in OData also a change set of several, which are done all or none.
`mime` reads the bytes; here is what the parts mean, and what writes the reply.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import groupby

from batchwsgi.errors import BatchError, Faults, Malformed, TooLarge, shown
from batchwsgi.model import Batch, Member, OnFail, OuterRequest, Problem, Response
from batchwsgi.rules import Rules, checked_header_value

from . import odata
from .members import NO_TRANSACTION, Reader, service_root
from .mime import Message, Part, Parts, Unreadable, boundary_of, split
from .protocol import PIECE, Writer

_MULTIPART = "multipart/mixed"


class ODataMultipart:
    """The multipart format of OData 2 to 4.01; it has no state.

    `status` is that of the reply: 200, or 202 as OData 2 and 3 have it. Raises `ValueError` for any
    other.
    """

    media_type = "multipart/mixed"

    def __init__(self, status: int = 200) -> None:
        if status not in (200, 202):
            raise ValueError(f"status: {status!r} is not 200 or 202")
        self._status = f"{status:d} {HTTPStatus(status).phrase}"

    def decode(self, body: bytes, outer: OuterRequest, rules: Rules) -> Batch:
        """The batch in `body`. Raises `Malformed` with every fault in it, or `TooLarge`."""
        faults = Faults()
        reading = _Reading(body, rules, faults, change_sets=True)
        reading.read(outer.headers.get("Content-Type", ""))
        reader = Reader(
            outer,
            rules,
            faults,
            ids=[_id(request.content_id) for request in reading.requests],
            root=service_root(rules.path),
            allowed=odata.ALLOWED,
        )
        members = _members(reading.requests, reader, faults)
        return Batch(members, odata.on_fail(outer), len(body), reading.needs_transaction)

    def writer(self, batch: Batch, outer: OuterRequest) -> Writer:
        """Multipart, with the version where the client asks for one."""
        named = odata.is_named(outer)
        fields = [("OData-Version", odata.version(outer))] if named else []
        return MultipartWriter(self._status, fields)

    def refusal(self, error: BatchError) -> Mapping[str, object]:
        """The error as OData clients show it."""
        return odata.refusal(error)


class HTTPMultipart:
    """The multipart format of Google's APIs, one HTTP request in each part; it has no state."""

    media_type = "multipart/mixed"

    def decode(self, body: bytes, outer: OuterRequest, rules: Rules) -> Batch:
        """The batch in `body`. Raises `Malformed` with every fault in it, or `TooLarge`."""
        faults = Faults()
        reading = _Reading(body, rules, faults, change_sets=False)
        reading.read(outer.headers.get("Content-Type", ""))
        reader = Reader(outer, rules, faults, ids=(), root=None)
        members = _members(reading.requests, reader, faults)
        return Batch(members, OnFail.IGNORE, len(body))

    def writer(self, batch: Batch, outer: OuterRequest) -> Writer:
        """Multipart, whose parts say which part they answer."""
        return MultipartWriter("200 OK", prefix="response-")

    def refusal(self, error: BatchError) -> Mapping[str, object]:
        """Nothing: the problem document says it all."""
        return {}


# --- Reading -----------------------------------------------------------------------------------


class _Written:
    """One request as it is written in the batch, in the part that `place` names."""

    def __init__(
        self, place: tuple[int, ...], group: int | None, content_id: str, message: Message
    ) -> None:
        self.place = place
        self.group = group
        self.content_id = content_id
        """As sent; empty if there is none."""
        self.message = message


class _Reading:
    """Reads the parts of one batch: first counts them all, then makes requests of them."""

    def __init__(self, body: bytes, rules: Rules, faults: Faults, change_sets: bool) -> None:
        self._body = body
        self._rules = rules
        self._faults = faults
        self._change_sets = change_sets
        self.requests: list[_Written] = []
        self.needs_transaction = False

    def read(self, content_type: str) -> None:
        """Read a batch whose `Content-Type` is this one. Raises `TooLarge`."""
        self._faults.enter()
        parts = self._parts(content_type, 0, len(self._body))
        self._check_count(parts.count)
        opened = [self._opened((number,), *ends) for number, ends in enumerate(parts.ranges)]
        change_sets = self._split_change_sets(opened)
        # A change set is as many requests as it has parts.
        more = sum([change_set.count - 1 for change_set in change_sets.values()])
        self._check_count(parts.count + more)
        for number, part in enumerate(opened):
            if number in change_sets:
                self._read_change_set(number, change_sets[number])
            elif part is not None:
                self._read_request((number,), None, part)

    def _check_count(self, count: int) -> None:
        most = self._rules.limits.max_requests
        if count > most:
            raise TooLarge(f"requests: {count} parts, at most {most} (Limits.max_requests).")

    def _parts(self, content_type: str, start: int, end: int, *place: str) -> Parts:
        """The parts of a batch or a change set; its type is written at `place`."""
        try:
            boundary = boundary_of(content_type)
        except Unreadable as error:
            self._faults.add(str(error), *place)
            return Parts()
        parts = split(self._body, boundary, start, end, self._rules.limits.max_requests)
        if not parts.closed:
            self._faults.add("it ends early: there is no closing delimiter")
        elif not parts.count:
            self._faults.add("there are no parts, at least 1")
        return parts

    def _split_change_sets(self, opened: Sequence[Part | None]) -> dict[int, Parts]:
        """The parts of those parts that are change sets, by their number."""
        change_sets = {}
        for number, part in enumerate(opened):
            if self._change_sets and part is not None and part.essence == _MULTIPART:
                self._faults.enter(number)
                change_sets[number] = self._parts(
                    part.content_type, part.start, part.end, "headers", "Content-Type"
                )
        return change_sets

    def _opened(self, place: tuple[int, ...], start: int, end: int) -> Part | None:
        """The part there, its head read; None if it cannot be."""
        self._faults.enter(*place)
        try:
            return Part(self._body, start, end, self._rules)
        except Unreadable as error:
            self._faults.add(str(error), *error.place)
            return None

    def _read_change_set(self, number: int, parts: Parts) -> None:
        if parts.count > 1:
            self.needs_transaction = True
            if not self._rules.can_roll_back:
                self._faults.enter(number)
                self._faults.add(NO_TRANSACTION)
        for inner, ends in enumerate(parts.ranges):
            part = self._opened((number, inner), *ends)
            if part is not None:
                self._read_request((number, inner), number, part)

    def _read_request(self, place: tuple[int, ...], group: int | None, part: Part) -> None:
        self._faults.enter(*place)
        try:
            if part.essence != "application/http":
                detail = f"{shown(part.content_type)} is not application/http"
                if self._change_sets and group is None:
                    detail += f" or {_MULTIPART}"
                raise Unreadable(detail, "headers", "Content-Type")
            message = Message(self._body, part.start, part.end, self._rules)
            content_id = _checked_id(part.content_id) or _checked_id(message.content_id)
            self.requests.append(_Written(place, group, content_id, message))
        except Unreadable as error:
            self._faults.add(str(error), *error.place)


def _members(requests: Sequence[_Written], reader: Reader, faults: Faults) -> Sequence[Member]:
    """The members that `requests` are. Raises `Malformed` if there are faults."""
    for request in requests:
        faults.enter(*request.place)
        message = request.message
        reader.add(
            message.method,
            message.url,
            reader.headers(message.fields),
            message.body,
            source=request.content_id,
            group=request.group,
        )
    if faults:
        raise Malformed(faults)
    return reader.members


def _checked_id(content_id: str) -> str:
    """A `Content-ID` that can be echoed; empty if there is none."""
    try:
        content_id = checked_header_value(content_id)
    except ValueError as error:
        raise Unreadable(str(error), "headers", "Content-ID") from None
    return "" if content_id == "<>" else content_id


def _id(content_id: str) -> str | None:
    """The id by which urls refer to a request with that `Content-ID`; None if it has none."""
    if _is_bracketed(content_id):
        content_id = content_id[1:-1]
    # Header values are read as latin-1, urls as UTF-8.
    return content_id.encode("latin-1").decode(errors="surrogateescape") or None


def _is_bracketed(content_id: str) -> bool:
    return content_id.startswith("<") and content_id.endswith(">")


# --- Replying ----------------------------------------------------------------------------------


class MultipartWriter:
    """Writes one reply, with boundaries of its own that no application can guess.

    `fields` are more header lines of the reply; `prefix` is put before the `Content-ID` of a
    request in the part that answers it.
    """

    def __init__(
        self, status: str, fields: Iterable[tuple[str, str]] = (), *, prefix: str = ""
    ) -> None:
        token = secrets.token_hex(16)
        self.status = status
        # The boundary is the last parameter, and not quoted: some clients cut it out so.
        content_type = f"{_MULTIPART}; boundary=batchresponse_{token}"
        self.headers: Sequence[tuple[str, str]] = [("Content-Type", content_type), *fields]
        self.streamed = False
        self._prefix = prefix
        self._mark = b"--batchresponse_%b" % token.encode()
        self._change_set = f"changesetresponse_{token}".encode()

    def entry(self, member: Member) -> bytes:
        """What was answered to `member`, as an HTTP message."""
        response = member.answer
        names, values = response.shown()
        lines = [f"HTTP/1.1 {response.status} {response.reason or _reason(response.status)}"]
        for lower, name, value in zip(names.lower, names.sent, values, strict=True):
            if lower != "content-length":  # it may be that of a body that is not here
                lines.append(f"{name}: {value}")
        lines.append(f"Content-Length: {len(response.body)}\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1") + response.body

    def longest(self, response: Response) -> int:
        """A header line has four characters around its two parts; what is around the headers is
        shorter than 128, but for a reason of the application's own."""
        headers = response.header_size + 4 * len(response.values)
        return headers + len(response.body) + len(response.reason) + 128

    def parts(self, members: Iterable[Member]) -> Iterator[bytes]:
        """The body in pieces, so that not all of it is in memory twice."""
        piece: list[bytes] = []
        size = 0
        for written in self._written(members):
            piece.append(written)
            size += len(written)
            if size >= PIECE:
                yield b"".join(piece)
                piece = []
                size = 0
        piece.append(self._mark + b"--\r\n")
        yield b"".join(piece)

    def _written(self, members: Iterable[Member]) -> Iterator[bytes]:
        """The body, up to the closing delimiter."""
        for unit, together in groupby(members, _unit):
            yield self._mark + b"\r\n"
            if unit[0]:
                yield from self._change_set_part(list(together))
            else:
                for member in together:
                    yield from self._part(member)

    def _change_set_part(self, members: Sequence[Member]) -> Iterator[bytes]:
        """One part with those of all `members`, or the failure of the one that failed first."""
        if any(member.failed for member in members):
            yield _HTTP + b"\r\n"
            yield _culprit(members).entry
            yield b"\r\n"
            for member in members:
                member.entry = b""
            return
        yield b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n" % self._change_set
        for member in members:
            yield b"--%b\r\n" % self._change_set
            yield from self._part(member)
        yield b"--%b--\r\n" % self._change_set

    def _part(self, member: Member) -> Iterator[bytes]:
        """The part that answers `member`, whose entry is let go."""
        yield _HTTP + self._content_id(member.source) + b"\r\n"
        entry = member.entry
        member.entry = b""
        yield entry
        yield b"\r\n"

    def _content_id(self, sent: str) -> bytes:
        """The line that says which request is answered; empty if that one had no `Content-ID`."""
        if not sent:
            return b""
        place = 1 if _is_bracketed(sent) else 0
        echoed = sent[:place] + self._prefix + sent[place:]
        return b"Content-ID: %b\r\n" % echoed.encode("latin-1")


_HTTP = b"Content-Type: application/http\r\n"


def _unit(member: Member) -> tuple[bool, int]:
    """What tells members apart that are answered together; first, whether they are a change set."""
    return (False, member.index) if member.group is None else (True, member.group)


def _culprit(members: Sequence[Member]) -> Member:
    """The member of a failed change set that failed first, or its first where nobody did."""
    for member in members:
        if member.failed and member.answer.problem not in (Problem.ROLLED_BACK, Problem.STOPPED):
            return member
    return members[0]


def _reason(status: int) -> str:
    """The usual reason phrase of a status (RFC 9110 §15)."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
