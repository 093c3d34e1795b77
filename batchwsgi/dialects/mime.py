"""Reads multipart bodies (RFC 2046 §5.1) and the HTTP messages in their parts (RFC 9112).

Bytes in, values out: what they mean, and what of them is allowed, is not known here. A part is a
range of the whole body, which is copied only where a message is made of it. All work is linear in
the length of the body, whatever its boundary is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from batchwsgi.errors import shown
from batchwsgi.rules import Rules

Fields = list[tuple[str, str]]
"""Header lines as names and values; values have no blanks around them."""

# One parameter of a media type. Every repetition is possessive: blanks alone would be quadratic.
_PARAMETERS = re.compile(
    r';[ \t]*+([^;="\s]*+)[ \t]*+=[ \t]*+'
    r'(?:"([^"\\]*+(?:\\.[^"\\]*+)*)"[ \t]*+(?=;|\Z)|([^;]*+))'
)
_ESCAPED = re.compile(r"\\(.)")
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_DELIMITER_TAIL = re.compile(rb"(--)?[ \t]*\r?(?:\n|\Z)")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_BLANK_LINES = re.compile(rb"(?:[ \t\r\n]*\n)?")
_BLANKS = re.compile(rb"[ \t\r\n]*")
_LINE_BREAKS = re.compile(rb"[\r\n]*")
_VERSION = re.compile(r" HTTP/1\.[0-9]")
_LENGTH = re.compile(r"[0-9]{1,18}")  # `int` of very many digits is quadratic
_ENCODINGS = frozenset(["binary", "8bit", "7bit"])
_MOSTLY_WITHOUT_BODY = frozenset(["GET", "HEAD", "DELETE", "OPTIONS"])


class Unreadable(ValueError):
    """A part, or something in it, is not what it has to be."""

    def __init__(self, detail: str, *place: str) -> None:
        super().__init__(detail)
        self.place = place
        """Where it is, as reference tokens that are relative to the part."""


# --- Parts -------------------------------------------------------------------------------------


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart type, unescaped; of several the first.

    An unquoted one may have characters that are not those of a token: `----=_Part_0` is what Java
    writes. Raises `Unreadable` if there is none, or one that RFC 2046 does not allow.
    """
    for name, quoted, plain in _PARAMETERS.findall(content_type):
        if name.lower() == "boundary":
            boundary = _ESCAPED.sub(r"\1", quoted) or plain.strip(" \t")
            if _BOUNDARY.fullmatch(boundary):
                return bytes(boundary, "ascii")
            raise Unreadable(f"{shown(boundary)} is not a boundary (RFC 2046 §5.1.1)")
    raise Unreadable("the multipart type has no boundary")


class Parts:
    """The parts between the delimiters of one multipart body."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []
        """Where the first of them begin and end in the whole."""
        self.count = 0
        """How many there are."""
        self.closed = False
        """Whether there is a closing delimiter."""


def split(whole: bytes, boundary: bytes, start: int, end: int, most: int) -> Parts:
    """The parts of the multipart body that stands from `start` to `end`.

    `start` is where a line begins. Of more than `most` parts the rest is only counted: there may be
    millions.
    """
    parts = Parts()
    mark = b"--" + boundary
    begin = -1
    for line in _lines(whole, mark, start, end):
        tail = _DELIMITER_TAIL.match(whole, line + len(mark), end)
        if tail is None:  # a line that only begins like a delimiter
            continue
        if begin >= 0:
            parts.count += 1
            if parts.count <= most:
                parts.ranges.append((begin, _before_break(whole, begin, line)))
        begin = tail.end()
        if tail[1]:
            parts.closed = True
            break
    return parts


def _lines(whole: bytes, mark: bytes, start: int, end: int) -> Iterator[int]:
    """Where lines begin that begin with `mark`.

    Searched with `bytes.find`, which is linear; a pattern would have to be compiled for each batch,
    and would push the application's own out of the cache of `re`.
    """
    if whole.startswith(mark, start, end):
        yield start
    broken = b"\n" + mark
    found = whole.find(broken, start, end)
    while found >= 0:
        yield found + 1
        found = whole.find(broken, found + 1, end)


def _before_break(whole: bytes, begin: int, line: int) -> int:
    """Where the line break begins that is before `line`; `begin` if there is nothing before it."""
    end = line - 1
    if end > begin and whole[end - 1] == 13:
        end -= 1
    return max(begin, end)


class Part:
    """The head of the part that stands from `start` to `end`, and where its content is.

    Raises `Unreadable` for a head that is not allowed, or a content that is encoded.
    """

    def __init__(self, whole: bytes, start: int, end: int, rules: Rules) -> None:
        # The break before it is looked at too: the first line may be the blank one.
        head, self.start = _head(whole, start, end, start - 1)
        fields = _fields(head, rules)
        _check_encoding(fields)
        self.end = end
        self.content_type = single(fields, "Content-Type") or ""
        self.essence = self.content_type.partition(";")[0].strip(" \t").lower()
        """The media type without its parameters, in lower case."""
        self.content_id = single(fields, "Content-ID") or ""


# --- Messages ----------------------------------------------------------------------------------


class Message:
    """The HTTP request that stands from `start` to `end`. Raises `Unreadable` if there is none."""

    def __init__(self, whole: bytes, start: int, end: int, rules: Rules) -> None:
        blank = _BLANK_LINES.match(whole, start, end)
        start = blank.end() if blank else start
        head, content = _head(whole, start, end, start)
        line, _, lines = head.partition("\n")
        self.method, self.url = _request_line(line)
        self.fields = _fields(lines, rules)
        _check_encoding(self.fields)
        self.content_id = single(self.fields, "Content-ID") or ""
        self.body = _body(whole, content, end, self.method, self.fields)


def _head(whole: bytes, start: int, end: int, search_from: int) -> tuple[str, int]:
    """The lines before the first blank one, as latin-1, and where what follows it begins."""
    blank = _BLANK_LINE.search(whole, search_from, end)
    if blank is None:
        return whole[start:end].decode("latin-1").removesuffix("\n"), end
    return whole[start : max(start, blank.start())].decode("latin-1"), blank.end()


def _fields(head: str, rules: Rules) -> Fields:
    """The header lines in `head`, counted before they are taken apart."""
    if not head:
        return []
    try:
        rules.count_headers(head.count("\n") + 1)
    except ValueError as error:
        raise Unreadable(str(error), "headers") from None
    fields = []
    for line in head.split("\n"):
        if line.startswith((" ", "\t")):
            raise Unreadable("a folded header line (RFC 9112 §5.2)", "headers")
        name, colon, value = line.removesuffix("\r").partition(":")
        if not colon:
            raise Unreadable(f"{shown(line)} is not a header line: it has no colon", "headers")
        fields.append((name, value.strip(" \t")))
    return fields


def single(fields: Fields, name: str) -> str | None:
    """The value of the field of that name; None if there is none.

    Raises `Unreadable` where it stands there twice, with different values.
    """
    lower = name.lower()
    values = {value for found, value in fields if found.strip(" \t").lower() == lower}
    if len(values) > 1:
        raise Unreadable(f"{name} stands twice, with different values", "headers", name)
    return values.pop() if values else None


def _check_encoding(fields: Fields) -> None:
    encoding = single(fields, "Content-Transfer-Encoding")
    if encoding is not None and encoding.lower() not in _ENCODINGS:
        raise Unreadable(
            f"{shown(encoding)} is not binary, 8bit or 7bit", "headers", "Content-Transfer-Encoding"
        )


def _request_line(line: str) -> tuple[str, str]:
    """Method and url in a request line, which is read as latin-1; the url is UTF-8.

    The url ends where the version begins, not at the next space: clients write spaces in it.
    """
    method, space, rest = line.removesuffix("\r").partition(" ")
    if not space:
        raise Unreadable("there is no request line")
    url = " " + rest.rstrip(" \t")
    if _VERSION.fullmatch(url[-9:]):
        url = url[:-9]
    if " HTTP/" in url:
        raise Unreadable("the request line has a version that is not HTTP/1.x, or two", "url")
    try:
        return method, url.strip(" \t").encode("latin-1").decode()
    except UnicodeDecodeError:
        raise Unreadable("the url is not UTF-8", "url") from None


def _body(whole: bytes, start: int, end: int, method: str, fields: Fields) -> bytes:
    """What stands from `start` to `end`, less what is beyond the `Content-Length`.

    Only line breaks are: a client of Google's counts characters, not bytes.
    """
    length = single(fields, "Content-Length")
    if length is not None:
        if not _LENGTH.fullmatch(length):
            raise Unreadable(f"{shown(length)} is not a length", "headers", "Content-Length")
        if int(length) > end - start:
            raise Unreadable(
                f"{length} bytes, but there are only {end - start}", "headers", "Content-Length"
            )
        if _LINE_BREAKS.fullmatch(whole, start + int(length), end):
            end = start + int(length)
    if method.upper() in _MOSTLY_WITHOUT_BODY and _BLANKS.fullmatch(whole, start, end):
        return b""
    return whole[start:end]
