"""The installed package, with and without msgspec, side by side in one process.

Whether msgspec is used is decided when the package is imported; here each copy decides it anew at
every batch. The package may be the pure one or the compiled one: `BUILD` says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from batchwsgi import BatchMiddleware, Limits, wsgi
from batchwsgi.dialects import embedding

COMPILED = not str(wsgi.__file__).endswith(".py")
BUILD = "compiled" if COMPILED else "pure Python"


class Copy:
    """The package with one way to check a JSON reply."""

    Limits = Limits

    def __init__(self, is_json: Callable[[bytes], bool]) -> None:
        self._is_json = is_json

    def BatchMiddleware(self, app: Any, **options: Any) -> Callable[..., Iterable[bytes]]:
        """The middleware; its replies are not streamed."""
        middleware = BatchMiddleware(app, **options)

        def wrapped(environ: Any, start_response: Any) -> Iterable[bytes]:
            embedding._is_json = self._is_json
            return middleware(environ, start_response)

        return wrapped


def copies() -> dict[str, Copy]:
    """The package by the name of its row in the tables."""
    return {
        "batchwsgi": Copy(embedding.is_json),
        "batchwsgi with msgspec": Copy(embedding.is_json_by_msgspec),
    }
