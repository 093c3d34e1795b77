"""Dialects: how a batch and its replies are written on the wire.

`protocol` says what a dialect is. `native`, `odata_json` and `multipart` have the dialects; none of
them imports another. Shared by the JSON dialects: `strict_json`, `embedding`. By the foreign ones:
`members`. By OData: `odata`. `media` reads a Content-Type, `mime` reads multipart bodies. `choose`
picks a dialect by the media type.
"""

from __future__ import annotations

from collections.abc import Iterable

from batchwsgi.errors import UnsupportedMediaType, shown

from .media import media_type
from .multipart import HTTPMultipart, ODataMultipart
from .native import Native
from .odata_json import ODataJSON
from .protocol import Dialect, Writer

__all__ = ["Dialect", "HTTPMultipart", "Native", "ODataJSON", "ODataMultipart", "Writer"]

_PROTOCOL = ("media_type", "decode", "writer", "refusal")


def checked_dialects(dialects: object) -> tuple[Dialect, ...]:
    """The option `dialects`.

    Raises `TypeError` for what is not a sequence of dialects, and `ValueError` where there is none,
    or where two read the same media type: nothing else tells them apart.
    """
    if not isinstance(dialects, Iterable):
        raise TypeError(f"dialects: a sequence of dialects, not {dialects!r}")
    checked: tuple[Dialect, ...] = tuple(dialects)
    media_types = set()
    for dialect in checked:
        if isinstance(dialect, type):
            raise TypeError(f"dialects: {dialect.__name__} is a class, not an instance of it")
        if not all(hasattr(dialect, name) for name in _PROTOCOL):
            raise TypeError(f"dialects: {dialect!r} is not a Dialect")
        if dialect.media_type in media_types:
            raise ValueError(f"dialects: two of them read {dialect.media_type}")
        media_types.add(dialect.media_type)
    if not checked:
        raise ValueError("dialects: there is none")
    return checked


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
        # A charset says something of text alone, not of what has parts.
        is_utf_8 = kind.charset in (None, "utf-8") or kind.essence.startswith("multipart/")
        if kind.essence == dialect.media_type and is_utf_8:
            return dialect
        names.append(dialect.media_type)
    raise UnsupportedMediaType(
        f"The Content-Type is {shown(content_type)}; a batch is {' or '.join(names)} in utf-8."
    )


def speaks_native(dialects: Iterable[Dialect]) -> bool:
    """Whether the native one is among them: `on-fail`, streams and the pages belong to it."""
    return any(isinstance(dialect, Native) for dialect in dialects)


def names_batch_format(accept: str) -> bool:
    """Whether `Accept` names a batch format; then members do not inherit it."""
    accept = accept.lower()
    return "application/x-ndjson" in accept or "multipart/" in accept
