"""Dialects: how a batch and its replies are written on the wire.

`protocol` says what a dialect is; each is a module of its own, and none knows another. What they
share lies beside them: `strict_json`, `media`, `embedding`. `choose` picks one by the media type.
"""

from __future__ import annotations

from collections.abc import Iterable

from batchwsgi.errors import UnsupportedMediaType, shown

from .media import media_type
from .native import Native
from .protocol import Dialect, Writer

__all__ = ["Dialect", "Native", "Writer"]


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


def names_batch_format(accept: str) -> bool:
    """Whether `Accept` names a batch format; then members do not inherit it."""
    accept = accept.lower()
    return "application/x-ndjson" in accept or "multipart/" in accept
