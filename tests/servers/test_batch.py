"""The same batch under every server: each member is answered as the same request sent alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from ..support import Environ, Reply
from . import apps, client
from .harness import Server

OUTER = {
    "Authorization": "Bearer outer",
    "Cookie": "a=1; b=2",
    "User-Agent": "tests",
    "X-Forwarded-For": "192.0.2.1",
    "X-Tenant": "t1",
}
"""Headers of the batch, and of each request sent alone."""

FORM, JSON, TEXT = "application/x-www-form-urlencoded", "application/json", "text/plain"


class Case(NamedTuple):
    """A member, and the same request sent alone."""

    item: dict[str, Any]
    target: str
    body: bytes | None = None
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def method(self) -> str:
        return str(self.item.get("method", "get")).upper()


CASES = {
    "environ": Case({"uri": "/environ"}, "/environ"),
    "environ-query": Case({"uri": "/environ?x=%2Fa+b&y"}, "/environ?x=%2Fa+b&y"),
    "environ-args": Case(
        {"uri": "/environ?x=1", "args": {"tag": ["a", "b"], "q": "好 &"}},
        "/environ?x=1&tag=a&tag=b&q=%E5%A5%BD+%26",
    ),
    "environ-path": Case({"uri": "/café a%25b/environ"}, "/caf%C3%A9%20a%25b/environ"),
    "environ-own-headers": Case(
        {
            "uri": "/environ",
            "headers": {
                "Accept-Language": "zh",
                "authorization": "Bearer own",
                "Range": "bytes=0-",
            },
        },
        "/environ",
        headers={"Accept-Language": "zh", "Authorization": "Bearer own", "Range": "bytes=0-"},
    ),
    "environ-delete": Case({"method": "DELETE", "uri": "/environ"}, "/environ"),
    "environ-options": Case({"method": "options", "uri": "/environ"}, "/environ"),
    "text": Case({"uri": "/text"}, "/text"),
    "large": Case({"uri": "/large"}, "/large"),
    "binary": Case({"uri": "/binary"}, "/binary"),
    "empty": Case({"uri": "/empty"}, "/empty"),
    "redirect": Case({"uri": "/moved"}, "/moved"),
    "stream": Case({"uri": "/stream"}, "/stream"),
    "not-found": Case({"uri": "/nothing/here"}, "/nothing/here"),
    "head": Case({"method": "head", "uri": "/text"}, "/text"),
    "form": Case(
        {"method": "post", "uri": "/echo?q=1", "args": {"a": 1, "b": ["x y", "é"]}},
        "/echo?q=1",
        b"a=1&b=x+y&b=%C3%A9",
        {"Content-Type": FORM},
    ),
    "json": Case(
        {"method": "post", "uri": "/echo", "body": {"n": [1.5, None], "s": "x"}},
        "/echo",
        b'{"n":[1.5,null],"s":"x"}',
        {"Content-Type": JSON},
    ),
    "put-text": Case(
        {"method": "put", "uri": "/echo", "headers": {"Content-Type": TEXT}, "body": "é\n"},
        "/echo",
        b"\xc3\xa9\n",
        {"Content-Type": TEXT},
    ),
    "put-binary": Case(
        {
            "method": "put",
            "uri": "/echo",
            "headers": {"Content-Type": "image/png"},
            "body": base64.b64encode(apps.PNG).decode(),
        },
        "/echo",
        apps.PNG,
        {"Content-Type": "image/png"},
    ),
    "patch-empty-form": Case(
        {"method": "patch", "uri": "/echo", "args": {}}, "/echo", b"", {"Content-Type": FORM}
    ),
}


@pytest.fixture(scope="session")
def batched(server: Server) -> Reply:
    """The reply to one batch of all cases."""
    return client.batch(server, *(case.item for case in CASES.values()), headers=OUTER)


@pytest.mark.parametrize("name", CASES)
def test_member_is_answered_as_the_request_sent_alone(
    server: Server, batched: Reply, name: str
) -> None:
    case = CASES[name]
    alone = client.ask(server, case.method, case.target, case.body, {**OUTER, **case.headers})
    entry = batched.entries[list(CASES).index(name)]
    assert entry["status_code"] == str(alone.status)
    assert _headers_of(entry) == _headers(alone, entry)
    if name.startswith("environ"):
        _same_environ(entry["body"], alone.json(), case)
    else:
        assert _body(entry, batched) == alone.body


def _headers_of(entry: dict[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in entry["headers"].items()}


def _headers(alone: Reply, entry: dict[str, Any]) -> dict[str, str]:
    """The headers that the application sent; those of one name joined."""
    by_server = {"date", "server", "connection", "transfer-encoding", "keep-alive", "set-cookie"}
    if "Content-Length" not in entry["headers"]:
        by_server.add("content-length")
    return {
        name: ", ".join(alone.headers.getlist(name))
        for name in {name.lower() for name, _ in alone.headers}
        if name not in by_server
    }


def _body(entry: dict[str, Any], batched: Reply) -> bytes:
    match entry.get("encoding"), entry["body"]:
        case None, None:
            return b""
        case None, value:
            body = json.dumps(value).encode()  # as the application writes it
            assert body in batched.body  # and as it was carried
            return body
        case "text", text:
            return str(text).encode()
        case _, encoded:
            return base64.b64decode(encoded)


def _same_environ(member: Environ, alone: Environ, case: Case) -> None:
    """Compare two environs, strings as they are and the rest as None, in what must be the same."""
    own = {"HTTP_" + name.upper().replace("-", "_") for name in case.headers}
    dropped = {"HTTP_CONNECTION", "HTTP_ACCEPT_ENCODING"} - own
    same = {
        *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "RAW_URI", "REQUEST_URI"),
        *("SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE", "SERVER_ADDR"),
        *("REMOTE_ADDR", "REMOTE_HOST", "REMOTE_USER", "AUTH_TYPE", "HTTPS", "REQUEST_SCHEME"),
        *("wsgi.url_scheme",),
    }

    def view(environ: Environ) -> Environ:
        return {
            key: value
            for key, value in environ.items()
            if key in same or (key.startswith("HTTP_") and key not in dropped)
        }

    assert view(member) == view(alone)
    assert ("REMOTE_PORT" in member) == ("REMOTE_PORT" in alone)
    assert isinstance(member.get("REMOTE_PORT", ""), str)
    assert not dropped & member.keys()
    assert not {"CONTENT_LENGTH", "CONTENT_TYPE"} & member.keys()
    assert not {"HOME", "PATH", "PYTHONPATH", "GATEWAY_INTERFACE"} & member.keys()
    foreign = {"wsgi.file_wrapper", "wsgi.early_hints", "gunicorn.socket", "werkzeug.socket"}
    assert not foreign & member.keys()


def test_members_carry_the_outer_requests_identity(server: Server) -> None:
    (entry,) = client.batch(server, "/environ", headers=OUTER).entries
    environ = entry["body"]
    assert environ["HTTP_AUTHORIZATION"] == "Bearer outer"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_TENANT"] == "t1"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["HTTP_HOST"] == f"{server.host}:{server.port}"


def test_uris_are_relative_to_the_mount(server: Server) -> None:
    entry, outside = client.batch(server, "/environ?x=1", "/api/environ").entries
    environ = entry["body"]
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (server.mount, "/environ")
    for key in {"RAW_URI", "REQUEST_URI"} & environ.keys():
        assert environ[key] == f"{server.mount}/environ?x=1"
    assert outside["status_code"] == "404"


def test_a_failing_member_leaves_the_others(server: Server) -> None:
    reply = client.batch(server, "/error", "/text", "/error/midway", "/text")
    assert [entry["status_code"] for entry in reply.entries] == ["500", "200", "500", "200"]
    problem = reply.entries[2]["body"]
    assert problem["type"] == "urn:problem-type:batchwsgi:application-error"
    assert "always fails" not in reply.body.decode()
    assert "RuntimeError: This view always fails midway." in server.output()


def test_cookies_are_promoted_with_the_path_that_a_browser_gives_them(server: Server) -> None:
    reply = client.batch(server, "/account/cookies")
    assert reply.entries[0]["body"] == ""
    assert "Set-Cookie" not in reply.entries[0]["headers"]
    assert reply.headers.getlist("Set-Cookie") == [
        f"plain=1; Path={server.mount}/account",
        "all=2; Path=/; HttpOnly; SameSite=Lax",
    ]


def test_a_chunked_batch(server: Server) -> None:
    document = json.dumps({"requests": [{"uri": "/text"}, {"uri": "/moved"}]}).encode()
    before = client.calls(server)
    with client.Connection(server) as connection:
        connection.send(
            client.head(server, "Content-Type: application/json", "Transfer-Encoding: chunked"),
            client.chunked(document, size=7),
        )
        reply = connection.reply()
    assert reply is not None
    calls = client.calls(server) - before - 1
    if server.kind.takes_chunks:
        assert [entry["status_code"] for entry in reply.entries] == ["200", "302"]
        assert calls == 2
    else:
        assert reply.status == 411
        assert calls == 0


def test_a_batch_that_arrives_in_pieces(server: Server) -> None:
    body = json.dumps({"requests": [{"uri": "/text"}] * 20}).encode()
    body += b" " * 200_000  # more than one read of a socket gives
    with client.Connection(server) as connection:
        connection.send(client.head(server, *client.framed(body)), body[:300])
        assert connection.first(timeout=0.05) == b""
        connection.send(body[300:150_000])
        assert connection.first(timeout=0.05) == b""
        connection.send(body[150_000:])
        reply = connection.reply()
    assert reply is not None
    assert [entry["status_code"] for entry in reply.entries] == ["200"] * 20


def test_two_batches_on_one_connection(server: Server) -> None:
    with client.Connection(server) as connection:
        for number in (1, 2) if server.kind.keeps_alive else (1,):
            body = json.dumps({"requests": [{"uri": f"/environ?{number}"}]}).encode()
            connection.send(client.head(server, *client.framed(body)), body)
            reply = connection.reply()
            assert reply is not None
            assert reply.entries[0]["body"]["QUERY_STRING"] == str(number)
        if not server.kind.keeps_alive:
            assert connection.rest() == b""
            assert connection.ended


def test_a_batch_from_an_http_1_0_client(server: Server) -> None:
    body = b'{"requests": [{"uri": "/text"}]}'
    head = client.head(server, *client.framed(body))
    reply = client.raw(server, head.replace(b"HTTP/1.1", b"HTTP/1.0"), body)
    assert reply.startswith(b"HTTP/1.") and reply[8:13] == b" 200 "
    assert reply.endswith('"body":"Größe – 好\\n","encoding":"text"}]}'.encode())


def test_a_batch_after_100_continue(server: Server) -> None:
    body = b'{"requests": [{"uri": "/text"}]}'
    with client.Connection(server) as connection:
        connection.send(client.head(server, *client.framed(body), "Expect: 100-continue"))
        if server.kind.continues:
            assert connection.first().startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        else:
            assert connection.first(timeout=0.1) == b""
        connection.send(body)
        reply = connection.reply()
    assert reply is not None
    assert reply.entries[0]["status_code"] == "200"


def test_batches_of_many_clients_at_once(server: Server) -> None:
    def query_strings(number: int) -> list[str]:
        reply = client.batch(server, *(f"/environ?{number}-{n}" for n in range(10)))
        return [entry["body"]["QUERY_STRING"] for entry in reply.entries]

    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(query_strings, range(16))):
            assert found == [f"{number}-{n}" for n in range(10)]
