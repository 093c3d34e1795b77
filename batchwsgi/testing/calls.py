"""Calling an application as a server does, and noting what goes wrong.

`called` is one exchange. `watched` is an application that is called in either run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from traceback import walk_tb
from typing import TYPE_CHECKING
from wsgiref.validate import validator

from batchwsgi.model import Response

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

_LONGEST = 200
_TYPE = "content-type"


def cut(text: str) -> str:
    """The first line of `text`, as much of it as is told."""
    line = text.partition("\n")[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


class Notes:
    """What was wrong with a request in one run, by its place: method, path and query."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        """Exceptions of the application, or of what it called."""
        self.breaches: dict[str, str] = {}
        """How the application breaks PEP 3333."""

    def add(self, place: str, error: Exception) -> None:
        """Note what was raised."""
        self.errors[place] = cut(f"{type(error).__name__}: {error}")
        if isinstance(error, AssertionError) and _module_of(error) == validator.__module__:
            self.breaches[place] = cut(str(error))


def _module_of(error: Exception) -> object:
    """The name of the module that raised it."""
    *_, (frame, _line) = walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__")


def place_of(environ: WSGIEnvironment) -> str:
    """Where the notes of a request are."""
    return "{REQUEST_METHOD} {PATH_INFO}?{QUERY_STRING}".format_map(environ)


def watched(app: WSGIApplication, notes: Notes, validate: bool) -> WSGIApplication:
    """`app`, perhaps inside `wsgiref.validate`; `notes` are taken of what goes wrong."""
    if not validate:
        return _noting(app, notes)
    # Inside too: an application may catch what the validator raises, and answer with a page.
    return _noting(_validated(_noting(_read_in_sizes(app), notes)), notes)


def _validated(app: WSGIApplication) -> WSGIApplication:
    """`app` inside `wsgiref.validate`, whatever it does with `Content-Type`.

    The validator asks for one in every response with a body, and accepts none in a 204 or a 304.
    PEP 3333 says neither, and many frameworks redirect without one.
    """

    def validated(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        given: list[list[tuple[str, str]]] = []

        def typed(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            def start_typed(
                status: str, headers: list[tuple[str, str]], *exc_info: OptExcInfo | None
            ) -> Callable[[bytes], object]:
                given[:] = [headers]
                return start(status, _with_expected_type(status, headers), *exc_info)

            return app(environ, start_typed)

        def start_untyped(
            status: str, _: list[tuple[str, str]], *exc_info: OptExcInfo | None
        ) -> Callable[[bytes], object]:
            return start_response(status, given[0], *exc_info)

        return validator(typed)(environ, start_untyped)

    return validated


def _with_expected_type(status: str, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """`headers` with a `Content-Type` only where the validator expects one.

    They may be anything yet: what is not a list of pairs is left for the validator to find.
    """
    if not isinstance(headers, list):
        return headers
    if str(status).startswith(("204", "304")):  # another name, so that the value is still checked
        return [("X-Type", *field[1:]) if _is_content_type(field) else field for field in headers]
    if any(map(_is_content_type, headers)):
        return headers
    return [*headers, ("Content-Type", "text/plain")]


def _is_content_type(field: object) -> bool:
    return isinstance(field, tuple) and [str(part).lower() for part in field[:1]] == [_TYPE]


def _noting(app: WSGIApplication, notes: Notes) -> WSGIApplication:
    def noting(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        place = place_of(environ)  # now, as the application may change it

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None
        ) -> Callable[[bytes], object]:
            try:
                return start_response(status, headers, exc_info)
            except Exception as error:
                notes.add(place, error)
                raise

        try:
            return _Noted(app(environ, start), place, notes)
        except Exception as error:
            notes.add(place, error)
            raise

    return noting


class _Noted:
    """The body of a response, of which exceptions are noted too."""

    def __init__(self, body: Iterable[bytes], place: str, notes: Notes) -> None:
        self._body = body
        self._place = place
        self._notes = notes

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except Exception as error:
            self._notes.add(self._place, error)
            raise

    def close(self) -> None:
        getattr(self._body, "close", lambda: None)()


def _read_in_sizes(app: WSGIApplication) -> WSGIApplication:
    """`app`, with an input that is never read without a size.

    PEP 3333 lets an application call `read()`, and werkzeug does so where the server marks the end
    of the input, but `wsgiref.validate` does not accept it.
    """

    def reading(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"] = _SizedReads(environ["wsgi.input"])
        return app(environ, start_response)

    return reading


class _SizedReads:
    def __init__(self, stream: InputStream) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)


def called(app: WSGIApplication, environ: WSGIEnvironment) -> Response:
    """What `app` answers, as a server passes it on."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    chunks: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], object]:
        if exc_info and exc_info[1] and any(chunks):
            raise exc_info[1]
        if started and not exc_info:
            raise AssertionError("start_response was called again without exc_info (PEP 3333)")
        started[:] = [(status, [*headers])]
        return chunks.append

    iterable = app(environ, start_response)
    try:
        for chunk in iterable:
            chunks.append(chunk)
    finally:
        with suppress(Exception):  # the response has been sent by now
            getattr(iterable, "close", lambda: None)()
    if not started:
        raise AssertionError("start_response was never called (PEP 3333)")
    status, headers = started[0]
    code, _, reason = status.partition(" ")
    response = Response(int(code), reason, headers, b"".join(chunks))
    length = response.headers.get("Content-Length", "")
    if environ["REQUEST_METHOD"] == "HEAD" or response.status in (204, 304):
        response.body = b""
    elif length.isdecimal():
        response.body = response.body[: int(length)]  # no server sends more
    return response
