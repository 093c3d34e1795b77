"""References to earlier replies: what they can name, and the look-up.

Pure: a reply is looked at step by step, and nothing is evaluated (CVE-2014-7205: references were
evaluated as code). How a reference is written is each dialect's own affair.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from batchwsgi.errors import Unresolved, shown
from batchwsgi.model import Member, OuterRequest, Response

Json = Any  # a decoded JSON value; its own type says no more

INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
"""The index of an array's element (RFC 6901 §4), or of an item."""


class Reference(NamedTuple):
    """Of which member's reply it is, and which part of it."""

    text: str
    """As it was written."""
    place: int
    """The index of that member."""
    part: str
    """`body`, `header`, `status_code` or `location`."""
    name: str = ""
    """Of a header."""
    pointer: tuple[str, ...] = ()
    """The reference tokens of the JSON Pointer into a body (RFC 6901)."""


class Replies:
    """What references find: the replies to `members` so far, by the member's place.

    `decode` gives the JSON value of a response; `outer` is the outer request. `expect` tells
    beforehand which references there are.

    A decoded body takes up to forty times its size. So it is decoded once, when a member first
    needs it, all that later members need of it is looked up, and it is let go. What is kept of it
    is JSON text.
    """

    def __init__(
        self,
        members: Sequence[Member],
        outer: OuterRequest,
        decode: Callable[[Response], Json],
        limit: int,
    ) -> None:
        self._members = members
        self._outer = outer
        self._decode = decode
        self._limit = limit
        self._needs: dict[int, list[_Need]] = {}
        """By the place of the reply, what each member needs of it."""
        self._found: dict[Reference, str] = {}
        self._missing: dict[Reference, str] = {}
        self._lock = threading.Lock()  # so that not every thread decodes a body of its own

    def expect(self, used: Iterable[Reference]) -> None:
        """Note what one member needs."""
        budget = _Budget(self._limit)
        own: dict[int, dict[Reference, None]] = {}
        for reference in used:
            own.setdefault(reference.place, {})[reference] = None
        for place, needed in own.items():
            self._needs.setdefault(place, []).append(_Need([*needed], budget))

    def value(self, reference: Reference) -> Json:
        """What `reference` stands for. Raises `Unresolved`, naming it."""
        return json.loads(self._json(reference))

    def text(self, reference: Reference) -> str:
        """The same as a part of a longer string. Raises `Unresolved` if it is not a scalar."""
        value = self.value(reference)
        if isinstance(value, dict | list):
            raise Unresolved(f"{reference.text[:200]}: not a scalar, and not alone in its place")
        return value if isinstance(value, str) else json.dumps(value)

    def check_size(self, used: Iterable[Reference]) -> None:
        """Refuse to bring more than the limit (as JSON) into one member, before any is brought.

        A small value can be repeated: thirty doublings of ten bytes are ten gigabytes.
        """
        total = 0
        for reference in used:
            total += len(self._json(reference))
            if total > self._limit:
                raise Unresolved(f"{reference.text[:200]}: {_too_large(self._limit)}")

    def _json(self, reference: Reference) -> str:
        """What `reference` stands for, as JSON. Raises `Unresolved`, naming it."""
        with self._lock:
            if reference.place in self._needs:
                self._look_up(reference.place)
        if reference in self._found:
            return self._found[reference]
        missing = self._missing.get(reference, _too_large(self._limit))
        raise Unresolved(f"{reference.text[:200]}: {missing}")

    def _look_up(self, place: int) -> None:
        """Find what members need of the reply of the one at `place`.

        A member that lacks one thing, or needs too much, will be refused, so that nothing more is
        looked up for it: each costs at most one value that is too large.
        """
        reply = _Reply(self._members[place], self._outer, self._decode, self._limit)
        for need in self._needs.pop(place):
            for reference in need.references:
                if need.budget.left < 0:
                    break
                try:
                    self._found[reference] = text = reply.part(reference)
                except (ValueError, LookupError) as error:
                    self._missing[reference] = str(error)
                    need.budget.left = -1
                except RecursionError:
                    self._missing[reference] = "it has more levels than can be read here"
                    need.budget.left = -1
                else:
                    need.budget.left -= len(text)


class _Budget:
    """What may still be looked up for one member."""

    def __init__(self, left: int) -> None:
        self.left = left
        """Characters of JSON; below 0, the member is refused."""


class _Need(NamedTuple):
    """What one member needs of one reply."""

    references: list[Reference]
    budget: _Budget


def _too_large(limit: int) -> str:
    return f"more than {limit} bytes in all (Limits.max_reference_size)"


def _is_longer(value: Json, limit: int) -> bool:
    """Whether the JSON of `value` has certainly more characters; not all of it is looked at."""
    size = 0
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            size += 2 * len(value)
        elif isinstance(value, dict):
            size += 4 * len(value) + sum(map(len, value))
        elif isinstance(value, str):
            size += len(value)
        if size > limit:
            return True
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
    return False


class _Reply:
    """The reply of one member, in the parts that references can name, each as JSON."""

    def __init__(
        self,
        member: Member,
        outer: OuterRequest,
        decode: Callable[[Response], Json],
        limit: int,
    ) -> None:
        self._target = member.request.target
        self._response = member.answer
        self._outer = outer
        self._decode = decode
        self._limit = limit
        self._undecodable = ""
        """Why the body has no value, once that is known."""
        self._body: list[Json] = []  # decoded at first use
        self._texts: dict[int, str] = {}  # by the identity of the value, which `_body` keeps

    def part(self, reference: Reference) -> str:
        """What `reference` stands for. Raises `ValueError` or `LookupError`."""
        if reference.part == "body":
            return self._in_body(reference.pointer)
        if reference.part == "status_code":
            return str(self._response.status)
        if reference.part == "location":
            return json.dumps(location(self._target, self._response, self._outer))
        names, values = self._response.shown()
        if reference.name not in names.lower:
            raise LookupError("the reply has no such header")
        return json.dumps(values[names.lower.index(reference.name)])

    def _in_body(self, pointer: Iterable[str]) -> str:
        if not self._body and not self._undecodable:
            try:
                self._body.append(self._decode(self._response))
            except ValueError as error:
                self._undecodable = str(error)
        if self._undecodable:
            raise ValueError(self._undecodable)
        value = _pointed(self._body[0], pointer)
        if id(value) not in self._texts:
            self._texts[id(value)] = self._text(value)
        return self._texts[id(value)]

    def _text(self, value: Json) -> str:
        """`value` as JSON. Raises `ValueError` for one that is too large."""
        if len(self._response.body) > self._limit and _is_longer(value, self._limit):
            raise ValueError(_too_large(self._limit))
        text = json.dumps(value)
        if len(text) > self._limit:
            raise ValueError(_too_large(self._limit))
        return text


def _pointed(value: Json, pointer: Iterable[str]) -> Json:
    """What those reference tokens lead to (RFC 6901 §4). Raises `LookupError`."""
    for step in pointer:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and INDEX.fullmatch(step) and int(step) < len(value):
            value = value[int(step)]
        else:
            raise LookupError(f"the reply has no {shown(step)} there")
    return value


# --- Location ----------------------------------------------------------------------------------

_REFERENCE = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?")
"""RFC 3986 appendix B: scheme, authority, path, query; a fragment is left over."""


def location(target: str, response: Response, outer: OuterRequest) -> str:
    """The `Location` of a response to `target`, as path and query relative to the mount.

    It is resolved against the member's own URL (RFC 9110 §10.2.2, RFC 3986 §5.2). No socket is
    opened. TLS often ends at a proxy, so http and https count as one origin. Raises `LookupError`
    for one that is not there, of another origin, or outside the mount.
    """
    if "Location" not in response.headers:
        raise LookupError("the reply has no Location")
    field = _as_utf8(response.headers["Location"].strip(" \t"))
    try:
        return own_path(field, outer, target)
    except LookupError as error:
        raise LookupError(f"its Location {error}") from None


def own_path(reference: str, outer: OuterRequest, target: str = "/") -> str:
    """Path and query, relative to the mount, of a URI reference that stands at `target`.

    Raises `LookupError` for one of another origin, or outside the mount. Hosts and ports are
    compared. TLS often ends at a proxy, so http and https count as one origin.
    """
    scheme, host, path, query = _resolved(reference, target, outer)
    if scheme not in ("http", "https") or host != _without_default_port(outer.host):
        raise LookupError("is of another origin")
    uri = _below(path, outer.mount)
    return uri if query is None else f"{uri}?{query}"


def _as_utf8(field: str) -> str:
    """A field whose bytes outside ASCII are UTF-8, as clients read them; else as it is."""
    try:
        return field if field.isascii() else field.encode("latin-1").decode()
    except UnicodeDecodeError:
        return field


def _below(path: str, mount: str) -> str:
    """`path` relative to the mount, whose segments may be percent-encoded in other ways."""
    segments, own = path.split("/"), mount.split("/")
    if [*map(unquote_to_bytes, segments[: len(own)])] != [*map(unquote_to_bytes, own)]:
        raise LookupError("is outside the application's mount")
    return "/" + "/".join(segments[len(own) :])


def _resolved(reference: str, target: str, outer: OuterRequest) -> tuple[str, str, str, str | None]:
    """Scheme, host, path and query of a URI reference in a response to `target` (RFC 3986 §5.2.2).

    Empty segments stay as they are (`urllib.parse.urljoin` drops them).
    """
    parts = _REFERENCE.match(reference)
    assert parts is not None  # it matches everything
    scheme, host, path, query = parts.groups()
    if scheme is not None or host is not None:
        own = _without_default_port(host or "")
        return (scheme or "http").lower(), own, _without_dots(path) or "/", query
    base_path, mark, base_query = (outer.mount + target).partition("?")
    if not path:
        query = (base_query if mark else None) if query is None else query
        path = base_path
    elif path.startswith("/"):
        path = _without_dots(path)
    else:
        path = _without_dots(base_path[: base_path.rindex("/") + 1] + path)
    return "http", _without_default_port(outer.host), path, query


def _without_dots(path: str) -> str:
    """`path` with its dot segments removed (RFC 3986 §5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")
    for place, segment in enumerate(segments):
        if segment not in (".", ".."):
            kept.append(segment)
            continue
        if segment == ".." and len(kept) > 1:
            kept.pop()
        if place == len(segments) - 1:  # what ends in a dot segment ends in a slash
            kept.append("")
    return "/".join(kept)


def _without_default_port(host: str) -> str:
    return re.sub(r":(80|443)?\Z", "", host.lower())
