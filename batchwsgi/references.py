"""References of a member to earlier replies: the grammar, and the look-up.

A closed grammar (modelled on the runtime expressions of OpenAPI and Arazzo, inside braces), looked
up step by step. Nothing is evaluated (CVE-2014-7205: references were evaluated as code).

`compiled` finds the references in a JSON value before anything runs and puts a `Template` in their
place; `filled` replaces those by what `Replies` has, when the member's turn has come.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from batchwsgi.model import Faults, Member, Origin, Response, Unresolved
from batchwsgi.rules import bad_escape

Json = Any  # a decoded JSON value; its own type says no more

_START = re.compile(r"\{\$(\$?)responses\.")
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
_NO_HOST = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?///", re.IGNORECASE)
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
    value: Json, place: tuple[str | int, ...], index_of: Callable[[str], int], faults: Faults
) -> Json:
    """`value` with a `Template` in the place of each string that has references.

    Only values are looked at, never names. `index_of` gives the place of the item with an id or
    index, or raises `ValueError`; faults are added with `place`, where `value` stands.
    """
    if isinstance(value, str):
        try:
            return _template(value, index_of) if "{$" in value else value
        except ValueError as error:
            faults.add(str(error), *place)
    elif isinstance(value, dict):
        return {
            name: compiled(inner, (*place, name), index_of, faults) for name, inner in value.items()
        }
    elif isinstance(value, list):
        return [
            compiled(inner, (*place, index), index_of, faults) for index, inner in enumerate(value)
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
        if start[1]:  # "{$$responses." stands for "{$responses."
            pieces.append("{$responses.")
            end = start.end()
            continue
        expression = _EXPRESSION.match(text, start.start())
        if expression is None:
            shown = ascii(text[start.start() :][:60])
            raise ValueError(f"{shown} is not an expression that there is")
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
        raise ValueError(f"{ascii(pointer)[:60]} is not a JSON Pointer (RFC 6901 §6)")
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

    `decode` gives the JSON value of a response; `origin` is the outer request's.
    """

    def __init__(
        self,
        members: Sequence[Member],
        origin: Origin,
        decode: Callable[[Response], Json],
    ) -> None:
        self._members = members
        self._origin = origin
        self._decode = decode
        self._bodies: dict[int, Json] = {}
        self._values: dict[Reference, Json] = {}

    def value(self, reference: Reference) -> Json:
        """What `reference` stands for. Raises `Unresolved`, naming it."""
        if reference not in self._values:
            try:
                self._values[reference] = self._found(reference)
            except (ValueError, LookupError) as error:
                raise Unresolved(f"{reference.text[:200]}: {error}") from None
        return self._values[reference]

    def text(self, reference: Reference) -> str:
        """The same as a part of a longer string. Raises `Unresolved` if it is not a scalar."""
        value = self.value(reference)
        if isinstance(value, dict | list):
            raise Unresolved(f"{reference.text[:200]}: not a scalar, and not alone in its place")
        return value if isinstance(value, str) else json.dumps(value)

    def check_size(self, used: Iterable[Reference], limit: int) -> None:
        """Refuse to bring more than `limit` bytes (as JSON) into one member, before any is brought.

        What is small can be repeated: thirty doublings of ten bytes are ten gigabytes.
        """
        sizes: dict[Reference, int] = {}
        total = 0
        for reference in used:
            if reference not in sizes:
                sizes[reference] = len(json.dumps(self.value(reference)))
            total += sizes[reference]
            if total > limit:
                raise Unresolved(
                    f"{reference.text[:200]}: more than {limit} bytes in all "
                    "(Limits.max_reference_size)"
                )

    def _found(self, reference: Reference) -> Json:
        member = self._members[reference.place]
        response = member.response
        assert response is not None  # it is a dependency, and succeeded
        if reference.part == "status_code":
            return response.status
        if reference.part == "location":
            return self._location(member.request.target, response)
        if reference.part == "header":
            names, values = response.shown()
            if reference.name not in names.lower:
                raise LookupError("the reply has no such header")
            return values[names.lower.index(reference.name)]
        if reference.place not in self._bodies:
            self._bodies[reference.place] = self._decode(response)
        value = self._bodies[reference.place]
        for step in reference.pointer:
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and INDEX.fullmatch(step) and int(step) < len(value):
                value = value[int(step)]
            else:
                raise LookupError(f"the reply has no {ascii(step)[:60]} there")
        return value

    def _location(self, target: str, response: Response) -> str:
        """The `Location` of a reply to `target`, as a `uri` of this batch.

        Resolved against the member's own URL (RFC 9110 §10.2.2, RFC 3986 §5.2). No socket is
        opened, and TLS often ends at a proxy: http and https are one origin.
        """
        if "Location" not in response.headers:
            raise LookupError("the reply has no Location")
        location = response.headers["Location"].strip(" \t")
        mount = self._origin.mount
        found = urlsplit(urljoin(f"http://{self._origin.host}{mount}{target}", location))
        own = _without_default_port(self._origin.host)
        if (
            found.scheme not in ("http", "https")
            or _without_default_port(found.netloc) != own
            or _NO_HOST.match(location)  # which urljoin takes for our own
            or "\t" in location  # which it drops
        ):
            raise LookupError("its Location is of another origin")
        path = found.path or "/"
        if path != mount and not path.startswith(f"{mount}/"):
            raise LookupError("its Location is outside the application's mount")
        uri = path[len(mount) :] or "/"
        return f"{uri}?{found.query}" if found.query else uri


def _without_default_port(host: str) -> str:
    return re.sub(r":(80|443)?\Z", "", host.lower())
