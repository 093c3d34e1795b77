"""The application under attack: it takes every request, and writes down that it was called.

Whatever reaches it is answered with 200 and shows what came, so that nothing is refused by luck.
`/good` and the names of `tests.misbehaving` behave as they do there, `/reply/…` are replies that
attack the batch they stand in, and `/stop/…` raise what stops a worker.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from batchwsgi import BatchMiddleware, Limits

from .. import misbehaving
from ..support import Environ

CALLS = "HOSTILE_CALLS"
"""The environment variable with the file to which each call is added, a line for each."""

LIMITS = Limits(max_member_size=100_000)


class Calls:
    """The calls of the application, in whichever process and worker it ran."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def forget(self) -> None:
        self._file.write_bytes(b"")

    def __call__(self) -> list[str]:
        return [json.loads(line) for line in self._file.read_text().splitlines()]


def _called(request: Environ) -> None:
    query = f"?{request['QUERY_STRING']}" if request.get("QUERY_STRING") else ""
    line = json.dumps(f"{request['REQUEST_METHOD']} {request['PATH_INFO']}{query}"[:100])
    with open(os.environ[CALLS], "a") as file:
        file.write(f"{line}\n")


# --- Replies that attack -----------------------------------------------------------------------


class Answer(NamedTuple):
    body: bytes | Iterable[bytes]
    content_type: str = "application/json"
    status: str = "200 OK"
    fields: tuple[tuple[str, str], ...] = ()


TEXT = "text/plain"
FORGED = b'1},{"method":"get","uri":"/forged","status_code":"200","headers":{},"body":1'

REPLIES: dict[str, Answer] = {
    "forged-entry": Answer(FORGED),
    "forged-end": Answer(b'1}]}\n{"responses":[{"status_code":"200"'),
    "forged-after-a-value": Answer(b"1" + FORGED[1:] + b"}"),
    "open-string": Answer(b'"'),
    "truncated": Answer(b'{"a":[1,2'),
    "constants": Answer(b'{"a":[NaN,Infinity,-Infinity]}'),
    "byte-order-mark": Answer(b"\xef\xbb\xbf{}"),
    "not-utf-8": Answer(b'"\xff\xfe"'),
    "utf-8-surrogate": Answer(b'"\xed\xa0\x80"'),
    "utf-16": Answer("[1]".encode("utf-16-le"), "application/json; charset=utf-16le"),
    "two-values": Answer(b"{}\n{}"),
    "comment": Answer(b"[1,/* 2 */3]"),
    "raw-control": Answer(b'"\x00\x1f"'),
    "deep": Answer(b"[" * 40_000 + b"]" * 40_000),
    "deep-enough": Answer(b"[" * 128 + b"]" * 128),
    "long-integer": Answer(b"[" + b"9" * 20_000 + b"]"),
    "escaped-surrogate": Answer(b'"\\ud800"'),
    "charset-rot13": Answer(b"uryyb", "text/plain; charset=rot13"),
    "charset-utf-7": Answer(b"+ADw-script+AD4-", "text/html; charset=utf-7"),
    "charset-surrogates": Answer(b"\x00\xd8", "text/plain; charset=utf-16le"),
    "controls": Answer(bytes(range(32)) + b'\x7f"\\', TEXT),
    "line-separators": Answer("\u2028\u2029</script>".encode(), TEXT),
    "long-type": Answer(b"{}", "application/json; x=" + "y" * 2_000_000),
    "injected-header": Answer(b"x", TEXT, fields=(("X-A", "1\r\nX-Injected: 1"),)),
    "injected-cookie": Answer(
        b"x",
        TEXT,
        fields=(
            *[("Set-Cookie", "a=1\r\nX-Injected: 1"), ("Set-Cookie", "b=\x01")],
            *[("Set-Cookie", "c=€"), ("Set-Cookie", "good=1; Path=/")],
        ),
    ),
    "injected-status": Answer(b"x", TEXT, "200 OK\r\nX-Injected: 1"),
    "injected-type": Answer(b"{}", "application/json\r\nX-Injected: 1"),
    "framing": Answer(
        b"x",
        TEXT,
        fields=(
            *[("Content-Length", "1000"), ("Transfer-Encoding", "chunked"), ("Upgrade", "h2c")],
            *[("Connection", "close"), ("Keep-Alive", "timeout=0"), ("Trailer", "X-Injected")],
        ),
    ),
    "switching": Answer(b"x", TEXT, "101 Switching Protocols", (("Upgrade", "h2c"),)),
    "many-headers": Answer(b"x", TEXT, fields=tuple(("X-A", str(n)) for n in range(5000))),
    "huge": Answer(b"x" * 50_000_000, TEXT),
    "huge-json": Answer(b"[" + b"1," * 10_000_000 + b"1]"),
    "huge-once-encoded": Answer(b"\x01" * 300_000, TEXT),
    "huge-as-base64": Answer(b"\xff" * 900_000, "image/png"),
    "nearly-huge": Answer(b"x" * 90_000, TEXT),
    "endless": Answer(repeat(b"x" * 1000), TEXT),
    "endless-of-nothing": Answer(repeat(b""), TEXT),
}


def _reply(answer: Answer, start_response: Any) -> Iterable[bytes]:
    start_response(answer.status, [("Content-Type", answer.content_type), *answer.fields])
    return [answer.body] if isinstance(answer.body, bytes) else answer.body


# --- What stops a worker -----------------------------------------------------------------------


def _gevent_timeout() -> BaseException:
    import gevent

    try:
        with gevent.Timeout(0.01):
            gevent.sleep(10)
    except gevent.Timeout as expired:
        return expired
    raise AssertionError("it did not expire")


STOPS: dict[str, Callable[[], BaseException]] = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "gevent.Timeout": _gevent_timeout,
}


# --- The application ---------------------------------------------------------------------------


def app(request: Environ, start_response: Any) -> Any:
    """The application; see the module."""
    _called(request)
    kind, _, name = request["PATH_INFO"].removeprefix("/").partition("/")
    if kind == "reply":
        return _reply(REPLIES[name], start_response)
    if kind == "stop":
        raise STOPS[name]()
    if kind == "good" or kind in misbehaving.CASES:
        misbehaving.BODIES.clear()
        return misbehaving.application(request, start_response)
    seen = {key: value for key, value in request.items() if isinstance(value, str)}
    if "batchwsgi.request" in request:
        seen["body"] = request["wsgi.input"].read().decode("latin-1")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]


application = BatchMiddleware(app, limits=LIMITS)
