"""PEP 3333, as the server of the wrapped application.

`Outer` is the outer request as its members inherit it: it makes a child environ for each and sends
it (`Outer.send`). `call` is one exchange with the application. `subrequest` is the same for views.

Nothing here knows of batches, dialects or schedules.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from functools import lru_cache
from io import BytesIO
from sys import maxsize
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from werkzeug.exceptions import HTTPException

from batchwsgi.model import Origin, Problem, Request, Response
from batchwsgi.rules import checked_method, percent_encoded, subrequest_headers

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("batchwsgi")

MARK = "batchwsgi.request"
"""The key of a child environ that holds its `Request`: how an application can tell that it serves a
member of a batch, or a `subrequest`."""

# --- The child environ -------------------------------------------------------------------------
# Built by allow-list: what is not named is not there, but for the request headers, which are all
# inherited except those about the outer request's own body, connection and reply. Servers put
# sockets, functions and `os.environ` into the outer environ; frameworks cache the parsed outer
# request in it, and a member that finds that cache is answered as somebody else.

_INHERITED = (
    "SCRIPT_NAME SERVER_NAME SERVER_PORT SERVER_PROTOCOL SERVER_SOFTWARE SERVER_ADDR REMOTE_ADDR "
    "REMOTE_PORT REMOTE_HOST REMOTE_USER AUTH_TYPE HTTPS REQUEST_SCHEME"
).split()
_INHERITED_AS_IS = (
    "wsgi.version wsgi.url_scheme wsgi.errors wsgi.multithread wsgi.multiprocess wsgi.run_once"
).split()
_RAW_TARGET = ("RAW_URI", "REQUEST_URI")

_NOT_INHERITED = frozenset(
    # About the outer request's own body, connection and reply.
    "HTTP_ACCEPT_ENCODING HTTP_CONNECTION HTTP_EXPECT HTTP_HTTP2_SETTINGS HTTP_IDEMPOTENCY_KEY "
    "HTTP_KEEP_ALIVE HTTP_PREFER HTTP_PROXY_AUTHENTICATE HTTP_PROXY_AUTHORIZATION "
    "HTTP_PROXY_CONNECTION HTTP_RANGE HTTP_TE HTTP_TRAILER HTTP_TRAILERS HTTP_TRANSFER_ENCODING "
    "HTTP_UPGRADE "
    # CGI's way to configure a proxy (CVE-2016-5385), and what would re-route a member.
    "HTTP_PROXY HTTP_X_HTTP_METHOD_OVERRIDE HTTP_X_ORIGINAL_URL HTTP_X_REWRITE_URL".split()
)
_NOT_INHERITED_PREFIXES = ("HTTP_CONTENT_", "HTTP_IF_")

# What an operator cannot add: keys that are inherited anyway, or made for each member, and those
# that would carry the outer request's connection or another framework's view of it.
_NOT_ADDABLE = frozenset(
    ["REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "CONTENT_LENGTH", "CONTENT_TYPE"]
    + [*_RAW_TARGET, *_INHERITED, "SCRIPT_URL", "SCRIPT_URI", "PATH_TRANSLATED", "gunicorn.socket"]
)
_NOT_ADDABLE_PREFIXES = tuple(
    "HTTP_ SSL_ REDIRECT_ wsgi. batchwsgi. mod_wsgi. uwsgi. "
    "werkzeug. bottle. webob. beaker. paste. repoze.".split()
)


def checked_environ_keys(keys: Iterable[str]) -> tuple[str, ...]:
    """The option `environ_keys`.

    Raises `ValueError` for a key that is not the operator's to add, and `TypeError` for what is
    not a sequence of strings.
    """
    if isinstance(keys, str):
        raise TypeError("environ_keys: a sequence of keys, not one string")
    keys = tuple(keys)
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"environ_keys: {key!r} is not a string")
        if key in _NOT_ADDABLE or key.startswith(_NOT_ADDABLE_PREFIXES):
            raise ValueError(f"environ_keys: {key} is not one that can be added")
    return keys


class Outer:
    """The outer request as its members inherit it, and the way to send them.

    `app` gets the members; `environ` is the outer request's, which stays as it is; `context` is the
    one that each member runs in a copy of; `environ_keys` are more keys to inherit, `without` are
    those not to inherit this time; `multithread` tells that members may run side by side.
    """

    def __init__(
        self,
        app: WSGIApplication,
        environ: WSGIEnvironment,
        context: Context,
        environ_keys: Iterable[str] = (),
        *,
        without: Iterable[str] = (),
        multithread: bool = False,
    ) -> None:
        self._app = app
        self.context = context
        self.origin = _origin(environ)
        self._template = _template(environ, environ_keys)
        self._raw_targets = [key for key in _RAW_TARGET if key in environ]
        for key in without:
            self._template.pop(key, None)
        if multithread:
            self._template["wsgi.multithread"] = True

    def send(self, request: Request, limit: int = maxsize, cookie: str | None = None) -> Response:
        """The application's response to `request`, of whose body at most `limit` bytes are read.

        `cookie` is the `Cookie` header, where it is not the client's own. The member runs in its
        own copy of the context, made now: what earlier code set in it is seen, what this member
        sets is not seen by others.
        """
        environ = self._child(request)
        if cookie is not None:
            environ["HTTP_COOKIE"] = cookie
            if not cookie:
                del environ["HTTP_COOKIE"]
        return self.context.copy().run(call, self._app, environ, limit)

    def _child(self, request: Request) -> WSGIEnvironment:
        """The environ of one member: a copy of the template, with what is its own."""
        method, target, headers, body = request
        environ = self._template.copy()
        path, _, query = target.partition("?")
        environ["REQUEST_METHOD"] = method
        environ["PATH_INFO"] = unquote(path, "latin-1") if "%" in path else path
        environ["QUERY_STRING"] = query
        for key in self._raw_targets:
            environ[key] = self.origin.mount + target
        if headers:
            environ.update(_header_keys(headers))
        if body or method in ("POST", "PUT", "PATCH"):
            environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = BytesIO(body)
        environ[MARK] = request
        return environ


def _origin(environ: WSGIEnvironment) -> Origin:
    """What others need to know of the outer request."""
    port = environ.get("SERVER_PORT", "")
    forwarded = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0].strip().lower()
    return Origin(
        mount=quote(environ.get("SCRIPT_NAME", ""), "!$&'()*+,;=:@/", encoding="latin-1"),
        host=environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME', '')}:{port}",
        https="https" in (environ.get("wsgi.url_scheme"), forwarded),
        cookie=environ.get("HTTP_COOKIE", ""),
        client=str(environ.get("REMOTE_ADDR", "-")),
        authenticated=bool(environ.get("AUTH_TYPE")),
    )


def _template(environ: WSGIEnvironment, environ_keys: Iterable[str]) -> WSGIEnvironment:
    """What all children of `environ` share, built once for each batch."""
    template: WSGIEnvironment = {"SCRIPT_NAME": ""}
    for key in _INHERITED:
        if environ.get(key) is not None:
            template[key] = str(environ[key])  # werkzeug's server puts an int in REMOTE_PORT
    for key in (*_INHERITED_AS_IS, *environ_keys):
        if key in environ:
            template[key] = environ[key]
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            if key not in _NOT_INHERITED and not key.startswith(_NOT_INHERITED_PREFIXES):
                template[key] = value
        elif key.startswith("SSL_"):
            template[key] = str(value)
    template["wsgi.input_terminated"] = True
    return template


def _header_keys(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers as environ keys; those of one name are joined (RFC 9110 §5.3, RFC 6265 §5.4)."""
    own: dict[str, str] = {}
    for name, value in headers:
        key = _header_key(name)
        if key in own:
            value = f"{own[key]}{'; ' if key == 'HTTP_COOKIE' else ', '}{value}"
        own[key] = value
    return own


def _header_key(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if key == "CONTENT_TYPE" else f"HTTP_{key}"


# --- One exchange with the application ---------------------------------------------------------

_STATUS = re.compile(r"([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)")
_is_field = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\n[\t\x20-\x7e\x80-\xff]*").fullmatch


_PAIRS = frozenset([tuple, list])  # PEP 3333 has tuples; servers take lists too


class _CutOff(BaseException):
    """Ends an application that goes on writing past the limit; only `call` catches it.

    Not an `Exception`, which an application's own handlers would swallow.
    """


def call(app: WSGIApplication, environ: WSGIEnvironment, limit: int) -> Response:
    """One exchange with `app`, from the call to `close()`, in this thread.

    An `Exception` of the application is logged and is a 500 response. Any other `BaseException`
    (`SystemExit`, `KeyboardInterrupt`, `GeneratorExit`, `gevent.Timeout`) is raised again once the
    application's iterable is closed: workers are stopped that way. At most `limit` bytes of the
    body are read, an empty chunk counted as one byte so that an endless reply of them ends too; a
    longer one comes back without its body and as `Problem.TOO_LARGE`.

    One straight function with its state in closures, because every member goes through it.
    """
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    code = 0
    reason = ""
    fields: list[tuple[str, str]] = []
    chunks: list[bytes] = []
    size = 0
    sent = False  # whether a server would have sent the headers by now
    bodiless = False

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], object]:
        nonlocal code, reason, fields, bodiless
        if exc_info is not None:
            try:
                if sent and exc_info[1]:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it holds the frames that hold it
        elif code:
            raise AssertionError("start_response was called again without exc_info (PEP 3333)")
        if not isinstance(headers, list):
            raise TypeError(f"the response headers are {type(headers).__name__}, not list")
        parsed, checked = _parsed_status(status), _checked_fields(headers, method, path)
        (code, reason, bodiless), fields = parsed, checked  # both are right, or nothing changes
        if method == "HEAD":
            bodiless = True
        return write

    def write(chunk: bytes, /) -> None:
        nonlocal size, sent
        if not isinstance(chunk, bytes):
            raise TypeError(f"the response body has {type(chunk).__name__}, not bytes")
        if not chunk or bodiless:
            size += 1
            sent = sent or bool(chunk)
        else:
            size += len(chunk)
            sent = True
            chunks.append(chunk)
        if size > limit:
            raise _CutOff

    iterable: Iterable[bytes] = ()
    try:
        iterable = app(environ, start_response)
        for chunk in iterable:
            if chunk and not code:
                raise AssertionError("the body began before start_response was called (PEP 3333)")
            write(chunk)
        if not code:
            raise AssertionError("start_response was never called (PEP 3333)")
        response = Response(code, reason, fields, _as_said(b"".join(chunks), fields))
    except _CutOff:
        pass
    except Exception:
        log.exception("%s %s: the application failed", method, path)
        response = Problem.APPLICATION_ERROR.response("The application failed.")
    finally:
        _close(iterable, method, path)
    if size > limit:  # also where the application caught what should have ended it
        response = Response(code or 200, reason, fields, b"", Problem.TOO_LARGE)
    return response


@lru_cache(maxsize=256)  # an application has few
def _parsed_status(status: str) -> tuple[int, str, bool]:
    """Code, reason, and whether the code says that there is no body (RFC 9110 §6.4.1)."""
    matched = _STATUS.fullmatch(status)
    if matched is None:
        raise ValueError(f"{status!r} is not a status: three digits, a space, a reason")
    code = int(matched[1])
    return code, matched[2], code < 200 or code in (204, 304)


def _checked_fields(
    headers: list[tuple[str, str]], method: str, path: str
) -> list[tuple[str, str]]:
    """The header lines that can be passed on; the others are logged.

    One promoted `Set-Cookie` with a control character makes gunicorn answer 500 for the whole
    batch, after everything in it ran.
    """
    if not _PAIRS.issuperset(map(type, headers)):
        raise TypeError("a response header is not a tuple")
    # One look at both parts, kept apart by what neither may have; TypeError for what is no str.
    fields = [(name, value) for name, value in headers if _is_field(name + "\n" + value)]
    if len(fields) < len(headers):
        for name, value in headers:
            if (name, value) not in fields:
                log.warning("%s %s: response header not passed on: %r", method, path, (name, value))
    return fields


def _as_said(body: bytes, fields: list[tuple[str, str]]) -> bytes:
    """`body` up to its `Content-Length`: a server sends no more than that (PEP 3333)."""
    for name, value in fields:
        if name.lower() == "content-length" and value.isdecimal() and int(value) < len(body):
            return body[: int(value)]
    return body


def _close(iterable: Iterable[bytes], method: str, path: str) -> None:
    """Close what the application returned; the response is complete, whatever this does to it."""
    close = getattr(iterable, "close", None)
    if close is not None:
        try:
            close()
        except _CutOff:  # it went on writing, even there
            pass
        except Exception:
            log.exception("%s %s: close() of the response failed", method, path)


# --- What is built on it -----------------------------------------------------------------------


def authorized(
    app: WSGIApplication, authorize: Callable[[WSGIEnvironment], None]
) -> WSGIApplication:
    """`app` behind the operator's hook, which sees the very environ that `app` then gets.

    The hook refuses by raising a werkzeug `HTTPException`, which becomes the response. What it
    returns is never taken for an answer: `return False` must not let a request through.
    """

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = environ[MARK].body
        try:
            verdict: object = authorize(environ)  # type: ignore[func-returns-value] # checked below
        except HTTPException as refusal:
            return refusal.get_response(environ)(environ, start_response)
        if verdict is not None:
            raise TypeError(f"authorize returned {verdict!r}; it refuses by an HTTPException")
        environ["wsgi.input"] = BytesIO(body)  # the hook may have read it
        return app(environ, start_response)

    return guarded


def subrequest(
    app: WSGIApplication,
    environ: WSGIEnvironment,
    method: str,
    target: str,
    *,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Response:
    """Make one sub-request from inside a view, on behalf of the request that `environ` is of.

    `app` is the WSGI application to ask (in Flask, `current_app.wsgi_app`); `target` is a path and
    query relative to its mount, `headers` are pairs or a mapping, `body` is bytes. The sub-request
    carries the outer request's authorization, cookies and client identity, runs in a new, empty
    context, and is a whole WSGI request (PEP 3333). Redirects are not followed.

        reply = subrequest(current_app.wsgi_app, request.environ, "GET", "/user/~me")
        name = reply.json()["name"]

    It is code calling code: headers replace those that would be inherited, `Host` and `Cookie`
    too, and the response has no limit. `Content-Length` and `Transfer-Encoding` among the headers
    are left out: the body says how long it is. An exception of the application is logged and is a
    `Response` with status 500.

    Raises `ValueError` for a method, target or header that is not well-formed (RFC 9110 §5.1, §9.1,
    RFC 9112 §3.2.1), and for `CONNECT` and `TRACE`.

    It serves frameworks that keep the request in context variables or on a stack (Flask, Pyramid,
    Falcon, Django outside `atomic` and open cursors), not views of Bottle and CherryPy, which keep
    one request for each thread.
    """
    request = Request(
        checked_method(method), percent_encoded(target), subrequest_headers(headers), body
    )
    return Outer(app, environ, Context()).send(request)
