"""What the tests of the console use: an application with every kind of reply, and a browser.

The applications are served by real servers, which import them from here.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask, Response, jsonify, request

import batchwsgi.browser
from batchwsgi import BatchMiddleware, Limits

from ..support import App, Environ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from selenium.webdriver import Chrome

CHROMIUM, CHROMEDRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
MISSING = [path for path in (CHROMIUM, CHROMEDRIVER) if not os.path.exists(path)]

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


@flask.get("/big.json")
def big_json() -> Response:
    return Response("[" + "[1,2]," * 60_000 + "0]", mimetype="application/json")


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


def out_of_order(gate: str) -> Iterator[bytes]:
    """Entries of a streamed reply, one in pieces; the second comes when the gate is open."""
    for index in (3, 0, 2, 1):
        if index == 1:
            gates[gate].wait(20)
        line = b'{"index":%d,"method":"get","uri":"/%d","status_code":"200","headers":{},' % (
            index,
            index,
        )
        yield line
        yield b'"body":null}\n'


def answers_otherwise(app: App) -> App:
    """Something in front of the endpoint that answers some batches itself, and counts all."""

    def outer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/posts":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(len(posts)).encode()]
        if environ["REQUEST_METHOD"] == "POST":
            posts.append(environ["PATH_INFO"])
        answer = environ.get("HTTP_X_ANSWER", "")
        if answer == "401":
            start_response("401 Unauthorized", [("Content-Type", "text/html")])
            return [EVIL.encode()]
        if answer == "garbage":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [b'{"responses": [{"status_code": 7}, {]}']
        if answer == "no-entry":
            start_response("200 OK", [("Content-Type", "application/x-ndjson")])
            return [b'{"index": 0}\n']
        if answer == "cut":
            start_response("200 OK", [("Content-Type", "application/x-ndjson")])
            return [
                b'{"index":0,"method":"get","uri":"/json","status_code":"200","headers":{},'
                b'"body":null}\n'
            ]
        if re.fullmatch("g[0-9]+", answer):  # out of order
            start_response("200 OK", [("Content-Type", "application/x-ndjson")])
            return out_of_order(answer)
        if answer == "proxied":  # entries without times
            start_response("200 OK", [("Content-Type", "application/json")])
            return [
                b'{"responses":[{"method":"get","uri":"javascript:top.pwned=1",'
                b'"status_code":"200","headers":{},"body":null}]}'
            ]
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


@contextmanager
def browser(*, dark: bool = False, width: int = 1280, height: int = 900) -> Iterator[Chrome]:
    """A Chromium of its own, without a window; ended and its profile removed in any case."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    profile = tempfile.mkdtemp(prefix="batchwsgi-chromium-")
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (
        "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-dev-shm-usage "
        "disable-background-networking disable-component-update disable-sync"
    ).split():
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = None
    try:
        driver = Chrome(options=options, service=Service(CHROMEDRIVER))
        driver.set_page_load_timeout(20)
        driver.set_script_timeout(20)
        scheme = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield driver
    finally:
        if driver is not None:
            driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


PAGE = Path(batchwsgi.browser.__file__).with_name("console.html")
