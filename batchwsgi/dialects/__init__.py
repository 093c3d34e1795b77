"""Dialects: how a batch and its replies are written on the wire.

A dialect turns the bytes of a request into a `Batch`, each finished member into its entry, and the
entries into the bytes of a reply. It knows media types, names and encodings, and nothing of WSGI,
schedules or threads; and no dialect knows another. What they share lies beside them: `strict_json`,
`media`, `embedding`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from batchwsgi.model import Batch, Member, Origin, UnsupportedMediaType, shown
from batchwsgi.rules import Rules

from .media import media_type


class Dialect(Protocol):
    """One format of batches."""

    media_type: str
    """The essence of the `Content-Type` that it reads (RFC 9110 §8.3.1)."""
    reply_type: str
    """The `Content-Type` of its reply."""

    stream_type: str
    """The `Content-Type` of its streamed reply, asked for by `Accept`."""

    expansion: int
    """Bytes of an entry for each character or byte that it shows, at most."""
    overhead: int
    """Bytes of an entry beside those, at most."""

    def decode(self, body: bytes, rules: Rules, origin: Origin) -> Batch:
        """The batch in `body`, checked whole. Raises `BatchError`, and nothing else."""
        ...

    def entry(self, member: Member) -> bytes:
        """The part of the reply that tells of `member`, which has its response."""
        ...

    def encode(self, members: Iterable[Member]) -> Iterable[bytes]:
        """The parts of the whole reply; the entries of `members` are let go."""
        ...

    def line(self, member: Member) -> bytes:
        """The part of a streamed reply that tells of `member`, which has its entry."""
        ...


def choose(dialects: Iterable[Dialect], content_type: str, content_encoding: str) -> Dialect:
    """The dialect that reads this type. Raises `UnsupportedMediaType` if there is none.

    The type is compared after parsing, and exactly: `text/plain` would let a foreign web page send
    a batch with the user's cookies, as a request that needs no CORS preflight.
    """
    if content_encoding:
        raise UnsupportedMediaType(
            f"A batch has no Content-Encoding, not {shown(content_encoding)}."
        )
    kind = media_type(content_type)
    names = []
    for dialect in dialects:
        if kind.essence == dialect.media_type and kind.charset in (None, "utf-8"):
            return dialect
        names.append(dialect.media_type)
    raise UnsupportedMediaType(
        f"The Content-Type is {shown(content_type)}; a batch is {' or '.join(names)} in utf-8."
    )


def is_of_the_batch(accept: str) -> bool:
    """Whether an `Accept` field asks for a form of the batch's reply, and so means no member.

    multipart/mixed is what clients of other batch endpoints ask for.
    """
    accept = accept.lower()
    return "application/x-ndjson" in accept or "multipart/" in accept


def streams(dialect: Dialect, accept: str) -> bool:
    """Whether an `Accept` field (RFC 9110 §12.5.1) asks for the streamed reply of `dialect`.

    It has to name that type itself, not a range, with a higher q than the other reply's.
    """
    if dialect.stream_type not in accept.lower():
        return False
    quality = {
        media_type(range_).essence: float(q)
        for range_, q in parse_accept_header(accept, MIMEAccept)
    }
    return quality.get(dialect.stream_type, 0) > quality.get(dialect.reply_type, 0)
