"""The application of the soak: Flask, and every answer says who asked for what.

A path has the token of its request. The answer repeats it in a header and in the body, beside all
else by which one request can be told from another: the user of `Authorization`, the trace of
`X-Request-Id`, the name in the session's cookie, the query, the digest of the body. Writes are put
into the ledger of the worker. The environment variable `SOAK_FOLDER` names the folder of the
ledgers; `SOAK_FAULT` breaks the application on purpose (see `faults`).
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request, session, stream_with_context
from werkzeug.exceptions import Forbidden

from batchwsgi import BatchMiddleware, Limits
from batchwsgi.dialects import HTTPMultipart, Native, ODataJSON, ODataMultipart

from ..support import App, Environ
from . import faults
from .items import blob, prose
from .ledger import POISON, Expected, Ledger, unavailable

LIMITS = Limits(
    max_member_size=64 * 1024, max_reply_size=256 * 1024, max_body_size=256 * 1024, deadline=10
)
SHORT = Limits(deadline=0.25)

app = Flask(__name__)
app.secret_key = "the same in every worker"
app.config["PROPAGATE_EXCEPTIONS"] = True

responses: Counter[str] = Counter()
"""Iterables that were returned to the server or the middleware, and those that were closed."""
ledger = Ledger(Path(os.environ["SOAK_FOLDER"], f"ledger-{os.getpid()}-{time.time_ns()}"))
"""That of this worker: each imports this module for itself, once gevent has patched it."""
counting = threading.Lock()
"""Held while `responses` is changed."""


# --- Who asks for what ------------------------------------------------------------------------


@app.before_request
def note_what_was_sent() -> None:
    g.token = (request.view_args or {}).get("token", "")
    g.digest = hashlib.sha256(request.get_data()).hexdigest()
    faults.in_request()


@app.after_request
def name_the_token(response: Response) -> Response:
    response.headers["X-Token"] = faults.named(g.get("token", ""))
    return response


def identity(**more: Any) -> dict[str, Any]:
    """What this request is told from all others by, and what it was asked."""
    authorization = request.authorization
    return {
        "token": g.token,
        "user": authorization.token if authorization else None,
        "trace": request.headers.get("X-Request-Id"),
        "session": session.get("name"),
        "query": request.args.to_dict(flat=False),
        "digest": g.digest,
        "pid": os.getpid(),
        **more,
    }


def done(token: str) -> None:
    for _ in range(faults.times()):
        ledger.add(token)


# --- What reads -------------------------------------------------------------------------------


@app.get("/echo/<token>")
def echo(token: str) -> dict[str, Any]:
    return identity()


@app.get("/slow/<token>/<int:milliseconds>")
def slow(token: str, milliseconds: int) -> dict[str, Any]:
    """What is in the request's context has to be the same after a wait."""
    before = identity()
    time.sleep(milliseconds / 1000)
    return {**identity(), "same": identity() == before, "path": request.path}


@app.get("/prose/<token>")
def text(token: str) -> Response:
    return Response(prose(token), mimetype="text/plain")


@app.get("/blob/<token>/<int:size>")
def binary(token: str, size: int) -> Response:
    return Response(blob(token, size), mimetype="application/octet-stream")


@app.get("/nothing/<token>")
def nothing(token: str) -> Response:
    return Response(status=204)


@app.get("/moved/<token>")
def moved(token: str) -> Response:
    return Response(status=302, headers={"Location": f"/echo/{token}"})


@app.route("/lines/<token>/<int:count>/<int:milliseconds>", methods=["GET", "POST"])
def many(token: str, count: int, milliseconds: int) -> Response:
    """A response in many pieces; with POST it is a write, too."""
    if request.method == "POST":
        done(token)

    def pieces() -> Iterator[bytes]:
        for number in range(count):
            time.sleep(milliseconds / 1000)
            yield b"%b %d\n" % (g.token.encode(), number)

    return Response(stream_with_context(pieces()), mimetype="text/plain")


@app.get("/things/<token>")
def thing(token: str) -> tuple[dict[str, Any], int]:
    return identity(), 200 if ledger.has(token) else 404


# --- What writes ------------------------------------------------------------------------------


@app.post("/make/<token>")
def make(token: str) -> tuple[dict[str, Any], int, dict[str, str]]:
    done(token)
    return identity(json=request.get_json()), 201, {"Location": f"/things/{token}"}


@app.post("/form/<token>")
def form(token: str) -> dict[str, Any]:
    done(token)
    return identity(form=request.form.to_dict(flat=False))


@app.put("/files/<token>")
def upload(token: str) -> dict[str, Any]:
    done(token)
    return identity(length=request.content_length)


@app.delete("/things/<token>")
def delete(token: str) -> Response:
    done(token)
    return Response(status=204)


@app.post("/poison/<token>")
def poison(token: str) -> dict[str, Any]:
    """Written inside a transaction, it cannot be committed."""
    done(f"{POISON}.{token}")
    return identity()


@app.post("/login/<token>")
def login(token: str) -> tuple[dict[str, Any], int, dict[str, str]]:
    answer = identity()
    session["name"] = token
    return answer, 200, {"Set-Cookie": f"last={token}; Path=/"}


@app.post("/logout/<token>")
def logout(token: str) -> dict[str, Any]:
    answer = identity()
    session.clear()
    return answer


# --- What fails -------------------------------------------------------------------------------


@app.route("/fail/<token>/<int:status>", methods=["GET", "POST"])
def fail(token: str, status: int) -> tuple[dict[str, Any], int]:
    """With POST it is a write, too: what is answered does not change what was done."""
    if request.method == "POST":
        done(token)
    return identity(), status


@app.route("/raise/<token>", methods=["GET", "POST"])
def raises(token: str) -> Response:
    if request.method == "POST":
        done(token)
    raise Expected(token)


@app.get("/break/<token>")
def breaks(token: str) -> Response:
    def pieces() -> Iterator[bytes]:
        yield b"so far so good\n"
        raise Expected(token)

    return Response(pieces(), mimetype="text/plain")


@app.get("/short/<token>")
def short(token: str) -> Response:
    """Less than its length says."""
    headers = {"Content-Length": "100"}
    return Response(iter([b"too short"]), headers=headers, mimetype="text/plain")


@app.get("/sent/<token>")
def sent_by_the_server(token: str) -> Response:
    return Response(headers={"X-Sendfile": "/etc/passwd"})


@app.get("/count")
def count() -> dict[str, int]:
    """What was begun and what was ended, this request aside."""
    transactions = {"begun": ledger.begun, "ended": ledger.ended}
    return {"opened": responses["opened"], "closed": responses["closed"], **transactions}


# --- The whole --------------------------------------------------------------------------------


class Counted:
    """What an application returns, counted when it is closed."""

    def __init__(self, iterable: Iterable[bytes]) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._iterable)

    def close(self) -> None:
        with counting:
            responses["closed"] += not faults.occurs("open", 20)
        getattr(self._iterable, "close", lambda: None)()


def counted(inner: App) -> App:
    """`inner`, with what it returns counted."""

    def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        reply = inner(environ, start_response)
        with counting:
            responses["opened"] += 1
        return Counted(reply)

    return application


def authorize(environ: Environ) -> None:
    if environ["PATH_INFO"].startswith("/forbidden/"):
        raise Forbidden


def with_unavailability(inner: App) -> App:
    """`inner`, whose transactions cannot be entered where a batch asks for that."""

    def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        unavailable.set("HTTP_X_UNAVAILABLE" in environ)
        return inner(environ, start_response)

    return application


def wrapped(inner: App) -> App:
    """`inner` with three endpoints: all dialects, and one with a deadline that is soon over."""
    inner = BatchMiddleware(inner, "/short", limits=SHORT)
    inner = BatchMiddleware(
        inner,
        "/$batch",
        dialects=(ODataJSON(), ODataMultipart()),
        limits=LIMITS,
        transaction=ledger.transaction,
        timing=True,
        authorize=authorize,
    )
    return BatchMiddleware(
        inner,
        "/batch",
        dialects=(Native(), HTTPMultipart()),
        limits=LIMITS,
        transaction=ledger.transaction,
        threads=4,
        timing=True,
    )


class Unexpected(logging.Handler):
    """Writes down what the soak has not asked for; all else is made and dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        raised = record.exc_info[1] if record.exc_info else None
        if record.levelno >= logging.WARNING and not isinstance(raised, Expected):
            with Path(os.environ["SOAK_FOLDER"], "unexpected").open("a") as file:
                file.write(f"{record.name}: {text}\n\n")


logging.basicConfig(level=logging.INFO, handlers=[Unexpected()])
application = with_unavailability(wrapped(counted(app)))
