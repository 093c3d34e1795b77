"""References as the native dialect writes them: `{$responses.ID.body#/pointer}` and the like.

A closed grammar, modelled on the runtime expressions of OpenAPI and Arazzo, inside braces.
`compiled` finds the references in a JSON value before anything runs and puts a `Template` in their
place; `filled` replaces those by what `references.Replies` has, when the member's turn has come.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote, unquote

from batchwsgi.errors import shown
from batchwsgi.references import Json, Reference, Replies
from batchwsgi.rules import bad_escape

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

    def literal(self) -> str:
        """What stands beside the references."""
        return "".join([piece for piece in self.pieces if isinstance(piece, str)])

    def uri(self, replies: Replies) -> str:
        """What it becomes in a `uri`: each value is one segment, or one value of the query.

        A `location` at the start is a uri by itself; elsewhere it is a value like any other.
        """
        return self._joined(replies.text)

    def stand_in(self) -> str:
        """A sample uri, to check before the values are known.

        If it is refused, every other would be.
        """
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
