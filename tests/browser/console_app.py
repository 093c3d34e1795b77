"""The application that the tests of the console run on, with every kind of reply.

`X-Answer` among the console's headers asks for an answer that is none of the endpoint's.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

from flask import Flask, Response, jsonify, request

from batchwsgi import BatchMiddleware, Limits

from ..support import App, Environ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c63606060f80f00010401005fe5c34b0000000049454e44ae426082"
)
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30" onload="top.pwned=1">
<script>top.pwned=1;parent.pwned=1</script><rect width="40" height="30" fill="teal"/></svg>"""
EVIL = "<script>top.pwned=1</script><img src=x onerror=top.pwned=1></script></template><b>x</b>"
"""Markup that sets a global where it is taken for markup."""
JSON = '{"n":123456789012345678901234567890,"f":1.10,"e":[],"o":{},"a":[1,{"b":"x\\n\\u00e9"}]}'

flask = Flask(__name__)


@flask.get("/json")
def as_json() -> Response:
    return Response(JSON, mimetype="application/json")


@flask.route("/null", methods=["GET", "HEAD"])
def as_null() -> Response:
    return Response("null", mimetype="application/json")


@flask.get("/text")
def as_text() -> Response:
    return Response("Größe\n  two", mimetype="text/plain")


@flask.get("/latin")
def as_latin() -> Response:
    return Response("Größe".encode("latin-1"), content_type="text/plain; charset=iso-8859-1")


@flask.get("/html")
def as_html() -> Response:
    return Response(EVIL, mimetype="text/html", headers={"X-Evil": EVIL, "Link": "javascript:1"})


@flask.get("/evil.json")
def evil_json() -> Response:
    return jsonify({EVIL: [EVIL, "javascript:top.pwned=1"]})


@flask.get("/svg")
def as_svg() -> Response:
    return Response(SVG, mimetype="image/svg+xml")


@flask.get("/png")
def as_png() -> Response:
    return Response(PIXEL, mimetype="image/png")


@flask.get("/broken.png")
def as_broken_png() -> Response:
    return Response(b"\xff" + b"no picture", mimetype="image/png")


@flask.get("/binary")
def as_binary() -> Response:
    return Response(bytes(range(256)), mimetype="application/octet-stream")


@flask.get("/empty")
def as_empty() -> Response:
    return Response(status=204)


@flask.get("/slow")
def slow() -> Response:
    time.sleep(float(request.args.get("s", "0.1")))
    return jsonify({"slept": request.args.get("s")})


@flask.get("/moved")
def moved() -> Response:
    return Response(status=302, headers={"Location": "/json"})


@flask.get("/error")
def error() -> Response:
    raise RuntimeError("as asked for")


@flask.get("/cookie")
def cookie() -> Response:
    response = jsonify({})
    response.set_cookie("seen", "1")
    return response


@flask.get("/escapes")
def escapes() -> Response:
    return Response('"' + "\\n" * 400_000 + '"', mimetype="application/json")


@flask.get("/large")
def large() -> Response:
    return Response(b"x" * 2**21, mimetype="text/plain")


@flask.get("/big.json")
def big_json() -> Response:
    return Response("[" + "[1,2]," * 4000 + "0]", mimetype="application/json")


@flask.route("/timed")
def timed() -> Response:
    return Response("x", headers={"Server-Timing": "db;dur=5, batchwsgi;start=900.00;dur=900.00"})


@flask.route("/echo", methods=["GET", "POST", "PUT", "DELETE"])
def echo() -> Response:
    return jsonify({"headers": dict(request.headers), "body": request.get_data(as_text=True)})


gates: dict[str, threading.Event] = defaultdict(threading.Event)


@flask.get("/wait/<name>")
def wait(name: str) -> Response:
    gates[name].wait(20)
    return jsonify(name)


@flask.get("/open/<name>")
def open_gate(name: str) -> Response:
    gates[name].set()
    return jsonify(name)


posts: list[str] = []

PROBLEMS = {
    "stopped": "424",
    "dependency-failed": "424",
    "reference": "424",
    "rolled-back": "424",
    "unavailable": "503",
    "deadline": "503",
    "reply-limit": "503",
    "application-error": "500",
    "timeout": "504",
    "offloaded": "502",
    "incomplete": "502",
    "too-large": "502",
}
"""What can become of a member, by its `type`, and its status."""


def entry(uri: str, status: str = "200", body: object = None) -> dict[str, object]:
    """An entry as the endpoint writes it."""
    content_type = {"Content-Type": "application/problem+json"} if body else {}
    return {
        "method": "get",
        "uri": uri,
        "status_code": status,
        "headers": content_type,
        "body": body,
    }


def problems() -> Iterator[dict[str, object]]:
    """An entry with each of them."""
    for name, status in PROBLEMS.items():
        yield entry(f"/{name}", status, {"type": f"urn:problem-type:batchwsgi:{name}"})


def line(index: int, uri: str) -> bytes:
    return json.dumps({"index": index, **entry(uri)}).encode() + b"\n"


JSON_DOCUMENT, LINES = "application/json", "application/x-ndjson"
ANSWERS: dict[str, tuple[str, str, list[bytes]]] = {
    "401": ("401 Unauthorized", "text/html", [EVIL.encode()]),
    "garbage": ("200 OK", JSON_DOCUMENT, [b'{"responses": [{"status_code": 7}, {]}']),
    "no-entry": ("200 OK", LINES, [b'{"index": 0}\n']),
    "cut": ("200 OK", LINES, [line(0, "/json")]),
    # Entries without times, as somebody between may have left them.
    "untimed": (
        "200 OK",
        JSON_DOCUMENT,
        [json.dumps({"responses": [entry("javascript:top.pwned=1")]}).encode()],
    ),
    "problems": ("200 OK", JSON_DOCUMENT, [json.dumps({"responses": [*problems()]}).encode()]),
}
"""Status, type and body of what is answered in the endpoint's place."""
BROKEN = {
    "broken-stream": (LINES, line(0, "/json") + line(1, "/text")[:30]),
    "broken-at-once": (LINES, b""),
    "broken-document": (JSON_DOCUMENT, b'{"responses": ['),
}
"""Type and beginning of replies during which the connection breaks, once the gate is open."""


def breaking(beginning: bytes, gate: str) -> Iterator[bytes]:
    yield beginning
    gates[gate].wait(20)
    raise ConnectionError("as asked for")


def out_of_order(gate: str) -> Iterator[bytes]:
    """Entries of a streamed reply, one in pieces; the second comes when the gate is open."""
    for index in (3, 0, 2, 1):
        if index == 1:
            gates[gate].wait(20)
        whole = line(index, f"/{index}")
        yield whole[:40]
        yield whole[40:]


def answers_otherwise(app: App) -> App:
    """Something in front of the endpoint that answers some batches itself, and counts all."""

    def outer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/posts":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(len(posts)).encode()]
        if environ["REQUEST_METHOD"] == "POST":
            posts.append(environ["PATH_INFO"])
        answer = environ.get("HTTP_X_ANSWER", "")
        if answer in ANSWERS:
            status, content_type, body = ANSWERS[answer]
            start_response(status, [("Content-Type", content_type)])
            return body
        if answer in BROKEN:
            content_type, beginning = BROKEN[answer]
            start_response("200 OK", [("Content-Type", content_type)])
            return breaking(beginning, environ["HTTP_X_GATE"])
        if re.fullmatch("g[0-9]+", answer):  # out of order
            start_response("200 OK", [("Content-Type", LINES)])
            return out_of_order(answer)
        return app(environ, start_response)

    return outer


application = answers_otherwise(
    BatchMiddleware(
        flask.wsgi_app,
        console=True,
        threads=8,
        transaction=nullcontext,
        limits=Limits(max_requests=25, max_member_size=2**20),
    )
)
