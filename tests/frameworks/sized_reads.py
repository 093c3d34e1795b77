"""A shim between `wsgiref.validate` and applications on werkzeug."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..support import App, Environ


class _SizedReads:
    """A stream whose `read()` is passed on as `read(-1)`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)


def sized_reads(app: App) -> App:
    """`app`, with a `wsgi.input` that is never read without a size.

    Where the server sets `wsgi.input_terminated`, werkzeug 3.1 calls `read()` without one. PEP 3333
    allows that ("a server should allow read() to be called without an argument"), but
    `wsgiref.validate` answers with an AssertionError, seen for every form and JSON post.
    """

    def sized(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ["wsgi.input"] = _SizedReads(environ["wsgi.input"])
        return app(environ, start_response)

    return sized
