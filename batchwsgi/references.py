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
        self._expected: dict[int, list[list[Reference]]] = {}  # by place, a list for each member
        self._found: dict[Reference, str] = {}
        self._missing: dict[Reference, str] = {}
        self._lock = threading.Lock()  # so that not every thread decodes a body of its own

    def expect(self, used: Iterable[Reference]) -> None:
        """Note what one member needs."""
        own: dict[int, dict[Reference, None]] = {}
        for reference in used:
            own.setdefault(reference.place, {})[reference] = None
        for place, needed in own.items():
            self._expected.setdefault(place, []).append([*needed])

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

        What is small can be repeated: thirty doublings of ten bytes are ten gigabytes.
        """
        total = 0
        for reference in used:
            total += len(self._json(reference))
            if total > self._limit:
                raise Unresolved(
                    f"{reference.text[:200]}: more than {self._limit} bytes in all "
                    "(Limits.max_reference_size)"
                )

    def _json(self, reference: Reference) -> str:
        """What `reference` stands for, as JSON. Raises `Unresolved`, naming it."""
        with self._lock:
            if reference.place in self._expected:
                self._look_up(reference.place)
        if reference in self._missing:
            raise Unresolved(f"{reference.text[:200]}: {self._missing[reference]}")
        return self._found[reference]

    def _look_up(self, place: int) -> None:
        """Find what members need of the reply of the one at `place`.

        Of what is too much for one member, `check_size` refuses the first that is over the limit,
        so the rest is not looked at.
        """
        reply = _Reply(self._members[place], self._outer, self._decode)
        for needed in self._expected.pop(place):
            left = self._limit
            for reference in needed:
                try:
                    self._found[reference] = text = reply.part(reference)
                except (ValueError, LookupError) as error:
                    self._missing[reference] = str(error)
                    break
                except RecursionError:
                    self._missing[reference] = "it has more levels than can be read here"
                    break
                left -= len(text)
                if left < 0:
                    break


class _Reply:
    """The reply of one member, in the parts that references can name, each as JSON."""

    def __init__(
        self, member: Member, outer: OuterRequest, decode: Callable[[Response], Json]
    ) -> None:
        self._target = member.request.target
        self._response = member.answer
        self._outer = outer
        self._decode = decode
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
        if not self._body:
            self._body.append(self._decode(self._response))
        value = _pointed(self._body[0], pointer)
        if id(value) not in self._texts:
            self._texts[id(value)] = json.dumps(value)
        return self._texts[id(value)]


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

    Resolved against the member's own URL (RFC 9110 §10.2.2, RFC 3986 §5.2). No socket is opened,
    and TLS often ends at a proxy: http and https are one outer. Raises `LookupError` for one that
    is not there, of another origin, or outside the mount.
    """
    if "Location" not in response.headers:
        raise LookupError("the reply has no Location")
    scheme, host, path, query = _resolved(response.headers["Location"].strip(" \t"), target, outer)
    if scheme not in ("http", "https") or host != _without_default_port(outer.host):
        raise LookupError("its Location is of another origin")
    mount = outer.mount
    if path != mount and not path.startswith(f"{mount}/"):
        raise LookupError("its Location is outside the application's mount")
    uri = path[len(mount) :] or "/"
    return uri if query is None else f"{uri}?{query}"


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
