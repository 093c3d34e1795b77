"""How bodies stand in a JSON document: spliced or as a value, as text, or as base64.

A JSON body is never decoded and encoded again: its bytes are checked, and are then part of the
reply. That is faster, and keeps integers of any length. The check is what stands between a
body of `1},{"status_code": …` and a forged reply, so it knows the whole grammar of RFC 8259.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from json import JSONDecoder
from json.encoder import encode_basestring

from batchwsgi.errors import shown
from batchwsgi.model import Member, Names, Response
from batchwsgi.references import Json

from .media import media_type
from .protocol import PIECE
from .strict_json import MAX_LEVELS, check_depth, dumps, expected, refuse_constant

json_string = encode_basestring
"""A text as a JSON string (RFC 8259 §7); everything outside ASCII stays as it is."""


def embedded(body: bytes, content_type: str) -> tuple[bytes, str | None]:
    """`body` as a JSON value, and how it is encoded: None for JSON and empty, `text`, `base64`."""
    if not body:
        return b"null", None
    kind = media_type(content_type)
    if kind.is_json and _is_json(body):
        return body, None
    if kind.is_json or kind.is_text:
        try:
            return json_string(body.decode(kind.codec or "utf-8")).encode(), "text"
        except UnicodeError:  # it does not decode, or to lone surrogates
            pass
    return b'"%b"' % b64encode(body), "base64"


def body_bytes(value: Json, content_type: str, from_base64: Callable[[str], bytes]) -> bytes:
    """The body of that type that `value` stands for: JSON, text in its charset, or base64.

    Raises `ValueError` for a value that is none of that type.
    """
    kind = media_type(content_type)
    if kind.is_json:
        return dumps(value).encode()
    if not isinstance(value, str):
        raise ValueError(
            f"{expected('a string', value)}: the Content-Type is {shown(content_type)}"
        )
    if not kind.is_text:
        return from_base64(value)
    if kind.charset and not kind.codec:
        raise ValueError(f"the charset {shown(kind.charset)} is not a known one")
    try:
        return value.encode(kind.codec or "utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"it has characters that {kind.charset or 'utf-8'} has not") from None


class JSONDocument:
    """The reply as one JSON document, `{"responses":[…]}`; a dialect adds how an entry is written.

    `fields` are header lines beside its `Content-Type`.
    """

    def __init__(self, fields: Sequence[tuple[str, str]] = ()) -> None:
        self.status = "200 OK"
        self.headers: Sequence[tuple[str, str]] = [("Content-Type", "application/json"), *fields]
        self.streamed = False

    def longest(self, response: Response) -> int:
        """The most bytes that an entry with this response can have.

        A control character becomes six; a header line has six characters around its two parts, and
        an entry at most 256 around everything.
        """
        return 6 * (response.header_size + len(response.body) + len(response.values)) + 256

    def parts(self, members: Iterable[Member]) -> Iterator[bytes]:
        """The document in pieces.

        Each entry is let go as it becomes part of one, so that not all of it is in memory twice.
        """
        start = b'{"responses":['
        piece: list[bytes] = []
        size = 0
        for member in members:
            piece.append(member.entry)
            size += len(member.entry)
            member.entry = b""
            if size >= PIECE:
                yield start + b",".join(piece)
                start = b""
                piece = [b""]  # the next entry has a comma before it
                size = 0
        yield start + b",".join(piece) + b"]}"


def content_type_of(names: Names, values: Sequence[str]) -> str:
    """The `Content-Type` among those headers; empty if there is none."""
    place = names.content_type
    return "" if place is None else values[place]


def is_json(body: bytes) -> bool:
    """Whether `body` is one JSON value in UTF-8, by the grammar of RFC 8259.

    Nothing is computed of it: an integer of any length passes, and no number is converted. What
    has more than `MAX_LEVELS` levels is not taken for JSON.
    """
    try:
        if len(body) > MAX_LEVELS:  # a shorter one cannot have more
            check_depth(body, MAX_LEVELS)
        text = body.decode().strip(" \t\n\r")
        _, end = _scan(text, 0)
    except (ValueError, StopIteration, RecursionError):
        return False
    return end == len(text)


def is_json_by_msgspec(body: bytes) -> bool:
    """The same, in a fifth of the time."""
    try:
        if len(body) > MAX_LEVELS:
            check_depth(body, MAX_LEVELS)
        _raw(body)
        if not body.isascii():
            body.decode()  # msgspec does not check that it is UTF-8
    except (ValueError, RecursionError):  # not JSON, or a lone surrogate, which it does not know
        return is_json(body)
    return True


# In C; the stubs do not have it. `len` is the cheapest to make something of a number's digits.
_scan: Callable[[str, int], tuple[object, int]] = JSONDecoder(
    parse_int=len, parse_float=len, parse_constant=refuse_constant
).scan_once  # type: ignore[attr-defined]
_raw: Callable[[bytes], object]
_is_json = is_json
try:
    import msgspec
except ImportError:
    pass
else:  # the extra `fast`
    _raw = msgspec.json.Decoder(msgspec.Raw).decode
    _is_json = is_json_by_msgspec
