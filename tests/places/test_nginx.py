"""The recipe for nginx: what it compresses, when a line of a stream arrives, who the client is.

What members send compressed is not compressed in a batch: they are not asked for it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from flask import Flask
from paste.gzipper import middleware as Gzipper

from batchwsgi import BatchMiddleware

from ..faults.nginx import BINARY, CONFIGURATION, Proxy, proxy_to
from ..faults.record import Record, until
from ..servers import client
from ..servers.harness import HOST, start
from ..support import ask, batch, echo, environ
from .served import records

RECIPE = Path(__file__).with_name("recipe_nginx.conf").read_text()
UPSTREAM = "127.0.0.1:8000"
ACCEPTED = {"Accept-Encoding": "gzip"}

needs_nginx = pytest.mark.skipif(
    BINARY is None, reason="nginx is not installed (Debian: apt-get install nginx-light)"
)


def configuration(recipe: str) -> str:
    """All of nginx's configuration, with the recipe for its server."""
    assert UPSTREAM in recipe
    inside = recipe.replace("{", "{{").replace("}", "}}").replace(UPSTREAM, "{upstream}")
    head, _, _ = CONFIGURATION.partition("    limit_req_zone")
    return f"{head}server {{{{ listen {{listen}};\n{inside} }}}} }}}}\n"


OTHERWISE = RECIPE.replace("proxy_buffering off;", "proxy_buffering on;").replace(
    "gzip_types *;", "gzip_types application/json application/x-ndjson multipart/mixed;"
)
"""What the recipe warns of."""


class Behind(NamedTuple):
    """nginx in front of gunicorn, and the record of what the application did."""

    proxy: Proxy
    record: Record
    as_in_the_recipe: bool


@pytest.fixture(scope="module", params=[RECIPE, OTHERWISE], ids=["recipe", "otherwise"])
def behind(request, tmp_path_factory) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("nginx")
    record = Record(folder / "record")
    app = "tests.places.served:application"
    with (
        start("gunicorn_gthread", app, RECORD=str(record.path)) as upstream,
        proxy_to(upstream, folder, configuration(request.param)) as proxy,
    ):
        yield Behind(proxy, record, request.param == RECIPE)


@pytest.fixture
def proxy(behind) -> Proxy:
    return behind.proxy


# --- What is compressed ------------------------------------------------------------------------


@needs_nginx
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "multipart/mixed"])
def test_each_form_of_a_reply_is_compressed(behind, accept):
    proxy = behind.proxy
    document = {"requests": [{"uri": "/records/4/1"}, {"uri": "/records/4/2"}]}
    body, sent_as = json.dumps(document).encode(), {"Content-Type": "application/json"}
    if accept == "multipart/mixed":
        lines = [
            f"--b\r\nContent-Type: application/http\r\n\r\nGET /records/4/{n}\r\n\r\n"
            for n in (1, 2)
        ]
        body = "".join([*lines, "--b--"]).encode()
        sent_as = {"Content-Type": "multipart/mixed; boundary=b"}
    headers = {"Accept": accept, **sent_as}
    packed = client.ask(proxy, "POST", "/batch", body, {**headers, **ACCEPTED})
    plain = client.ask(proxy, "POST", "/batch", body, headers)
    assert packed.headers["Content-Type"].partition(";")[0] == accept
    assert "Content-Encoding" not in plain.headers
    if accept == "multipart/mixed" and not behind.as_in_the_recipe:
        assert "Content-Encoding" not in packed.headers
        return
    assert packed.headers["Content-Encoding"] == "gzip"
    for reply in (packed, plain):
        assert reply.headers["Vary"] == "Accept-Encoding"
    read = gzip.decompress(packed.body)
    for n in (1, 2):
        written = json.dumps(records(4, n)).encode()
        assert written in plain.body
        assert written in read


def sizes(proxy: Proxy, count: int) -> list[int]:
    """Bytes of twelve replies: each compressed alone, as a batch compressed, and not."""
    uris = [f"/records/{count}/{number}" for number in range(12)]
    alone = [client.ask(proxy, "GET", uri, headers=ACCEPTED).body for uri in uris]
    packed, plain = (client.batch(proxy, *uris, headers=headers).body for headers in (ACCEPTED, {}))
    assert gzip.decompress(packed) == plain
    for body, entry in zip(alone, json.loads(plain)["responses"], strict=True):
        assert json.loads(gzip.decompress(body)) == entry["body"]
    return [sum(map(len, alone)), len(packed), len(plain)]


@needs_nginx
@pytest.mark.parametrize("count", [1, 4, 23])
def test_a_batch_is_smaller_compressed_and_larger_without(proxy, count):
    alone, packed, plain = sizes(proxy, count)
    assert packed < 0.9 * alone
    assert plain > 1.5 * alone


# --- A stream ----------------------------------------------------------------------------------


@needs_nginx
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_lines_of_a_stream(behind, encoding):
    """The first line comes while the second member still waits, only where nothing is buffered."""
    proxy, record = behind.proxy, behind.record
    document = {"requests": [{"uri": "/records/1/1"}, {"uri": f"/wait/{encoding}"}]}
    body = json.dumps(document).encode()
    fields = [f"Accept-Encoding: {encoding}", "Accept: application/x-ndjson", "Connection: close"]
    line = json.dumps(records(1, 1)).encode()
    with client.Connection(proxy) as connection:
        connection.send(client.head(proxy, *fields, *client.framed(body)), body)
        record.wait_for("started", encoding)
        if behind.as_in_the_recipe:
            before = until(lambda: _lines(connection.first()))
            assert line in before
            assert b'"ran"' not in before
        else:
            assert connection.first(timeout=0.5) == b""
        record.gate(encoding).touch()
        assert line in _lines(connection.rest())


def _lines(reply: bytes) -> bytes:
    """The lines in what came so far of a chunked reply, which may be compressed."""
    head, _, chunks = reply.partition(b"\r\n\r\n")
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        body += chunks[: int(size, 16)]
        chunks = chunks[int(size, 16) + 2 :]
    return zlib.decompressobj(31).decompress(body) if b"Content-Encoding" in head else body


# --- Who the client is -------------------------------------------------------------------------


@needs_nginx
def test_members_see_the_client_and_the_host(proxy):
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    (entry,) = client.batch(proxy, "/seen", headers=headers).entries
    assert entry["body"] == [HOST, f"{HOST}:{proxy.port}", "http"]


# --- Compression inside, and in Python ---------------------------------------------------------


def test_compression_inside_never_sees_the_reply():
    """Members have no `Accept-Encoding`: what they answer has to fit into the reply."""
    app = BatchMiddleware(Gzipper(echo))
    reply = batch(app, "/", headers=ACCEPTED)
    assert "Content-Encoding" not in reply.headers
    assert "HTTP_ACCEPT_ENCODING" not in reply.entries[0]["body"]
    alone = ask(app, environ(headers=ACCEPTED))
    assert alone.headers["Content-Encoding"] == "gzip"


def test_compression_in_python_holds_a_stream_back():
    app = Flask(__name__)
    ran = []
    app.get("/<int:n>")(lambda n: ran.append(n) or {})
    app.wsgi_app = Gzipper(BatchMiddleware(app.wsgi_app))
    body = b'{"requests": [{"uri": "/1"}, {"uri": "/2"}]}'
    headers = {"Accept": "application/x-ndjson", "Content-Type": "application/json", **ACCEPTED}
    iterable = app(environ("POST", "/batch", body, headers), lambda *given: None)
    assert ran == [1, 2], "all ran before there is a first byte"
    (whole,) = iterable
    assert zlib.decompress(whole, wbits=31).count(b"\n") == 2
