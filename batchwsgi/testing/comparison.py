"""What differs between the two runs, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import AnyStr, NamedTuple

from batchwsgi.model import Problem, Response
from batchwsgi.testing.calls import Notes, cut
from batchwsgi.testing.items import Item, coding_of
from batchwsgi.testing.replies import Entry
from batchwsgi.testing.runs import Alone, Exchange, InBatch

_MOST = 8
"""How many requests are told in full, and how many headers of each."""
_NO_MEMBER_HAS = frozenset(
    (
        "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
        "trailers transfer-encoding upgrade set-cookie"
    ).split()
)


class Comparison(NamedTuple):
    """How the replies are compared, and the notes of both runs."""

    ignored: frozenset[str]
    """Names of headers that may differ, in lower case."""
    normalize: Callable[[bytes], bytes]
    """Makes of a body what is compared."""
    alone: Notes
    in_batch: Notes

    @property
    def breaches(self) -> dict[str, str]:
        """How the application breaks PEP 3333, by the place of a request."""
        return self.in_batch.breaches | self.alone.breaches

    def report(self, items: Sequence[Item], alone: Alone, in_batch: InBatch) -> str:
        """All that differs; empty if nothing does."""
        sections = {}
        for index, item in enumerate(items):
            exchange, entry = alone.exchanges[index], in_batch.entries[index]
            lines = [*self._differences(item, exchange, entry)]
            if lines:
                title = f"requests[{index}]: {exchange.request.method} {cut(str(item['uri']))}"
                sections[index] = _section(title, lines)
        cookies = [*_cookie_differences(alone.cookies, in_batch.cookies)]
        told = [*sections.values()][:_MOST]
        subjects = [f"{len(sections)} of {len(items)} requests"] if sections else []
        if len(sections) > _MOST:
            others = [str(index) for index in sections][_MOST:]
            told.append(f"… and {len(others)} more requests: {', '.join(others)}")
        if cookies:
            told.append(_section("cookies", cookies))
            subjects.append("the cookies that are set")
        if not subjects:
            return ""
        return "\n\n".join([f"Parity fails for {' and '.join(subjects)}:", *told])

    def failure(self, alone: Alone) -> str:
        """Why nothing was compared: no request was answered. Empty if one was."""
        if not all(exchange.raised for exchange in alone.exchanges):
            return ""
        error = self.alone.errors.get(alone.exchanges[0].place, "no response was started")
        return f"The application failed for each request, alone too. The first time: {error}"

    def _differences(self, item: Item, exchange: Exchange, entry: Entry) -> Iterator[str]:
        """What differs between the reply to a request alone, and its entry."""
        alone, batched, place = exchange.response, entry.response, exchange.place
        if place in self.breaches:
            yield f"breaks PEP 3333: {self.breaches[place]}"
        if (entry.method, entry.uri) != (item.get("method", "get"), item["uri"]):
            yield f"its entry is that of {entry.method.upper()} {cut(entry.uri)}"
        if alone.status != batched.status:
            reason = self.alone.errors.get(place, "") if exchange.raised else ""
            other_reason = _reason(batched, self.in_batch.errors.get(place))
            yield (
                f"status: {alone.status} alone{_because(reason)}, "
                f"{batched.status} in the batch{_because(other_reason)}"
            )
        if not exchange.raised and (alone.status == batched.status or batched.problem is None):
            headers = [*self._header_differences(alone, batched)]
            yield from headers[:_MOST]
            if len(headers) > _MOST:
                yield f"… and {len(headers) - _MOST} more headers"
            yield from self._body_differences(alone, batched, entry.encoding)

    def _header_differences(self, alone: Response, batched: Response) -> Iterator[str]:
        one, other = self._headers(alone), self._headers(batched)
        if alone.body != batched.body:  # often a hash of the body, before it is normalized
            for name in [name for name in one.keys() & other.keys() if name.lower() == "etag"]:
                del one[name], other[name]
        for name in sorted(one.keys() | other.keys()):
            value, batched_value = one.get(name), other.get(name)
            if value != batched_value:
                yield f"header {name}: {_shown(value)} alone, {_shown(batched_value)} in the batch"

    def _headers(self, response: Response) -> dict[str, str]:
        """The headers that are compared, those of one name joined (RFC 9110 §5.3)."""
        headers: dict[str, str] = {}
        for name, value in response.fields:
            lower = name.lower()
            if lower in self.ignored or lower in _NO_MEMBER_HAS or lower.startswith("x-accel-"):
                continue
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    def _body_differences(
        self, alone: Response, batched: Response, encoding: str | None
    ) -> Iterator[str]:
        one, other = alone.body, batched.body
        if encoding == "text":  # in some charsets a text can be written in several ways
            charset = coding_of(alone.headers.get("Content-Type", ""))[1]
            with suppress(UnicodeError):
                one = one.decode(charset).encode(charset)
        if one == b"null" and not other:  # a batch writes null for both
            return
        one, other = self._normalized(one), self._normalized(other)
        if one == other:
            return
        try:
            yield from _excerpts("character", one.decode(), other.decode())
        except UnicodeDecodeError:
            yield from _excerpts("byte", one, other)

    def _normalized(self, body: bytes) -> bytes:
        """`body` as it is compared. Raises `TypeError` if `normalize` gives no bytes."""
        normalized = self.normalize(body)
        if not isinstance(normalized, bytes):  # a function without `return` would hide all
            raise TypeError(f"normalize: what it gave is {normalized!r}, not bytes")
        return normalized


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n  ".join([title, *lines])


def _shown(value: str | None) -> str:
    """The value of a header, as a difference shows it."""
    return "missing" if value is None else repr(cut(value))


def _reason(response: Response, error: str | None) -> str:
    """Why the endpoint answered in place of the application; empty if it did not."""
    if response.problem is None:
        return ""
    if response.problem is Problem.APPLICATION_ERROR and error:
        return error
    document = response.json()
    return f"{document.get('title')}. {document.get('detail')}"


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _excerpts(unit: str, alone: AnyStr, batched: AnyStr) -> Iterator[str]:
    """The first place where two bodies differ, and a little of what is around it."""
    pairs = enumerate(zip(alone, batched, strict=False))
    ends = min(len(alone), len(batched))
    place = next((place for place, (one, other) in pairs if one != other), ends)
    begin = max(place - 20, 0)
    end = begin + 60
    yield f"body differs at {unit} {place}:"
    for title, body in (("alone:       ", alone), ("in the batch:", batched)):
        before = "…" if begin else ""
        after = "…" if len(body) > end else ""
        yield f"  {title} {before}{body[begin:end]!r}{after}"


def _cookie_differences(alone: Mapping[str, int], in_batch: Counter[str]) -> Iterator[str]:
    for cookie, index in alone.items():
        if cookie not in in_batch:
            yield f"{cookie}: set alone, by requests[{index}], but not in the batch"
    for cookie, count in in_batch.items():
        if cookie not in alone:
            yield f"{cookie}: set in the batch, but not alone"
        elif count > 1:
            yield f"{cookie}: set {count} times in the batch"
