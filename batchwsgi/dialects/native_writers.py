"""Replies in the native format: one JSON document, or a line for each member (NDJSON)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from batchwsgi.model import Member
from batchwsgi.references import Json

from .embedding import JSONDocument, content_type_of, embedded, json_string
from .media import media_type

_JSON = "application/json"
_LINES = "application/x-ndjson"


class JSONWriter(JSONDocument):
    """Writes the reply as one JSON document."""

    def entry(self, member: Member) -> bytes:
        """What became of `member`, as one JSON object."""
        item: dict[str, Json] = member.source
        response = member.response
        assert response is not None
        names, values = response.shown()
        body, encoding = embedded(response.body, content_type_of(names, values))
        # There is nothing to escape in ids and in names, which are tokens.
        named = f'"id":"{item["id"]}",' if "id" in item else ""
        method = json_string(item["method"]) if "method" in item else '"get"'
        lines = []
        for name, value in zip(names.sent, values, strict=True):
            lines.append(f'"{name}":{json_string(value)}')
        head = (
            f'{{{named}"method":{method},"uri":{json_string(item["uri"])},'
            f'"status_code":"{response.status}","headers":{{{",".join(lines)}}},"body":'
        )
        return b"".join((head.encode(), body, _TAILS[encoding]))


class LineWriter(JSONWriter):
    """Writes each member's entry as a line of its own, as soon as it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.headers = [("Content-Type", _LINES)]
        self.streamed = True

    def parts(self, members: Iterable[Member]) -> Iterator[bytes]:
        """The lines; each entry is let go."""
        for member in members:
            line = _line(member)
            member.entry = b""
            yield line


def asks_for_lines(accept: str) -> bool:
    """Whether an `Accept` field (RFC 9110 §12.5.1) asks for the streamed reply.

    It has to name that type itself, not a range, with a higher q than the other reply's.
    """
    if _LINES not in accept.lower():
        return False
    quality = {
        media_type(range_).essence: float(q)
        for range_, q in parse_accept_header(accept, MIMEAccept)
    }
    return quality.get(_LINES, 0) > quality.get(_JSON, 0)


# Beside CR and LF, what readers that split as `str.splitlines` does (httpx) take for a line break.
_LINE_BREAKS = [(c.encode(), b"\\u%04x" % ord(c)) for c in "\u2028\u2029\x85"]


def _line(member: Member) -> bytes:
    """The entry of `member` as a line, with its index."""
    # In JSON a line break can only stand between tokens, where a space is the same.
    entry = member.entry.replace(b"\n", b" ").replace(b"\r", b" ")
    if not entry.isascii():  # then such a character can only stand in a string
        for character, escaped in _LINE_BREAKS:
            entry = entry.replace(character, escaped)
    lost = b',"cookies":"not-kept"}' if member.answer.names.sets_cookies else b"}"
    return b'{"index":%d,%b%b\n' % (member.index, entry[1:-1], lost)


_TAILS = {None: b"}", "text": b',"encoding":"text"}', "base64": b',"encoding":"base64"}'}
