"""The application that the tests of `batching` run on, with all kinds of replies.

`/reply` answers what its query says, `/echo` what it was asked, `/log` what arrived so far. `/wait`
answers when `/end` has been asked for. What `/fake/…` says is no batch endpoint, but a module is
served there that takes it for one.
"""

from __future__ import annotations

import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from batchwsgi import BatchMiddleware, Limits
from batchwsgi.browser import Pages

Answer = tuple[int, list[tuple[str, str]], bytes]
Environ = dict[str, Any]

LOG: list[dict[str, str]] = []
"""What arrived, at the server and at the application."""
RUNNING: set[object] = set()
"""One object for each request that the server has not answered yet."""
OPEN = threading.Event()
"""What `/wait` waits for."""

HTML, JSON, PROBLEM = "text/html; charset=utf-8", "application/json", "application/problem+json"
STRICT = "default-src 'none'; script-src 'self'; connect-src 'self'"
"""A Content-Security-Policy under which a page can load the module, and send."""


def _lost(status: str, name: str) -> bytes:
    """A reply to three requests: none of their own replies can be had."""
    problem = {"type": f"urn:problem-type:batchwsgi:{name}", "title": "It was executed"}
    entry = {"status_code": status, "headers": {"Content-Type": PROBLEM}, "body": problem}
    return json.dumps({"responses": [entry] * 3}).encode()


FAKES = {
    "html": (200, HTML, b"<p>Please log in.</p>"),
    "short": (200, JSON, b'{"responses":[]}'),
    "null": (200, JSON, b"null"),
    "nonsense": (200, JSON, b'{"responses":[{"status_code":"x","headers":{},"body":null},1,2]}'),
    "timeout": (200, JSON, _lost("504", "timeout")),
    "offloaded": (200, JSON, _lost("502", "offloaded")),
    "too-large": (200, JSON, _lost("502", "too-large")),
    "refused": (
        400,
        PROBLEM,
        b'{"title":"Bad Request","detail":"The batch has 1 fault. Nothing was executed."}',
    ),
    "odd-problem": (404, PROBLEM, b'{"detail": 1, "errors": {"a": [null]}}'),
    "no-problem": (404, PROBLEM, b'{"detail'),
    "bad": (400, HTML, b"Bad."),
    **{str(status): (status, HTML, b"No.") for status in (401, 404, 405, 411, 413, 415, 502)},
}
"""What is answered to a batch that is posted to `/fake/…`: status, type and body."""


FRAME = b"""<!doctype html><script type="module">
import { batching } from "./batch.js";
const batch = batching();
const replies = await Promise.all(["0", "1"].map((path) => batch(path)));
parent.postMessage(replies.map(({ status }) => status), "*");
</script>"""
"""A page that tells the one around it the statuses of two calls."""


def _page(environ: Environ) -> Answer:
    kind = environ["QUERY_STRING"]
    strict = [("Content-Security-Policy", STRICT)] * (kind == "strict")
    page = FRAME if kind == "frame" else b"<!doctype html><title>Tests</title>"
    return 200, [("Content-Type", HTML), *strict], page


def _reply(environ: Environ) -> Answer:
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    fields = [tuple(line.split(": ", 1)) for line in query.get("h", [])]
    return int(query["status"][0]), fields, b64decode(query.get("body", [""])[0])


def _echo(environ: Environ) -> Answer:
    names = sorted(name for name in environ if name.startswith(("HTTP_X_", "HTTP_ACC", "CONTENT_")))
    told = {
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "query": environ["QUERY_STRING"],
        "authorization": environ.get("HTTP_AUTHORIZATION"),
        "cookie": environ.get("HTTP_COOKIE"),
        "body": b64encode(_body(environ)).decode(),
        **{name: environ[name] for name in names if name != "HTTP_ACCEPT_ENCODING"},
    }
    allowed = [
        ("Access-Control-Allow-Origin", environ.get("HTTP_ORIGIN", "*")),
        ("Access-Control-Allow-Headers", "X-Requested-With, Authorization, Content-Type"),
    ]
    return 200, [("Content-Type", JSON), *allowed], json.dumps(told).encode()


def _wait(environ: Environ) -> Answer:
    OPEN.wait(30)
    return 200, [("Content-Type", JSON)], b"true"


def _end(environ: Environ) -> Answer:
    OPEN.set()
    running = len(RUNNING) - 1  # without this one
    if not running:
        OPEN.clear()
    return 200, [("Content-Type", JSON)], json.dumps({"running": running}).encode()


def _loop(environ: Environ) -> Answer:
    return 302, [("Location", "loop")], b""


def _log(environ: Environ) -> Answer:
    seen = [*LOG]
    if environ["QUERY_STRING"] == "clear":
        LOG.clear()
    return 200, [("Content-Type", JSON), ("Cache-Control", "no-store")], json.dumps(seen).encode()


def _fake(environ: Environ) -> Answer:
    path = environ["PATH_INFO"]
    module = Pages(path.removesuffix(".js"), console=False).answer(environ)
    if module is not None:
        return 200, [("Content-Type", "text/javascript")], module.body[0]
    name = path.rpartition("/")[2]
    if name == "broken":  # in the middle of the reply
        return 200, [("Content-Type", JSON), ("Content-Length", "1000")], b'{"responses":['
    status, content_type, body = FAKES[name]
    return status, [("Content-Type", content_type)], body


ROUTES: dict[str, Callable[[Environ], Answer]] = {
    "/page": _page,
    "/reply": _reply,
    "/echo": _echo,
    "/wait": _wait,
    "/end": _end,
    "/loop": _loop,
    "/log": _log,
}


def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """The application itself."""
    path = environ["PATH_INFO"]
    answer = _fake if path.startswith("/fake/") else ROUTES.get(path, _echo)
    status, fields, body = answer(environ)
    phrase = HTTPStatus(status).phrase if status in [*HTTPStatus] else "Unknown"
    if status not in (204, 304) and not any(name == "Content-Length" for name, _ in fields):
        fields = [*fields, ("Content-Length", str(len(body)))]
    start_response(f"{status} {phrase}", fields)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def _body(environ: Environ) -> bytes:
    return bytes(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))


def logged(app: Any, side: str) -> Any:
    """`app`, which has what it is asked put into `LOG`."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path not in ("/log", "/end", "/page", "/favicon.ico") and not path.endswith(".js"):
            told = {"side": side, "method": environ["REQUEST_METHOD"], "path": path}
            told["accept"] = environ.get("HTTP_ACCEPT", "")
            LOG.append({**told, "query": environ["QUERY_STRING"]})
        return app(environ, start_response)  # type: ignore[no-any-return]

    return application


def counted(app: Any) -> Any:
    """`app`, whose requests are in `RUNNING` as long as they run; modules are for any origin."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        def start(status: str, fields: list[tuple[str, str]], *error: Any) -> Any:
            if environ["PATH_INFO"].endswith(".js"):
                fields = [*fields, ("Access-Control-Allow-Origin", "*")]
            return start_response(status, fields, *error)

        request = object()
        RUNNING.add(request)
        try:
            return [*app(environ, start)]
        finally:
            RUNNING.remove(request)

    return application


def _endpoints(app: Any) -> Any:
    app = BatchMiddleware(app, client=True)
    app = BatchMiddleware(app, "/few", client=True, limits=Limits(max_requests=1))
    app = BatchMiddleware(app, "/late", client=True, limits=Limits(deadline=0))
    app = BatchMiddleware(app, "/tight", client=True, limits=Limits(max_member_size=600))
    app = BatchMiddleware(app, "/little", client=True, limits=Limits(max_reply_size=2000))
    return BatchMiddleware(app, "/a/b é", client=True)


application = counted(logged(_endpoints(logged(site, "application")), "server"))
