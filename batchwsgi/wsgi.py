"""PEP 3333, as the server of the wrapped application.

`Gateway` stands between the outer request and its members: it makes a child environ for each and
sends it (`Gateway.send`). `call` is one exchange with the application. `subrequest` is the same for
views. `outer_request` is what other modules may know of the outer request.

Nothing here reads a batch or decides an order.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context
from functools import lru_cache
from io import BytesIO
from math import inf
from sys import maxsize
from time import monotonic
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, unquote

from werkzeug.datastructures import EnvironHeaders
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import get_input_stream

from batchwsgi.errors import shown
from batchwsgi.model import (
    Names,
    OuterRequest,
    Problem,
    Request,
    Response,
    is_token,
    names_of,
    split,
)
from batchwsgi.rules import checked_method, percent_encoded, strings, subrequest_headers

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

_INHERITED = frozenset(
    "SCRIPT_NAME SERVER_NAME SERVER_PORT SERVER_PROTOCOL SERVER_SOFTWARE SERVER_ADDR REMOTE_ADDR "
    "REMOTE_PORT REMOTE_HOST REMOTE_USER AUTH_TYPE HTTPS REQUEST_SCHEME".split()
)
_INHERITED_AS_IS = frozenset(
    "wsgi.version wsgi.url_scheme wsgi.errors wsgi.multithread wsgi.multiprocess wsgi.run_once "
    # The usual request headers, which `is_inherited` would find too, but later.
    "HTTP_ACCEPT HTTP_ACCEPT_LANGUAGE HTTP_AUTHORIZATION HTTP_COOKIE HTTP_HOST HTTP_ORIGIN "
    "HTTP_REFERER HTTP_USER_AGENT HTTP_X_FORWARDED_FOR HTTP_X_FORWARDED_PROTO".split()
)
_RAW_TARGET = ("RAW_URI", "REQUEST_URI")
_OWN: WSGIEnvironment = {
    "SCRIPT_NAME": "",
    "wsgi.input_terminated": True,
    **dict.fromkeys(("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "wsgi.input", MARK)),
}
"""What each child has. The keys that are set later are here, so that a copy need not grow."""

_NOT_INHERITED = frozenset(
    # About the outer request's own body, connection and reply.
    "HTTP_ACCEPT_ENCODING HTTP_CONNECTION HTTP_EXPECT HTTP_HTTP2_SETTINGS HTTP_IDEMPOTENCY_KEY "
    "HTTP_KEEP_ALIVE HTTP_PREFER HTTP_PROXY_AUTHENTICATE HTTP_PROXY_AUTHORIZATION "
    "HTTP_PROXY_CONNECTION HTTP_RANGE HTTP_TE HTTP_TRAILER HTTP_TRAILERS HTTP_TRANSFER_ENCODING "
    "HTTP_UPGRADE "
    # CGI's way to configure a proxy (CVE-2016-5385), and what would re-route a member.
    "HTTP_PROXY HTTP_X_HTTP_METHOD_OVERRIDE HTTP_X_HTTP_METHOD HTTP_X_METHOD_OVERRIDE "
    "HTTP_X_ORIGINAL_URL HTTP_X_REWRITE_URL".split()
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


def checked_environ_keys(keys: object) -> tuple[str, ...]:
    """The option `environ_keys`.

    Raises `ValueError` for a key that is not the operator's to add, and `TypeError` for what is
    not a sequence of strings.
    """
    checked = strings("environ_keys", keys)
    for key in checked:
        if key in _NOT_ADDABLE or key.startswith(_NOT_ADDABLE_PREFIXES):
            raise ValueError(f"environ_keys: {key} is not one that can be added")
    return checked


class Gateway:
    """Sends members to the application, each in a child of the outer request's environ.

    `app` gets the members; `environ` is the outer request's, which stays as it is, and `outer` what
    others know of it; `context` is the one that each member runs in a copy of; `environ_keys` are
    more keys to inherit, `without` are those not to inherit this time; `multithread` tells that
    members may run side by side; `deadline`, on the monotonic clock, is when a response that goes
    on is ended.
    """

    def __init__(
        self,
        app: WSGIApplication,
        environ: WSGIEnvironment,
        outer: OuterRequest,
        context: Context,
        environ_keys: Iterable[str] = (),
        *,
        without: Iterable[str] = (),
        multithread: bool = False,
        deadline: float = inf,
    ) -> None:
        self._app = app
        self._deadline = deadline
        self.outer = outer
        self.context = context
        self._template = _template(environ, environ_keys)
        self._raw_targets = [key for key in _RAW_TARGET if key in environ]
        for key in without:
            self._template.pop(key, None)
        if multithread:
            self._template["wsgi.multithread"] = True

    def send(self, request: Request, limit: int = maxsize, cookie: str | None = None) -> Response:
        """The application's response to `request`; at most `limit` bytes of its body are read.

        `cookie` is the `Cookie` header, where it is not the client's own; empty for none. The
        member runs in its own copy of the context, made now: what earlier code set in it is seen,
        what this member sets is not seen by others.
        """
        environ = self._template.copy()
        method, target, body = request.method, request.target, request.body
        path, query = target, ""
        if "?" in target:
            path, _, query = target.partition("?")
        environ["REQUEST_METHOD"] = method
        environ["PATH_INFO"] = unquote(path, "latin-1") if "%" in path else path
        environ["QUERY_STRING"] = query
        for key in self._raw_targets:
            environ[key] = self.outer.mount + target
        if request.headers:
            environ.update(_header_keys(request.headers))
        if body or method in ("POST", "PUT", "PATCH"):
            environ["CONTENT_LENGTH"] = str(len(body))  # 0 where one is expected (RFC 9110 §8.6)
        if cookie:
            environ["HTTP_COOKIE"] = cookie
        elif cookie is not None:  # none is left of the client's own
            environ.pop("HTTP_COOKIE", None)
        environ["wsgi.input"] = BytesIO(body)
        environ[MARK] = request
        exchange = _Exchange(request, limit, self._deadline)
        return self.context.copy().run(call, self._app, environ, exchange)


def outer_request(environ: WSGIEnvironment) -> OuterRequest:
    """What others may know of the outer request."""
    mount = environ.get("SCRIPT_NAME", "")
    host = environ.get("HTTP_HOST")
    forwarded = environ.get("HTTP_X_FORWARDED_PROTO", "")
    scheme = forwarded.partition(",")[0].strip().lower() if forwarded else ""
    return OuterRequest(
        headers=EnvironHeaders(environ),
        mount=quote(mount, "!$&'()*+,;=:@/", encoding="latin-1") if mount else "",
        host=host or f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}",
        https="https" in (environ.get("wsgi.url_scheme"), scheme),
        accept=environ.get("HTTP_ACCEPT", ""),
        cookie=environ.get("HTTP_COOKIE", ""),
        client=str(environ.get("REMOTE_ADDR") or "-"),  # empty where the server listens on a path
        authenticated=bool(environ.get("AUTH_TYPE") or environ.get("REMOTE_USER")),
    )


def _template(environ: WSGIEnvironment, environ_keys: Iterable[str]) -> WSGIEnvironment:
    """What all children of `environ` share, built once for each batch."""
    template = _OWN.copy()
    for key, value in environ.items():
        if key in _INHERITED_AS_IS:
            template[key] = value
        elif value is None:  # some servers have that for what they do not know
            continue
        elif key in _INHERITED or (key.startswith(("HTTP_", "SSL_")) and is_inherited(key)):
            # werkzeug's server puts an int in REMOTE_PORT
            template[key] = value if isinstance(value, str) else str(value)
    for key in environ_keys:
        if key in environ:
            template[key] = environ[key]
    return template


def is_inherited(key: str) -> bool:
    """Whether members inherit the request header, or variable of mod_ssl, of that environ key."""
    return not (key in _NOT_INHERITED or key.startswith(_NOT_INHERITED_PREFIXES))


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
_is_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch


_PAIRS = (tuple, list)  # PEP 3333 has tuples; servers take lists too


class _CutOff(BaseException):
    """Ends a response that goes on past its limit or the deadline; only `call` catches it.

    Not an `Exception`, which an application's own handlers would swallow.
    """


class _Exchange:
    """One request to the application: the two callables that PEP 3333 gives it, and their state."""

    def __init__(self, request: Request, limit: int, deadline: float) -> None:
        self.request = request
        self.deadline = deadline
        self.begun = False
        """Whether there was a chunk: until then nothing can be ended between two."""
        self.bodiless = False
        """Whether the response has no body: to `HEAD`, or by its status."""
        self.sent = False
        """Whether a server would have sent the headers by now."""
        self.response: Response | None = None
        """None until `start_response` was called; without its body until all of that is there."""
        self.left = limit
        """Bytes that the body may still have."""
        self.cut_off: Problem | None = None
        """Why the response was ended; None if it was not."""
        self.chunks: list[bytes] = []

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], object]:
        if exc_info is not None:
            try:
                if self.sent and exc_info[1]:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # break the reference cycle (PEP 3333)
        elif self.response is not None:
            raise AssertionError("start_response was called again without exc_info (PEP 3333)")
        if not isinstance(headers, list):
            raise TypeError(f"the response headers are {type(headers).__name__}, not list")
        code, reason, bodiless = _parsed_status(status)
        names, values, size = _checked_fields(headers, self.request)
        self.response = response = Response(code, reason)
        response.names, response.values, response.header_size = names, values, size
        self.bodiless = bodiless or self.request.method == "HEAD"
        return self.write

    def write(self, chunk: bytes, /) -> None:
        if not isinstance(chunk, bytes):
            raise TypeError(f"the response body has {type(chunk).__name__}, not bytes")
        if chunk and not self.bodiless:
            self.sent = True
            self.chunks.append(chunk)
            self.left -= len(chunk)
        else:
            self.sent = self.sent or bool(chunk)
            self.left -= 1
        if self.left < 0:
            self._cut_off(Problem.TOO_LARGE)
        if self.begun and monotonic() >= self.deadline:
            self._cut_off(Problem.TIMEOUT)
        self.begun = True

    def _cut_off(self, reason: Problem) -> NoReturn:
        self.cut_off = reason
        raise _CutOff


def call(app: WSGIApplication, environ: WSGIEnvironment, exchange: _Exchange) -> Response:
    """One exchange with `app`, from the call to `close()`, in this thread.

    An `Exception` of the application is logged and is a 500 response. Any other `BaseException`
    (`SystemExit`, `KeyboardInterrupt`, `GeneratorExit`, `gevent.Timeout`) is raised again once the
    application's iterable is closed: workers are stopped that way.

    A body that is longer than its limit, or that goes on after the deadline, is read no further;
    the response comes back without it, and as unfit. A chunk that is not kept (an empty one, or of
    a response that has no body) counts as one byte, so that an endless response of them ends too.
    """
    request = exchange.request
    iterable: Iterable[bytes] = ()
    try:
        iterable = app(environ, exchange.start_response)
        for chunk in iterable:
            if chunk and exchange.response is None:
                raise AssertionError("the body began before start_response was called (PEP 3333)")
            exchange.write(chunk)
        if exchange.response is None:
            raise AssertionError("start_response was never called (PEP 3333)")
        response = exchange.response
        response.body = b"".join(exchange.chunks)
        if response.names.content_lengths and not exchange.bodiless:
            _compare_length(response)
    except _CutOff:
        # It is None if the application called the `write` of another exchange, which raised this.
        exchange.cut_off = exchange.cut_off or Problem.TOO_LARGE
    except Exception:
        log.exception("%s: the application failed", _named(request))
        response = Problem.APPLICATION_ERROR.response("The application failed.")
    finally:
        if type(iterable) is not list:
            _close(iterable, request)
    if exchange.cut_off is not None:  # also where the application caught what should have ended it
        response = _without_body(exchange.response, exchange.cut_off)
    if response.names.offloads:
        response.unfit = Problem.OFFLOADED
    return response


def _without_body(response: Response | None, reason: Problem) -> Response:
    """A response that was cut off, perhaps before there was any.

    Nobody sees the 200: the endpoint writes a response of its own in place of this one.
    """
    response = response or Response(200, "")
    response.body = b""
    response.unfit = reason
    return response


def _compare_length(response: Response) -> None:
    """Hold the body against its `Content-Length`.

    A server sends no more than that (PEP 3333); of less, a client sees that the connection broke.
    """
    size = len(response.body)
    for place in response.names.content_lengths:
        length = response.values[place]
        if length == str(size) or not length.isdecimal():
            continue
        if len(length) > 18 or int(length) > size:
            response.unfit = Problem.INCOMPLETE
        else:
            response.body = response.body[: int(length)]


def _close(iterable: object, request: Request) -> None:
    """Close what the application returned. An exception changes nothing; a write still counts."""
    try:
        close = getattr(iterable, "close", None)
        if close is not None:
            close()
    except _CutOff:  # it went on writing, even there
        pass
    except Exception:
        log.exception("%s: close() of the response failed", _named(request))


def _named(request: Request) -> str:
    """How the log names it: without the query, which may have secrets."""
    return f"{request.method} {request.path}"


@lru_cache(maxsize=256)  # an application has few
def _parsed_status(status: str) -> tuple[int, str, bool]:
    """Code, reason, and whether the code says that there is no body (RFC 9110 §6.4.1)."""
    matched = _STATUS.fullmatch(status)
    if matched is None:
        raise ValueError(f"{status!r} is not a status: three digits, a space, a reason")
    code = int(matched[1])
    return code, matched[2], code < 200 or code in (204, 304)


def _checked_fields(
    headers: list[tuple[str, str]], request: Request
) -> tuple[Names, Sequence[str], int]:
    """The header lines that can be passed on: names, values, and the characters of both.

    The others are logged: one promoted `Set-Cookie` with a control character makes gunicorn answer
    500 for the whole batch, after everything in it ran.
    """
    sent = []
    values = []
    for field in headers:
        if type(field) is not tuple and not isinstance(field, _PAIRS):
            raise TypeError(f"a response header is {type(field).__name__}, not tuple")
        name, value = field
        if type(name) is not str:
            # `names_of` caches by these names for other responses: no str subclass may get into it.
            name = str.__str__(name)
        sent.append(name)
        values.append(value)
    # All at once, in C; line by line only if there is something unusual.
    names = names_of(tuple(sent))
    text = "".join(values)  # TypeError for what is no str
    if names.well_formed and text.isascii() and text.isprintable():
        return names, values, names.size + len(text)
    kept = []
    for name, value in zip(sent, values, strict=True):
        if is_token(name) and _is_value(value):
            kept.append((name, value))
        else:
            log.warning("%s: response header not passed on: %s", _named(request), shown(name))
    return split(kept)


# --- What is built on it -----------------------------------------------------------------------


def authorized(
    app: WSGIApplication, authorize: Callable[[WSGIEnvironment], object]
) -> WSGIApplication:
    """`app` behind the operator's hook, which sees the very environ that `app` then gets.

    The hook refuses by raising a werkzeug `HTTPException`, which becomes the response. What it
    returns is never taken for an answer: `return False` must not let a request through.
    """

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            refusal = _refusal(authorize, environ)
        except Exception:
            log.exception("%s: authorize failed", _named(environ[MARK]))
            return _not_called(start_response)
        return (refusal or app)(environ, start_response)

    return guarded


def _refusal(
    authorize: Callable[[WSGIEnvironment], object], environ: WSGIEnvironment
) -> WSGIApplication | None:
    """What `authorize` refuses the request with; None if it does not. The body stays readable."""
    body = get_input_stream(environ).read()
    environ["wsgi.input"] = BytesIO(body)
    try:
        verdict = authorize(environ)
    except HTTPException as refusal:
        return refusal.get_response(environ)
    if verdict is not None:
        kind = type(verdict).__name__  # its repr may be that of the environ
        raise TypeError(f"authorize returned a {kind}; it refuses by an HTTPException")
    environ["wsgi.input"] = BytesIO(body)
    return None


def _not_called(start_response: StartResponse) -> Iterable[bytes]:
    """Answer where `authorize` failed: it is the application's error, and nothing was executed."""
    response = Problem.APPLICATION_ERROR.response(
        "authorize failed; the application was not called.",
        title="Not executed: the application failed",
    )
    start_response(f"{response.status} {response.reason}", response.fields)
    return [response.body]


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
    return Gateway(app, environ, outer_request(environ), Context()).send(request)
