"""References of a member to earlier replies: the grammar, and the look-up.

A closed grammar (modelled on the runtime expressions of OpenAPI and Arazzo, inside braces), looked
up step by step. Nothing is evaluated (CVE-2014-7205: references were evaluated as code).

`compiled` finds the references in a JSON value before anything runs and puts a `Template` in their
place; `filled` replaces those by what `Replies` has, when the member's turn has come.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from batchwsgi.model import Member, Origin, Response, Unresolved, shown
from batchwsgi.rules import bad_escape

Json = Any  # a decoded JSON value; its own type says no more

_LONGEST = 1024
"""Characters of an expression: a pointer of 1 MB is half a million tokens, and takes 73 MB."""
_START = re.compile(r"\{\$(\$*+)responses\.")
_EXPRESSION = re.compile(
    r"""\{\$responses\.([A-Za-z0-9_-]{1,64})\.(?:
        body (?: \# ( (?: /[^}]* )? ) )?
      | header\.([A-Za-z0-9!#$%&'*+.^_`|~-]+)
      | (status_code)
      | (location)
    )\}""",
    re.VERBOSE,
)
_BAD_TILDE = re.compile(r"~(?![01])")
INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
"""The index of an array's element (RFC 6901 §4), or of an item."""


class Reference(NamedTuple):
    """One expression: of which member's reply, and which part of it."""

    text: str
    """As it was written, with its braces."""
    place: int
    """The index of that member."""
    part: str
    """`body`, `header`, `status_code` or `location`."""
    name: str = ""
    """Of a header."""
    pointer: tuple[str, ...] = ()
    """The reference tokens of the JSON Pointer into a body (RFC 6901)."""


class Template(NamedTuple):
    """A string with references in it: its pieces, in order."""

    pieces: tuple[str | Reference, ...]

    def value(self, replies: Replies) -> Json:
        """What it becomes in a body or in `args`: one reference alone keeps its type."""
        if len(self.pieces) == 1 and isinstance(self.pieces[0], Reference):
            return replies.value(self.pieces[0])
        return self.text(replies)

    def text(self, replies: Replies) -> str:
        """What it becomes in a header."""
        return "".join(
            [piece if isinstance(piece, str) else replies.text(piece) for piece in self.pieces]
        )

    def uri(self, replies: Replies) -> str:
        """What it becomes in a `uri`: each value is one segment, or one value of the query.

        A `location` at the start is a uri by itself; elsewhere it is a value like any other.
        """
        return self._joined(replies.text)

    def stand_in(self) -> str:
        """A uri that is right only if this one can be, whatever its references stand for."""
        return self._joined(lambda reference: "/x" if reference.part == "location" else "x")

    def _joined(self, text: Callable[[Reference], str]) -> str:
        return "".join(
            piece
            if isinstance(piece, str)
            else text(piece)
            if place == 0 and piece.part == "location"
            else quote(text(piece), safe="")
            for place, piece in enumerate(self.pieces)
        )


def compiled(
    value: Json,
    place: tuple[str | int, ...],
    index_of: Callable[[str], int],
    add_fault: Callable[..., None],
) -> Json:
    """`value` with a `Template` in the place of each string that has references.

    Only values are looked at, never names. `index_of` gives the place of the item with an id or
    index, or raises `ValueError`. `add_fault` is called with what is wrong and where, as reference
    tokens; `place` is where `value` stands.
    """
    if isinstance(value, str):
        try:
            return _template(value, index_of) if "{$" in value else value
        except ValueError as error:
            add_fault(str(error), *place)
    elif isinstance(value, dict):
        return {
            name: compiled(inner, (*place, name), index_of, add_fault)
            for name, inner in value.items()
        }
    elif isinstance(value, list):
        return [
            compiled(inner, (*place, index), index_of, add_fault)
            for index, inner in enumerate(value)
        ]
    return value


def _template(text: str, index_of: Callable[[str], int]) -> str | Template:
    """`text` in pieces, if it has references. Raises `ValueError` for what only looks like one."""
    pieces: list[str | Reference] = [""]
    end = 0
    for start in _START.finditer(text):
        if start.start() < end:  # inside the pointer of the expression before
            continue
        pieces.append(text[end : start.start()])
        if start[1]:  # "{$$responses." stands for "{$responses.", and so on
            pieces.append(f"{{{start[1]}responses.")
            end = start.end()
            continue
        expression = _EXPRESSION.match(text, start.start(), start.start() + _LONGEST)
        if expression is None:
            raise ValueError(
                f"{shown(text[start.start() : start.start() + 61])} is not an expression "
                f"that there is, or has more than {_LONGEST} characters"
            )
        pieces.append(_reference(expression, index_of))
        end = expression.end()
    pieces.append(text[end:])
    if not any(isinstance(piece, Reference) for piece in pieces):
        return "".join(map(str, pieces))
    return Template(tuple(piece for piece in pieces if piece))


def _reference(expression: re.Match[str], index_of: Callable[[str], int]) -> Reference:
    text, (name, pointer, header, status_code, location) = expression[0], expression.groups()
    place = index_of(name)
    if header:
        return Reference(text, place, "header", header.lower())
    if status_code or location:
        return Reference(text, place, status_code or location)
    if not pointer:
        return Reference(text, place, "body")
    decoded = "" if bad_escape(pointer) else unquote(pointer, errors="strict")
    if not decoded or _BAD_TILDE.search(decoded):
        raise ValueError(f"{shown(pointer)} is not a JSON Pointer (RFC 6901 §6)")
    tokens = decoded[1:].split("/")
    unescaped = (token.replace("~1", "/").replace("~0", "~") for token in tokens)
    return Reference(text, place, "body", pointer=tuple(unescaped))


def references(value: Json) -> Iterator[Reference]:
    """The references in a compiled value, as often as they stand there."""
    if isinstance(value, Template):
        yield from (piece for piece in value.pieces if isinstance(piece, Reference))
    elif isinstance(value, dict):
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def filled(value: Json, fill: Callable[[Template], Json]) -> Json:
    """A compiled value with each template replaced by what `fill` makes of it."""
    if isinstance(value, Template):
        return fill(value)
    if isinstance(value, dict):
        return {name: filled(inner, fill) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, fill) for inner in value]
    return value


class Replies:
    """What references find: the replies to `members` so far, by the member's place.

    `decode` gives the JSON value of a response; `origin` is the outer request's. `expect` tells
    beforehand which references there are.

    A decoded body takes up to forty times its size. So it is decoded once, when a member first
    needs it, all that later members need of it is looked up, and it is let go. What is kept of it
    is JSON text.
    """

    def __init__(
        self,
        members: Sequence[Member],
        origin: Origin,
        decode: Callable[[Response], Json],
        limit: int,
    ) -> None:
        self._members = members
        self._origin = origin
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
        reply = _Reply(self._members[place], self._origin, self._decode)
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

    def __init__(self, member: Member, origin: Origin, decode: Callable[[Response], Json]) -> None:
        assert member.response is not None  # it is a dependency, and succeeded
        self._target = member.request.target
        self._response = member.response
        self._origin = origin
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
            return json.dumps(location(self._target, self._response, self._origin))
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


def location(target: str, response: Response, origin: Origin) -> str:
    """The `Location` of a response to `target`, as path and query relative to the mount.

    Resolved against the member's own URL (RFC 9110 §10.2.2, RFC 3986 §5.2). No socket is opened,
    and TLS often ends at a proxy: http and https are one origin. Raises `LookupError` for one that
    is not there, of another origin, or outside the mount.
    """
    if "Location" not in response.headers:
        raise LookupError("the reply has no Location")
    scheme, host, path, query = _resolved(response.headers["Location"].strip(" \t"), target, origin)
    if scheme not in ("http", "https") or host != _without_default_port(origin.host):
        raise LookupError("its Location is of another origin")
    mount = origin.mount
    if path != mount and not path.startswith(f"{mount}/"):
        raise LookupError("its Location is outside the application's mount")
    uri = path[len(mount) :] or "/"
    return uri if query is None else f"{uri}?{query}"


def _resolved(reference: str, target: str, origin: Origin) -> tuple[str, str, str, str | None]:
    """Scheme, host, path and query of a URI reference in a response to `target` (RFC 3986 §5.2.2).

    Empty segments stay as they are (`urllib.parse.urljoin` drops them).
    """
    parts = _REFERENCE.match(reference)
    assert parts is not None  # it matches everything
    scheme, host, path, query = parts.groups()
    if scheme is not None or host is not None:
        own = _without_default_port(host or "")
        return (scheme or "http").lower(), own, _without_dots(path) or "/", query
    base_path, mark, base_query = (origin.mount + target).partition("?")
    if not path:
        query = (base_query if mark else None) if query is None else query
        path = base_path
    elif path.startswith("/"):
        path = _without_dots(path)
    else:
        path = _without_dots(base_path[: base_path.rindex("/") + 1] + path)
    return "http", _without_default_port(origin.host), path, query


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
